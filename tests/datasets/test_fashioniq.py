"""FashionIQ's layout, on small folders and on the real annotation files where they are at hand."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rau.datasets import fashioniq
from rau.datasets.locate import Located
from rau.errors import UserError
from rau.schemas import GALLERIES, IMAGES, QUERIES, RELEVANCE
from tests.manifests import built
from tests.places import SHARED, needs

REAL = SHARED / "fashioniq"
CATEGORIES = ("dress", "shirt", "toptee")


def write_layout(
    root: Path, entries: list[dict[str, Any]], ids: list[str], name: str = "dress.val"
) -> Path:
    for place, value in ((f"captions/cap.{name}", entries), (f"image_splits/split.{name}", ids)):
        path = root / f"{place}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value))
    return root


ENTRY = {"candidate": "A", "target": "B", "captions": ["is red", "longer"]}
TRUTH = {"category": "dress", "split": "val", "query_index": 0, "candidate": "A", "target": "B"}


def write_truth(root: Path, **changed: Any) -> None:
    """The relevance of the layout's one query, with some values replaced."""
    table = pa.Table.from_pylist([TRUTH | {"relevant": ["B"]} | changed], schema=RELEVANCE)
    pq.write_table(table, root / "relevance.parquet")


def test_tables_of_a_small_folder(tmp_path: Path) -> None:
    write_layout(tmp_path, [ENTRY], ["C", "B", "A", "B"])
    rows = [{"category": "dress", "query_index": 0, "candidate": "A", "target": "B"}]
    relevance = pa.Table.from_pylist([rows[0] | {"relevant": ["B", "C"]}])
    pq.write_table(relevance, tmp_path / "relevance.parquet")
    annotations = fashioniq.read_annotations(tmp_path)
    places = {image_id: annotations.places(image_id) for image_id in ("C", "B", "A")}
    images = built(tmp_path, Located(tmp_path, places, places.__getitem__), {}, 1)
    tables = annotations.tables(images)
    query = tables["queries"].to_pylist()[0]
    assert query["query_id"] == "dress-val-0"
    assert (query["reference_id"], query["target_id"]) == ("A", "B")
    assert query["relevant"] == ["B", "C"]
    galleries = tables["galleries"].to_pylist()
    assert [r["image_id"] for r in galleries if r["gallery"] == "original"] == ["A", "B", "C"]
    assert [r["image_id"] for r in galleries if r["gallery"] == "val-union"] == ["A", "B"]
    assert set(tables["images"]["status"].to_pylist()) == {"missing"}
    for name, schema in (("images", IMAGES), ("queries", QUERIES), ("galleries", GALLERIES)):
        assert tables[name].schema == schema


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"candidate": "A", "captions": ["x", "y"]}, "no key 'target'"),
        ({"target": "A", "captions": ["x", "y"]}, "no key 'candidate'"),
        ({"candidate": "A", "target": "B"}, "no key 'captions'"),
        ({"candidate": "A", "target": "Z", "captions": ["x"]}, "'Z' is not in its split file"),
        ({"candidate": "A", "target": "B", "captions": "x"}, "not a list of 1 to 100 strings"),
        ({"candidate": "A", "target": "B", "captions": []}, "not a list of 1 to 100 strings"),
        ({"candidate": 3, "target": "B", "captions": ["x"]}, "'candidate' is not a string"),
        ("text", "not an object"),
    ],
)
def test_bad_rows_name_file_and_row(tmp_path: Path, entry: Any, message: str) -> None:
    write_layout(tmp_path, [ENTRY, entry], ["A", "B"])
    with pytest.raises(UserError, match=message) as caught:
        fashioniq.read_annotations(tmp_path)
    assert "cap.dress.val.json, row 1" in str(caught.value)


def test_folder_without_captions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"check dataset\.root"):
        fashioniq.read_annotations(tmp_path)


def test_folder_beside_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    right = write_layout(tmp_path / "data", [ENTRY], ["A", "B"])
    for root in (tmp_path, right / "captions"):
        with pytest.raises(UserError, match=rf"check dataset\.root; did you mean {right}\?"):
            fashioniq.read_annotations(root)


def test_captions_without_split_file(tmp_path: Path) -> None:
    write_layout(tmp_path, [ENTRY], ["A", "B"])
    (tmp_path / "image_splits/split.dress.val.json").unlink()
    with pytest.raises(
        UserError, match=r"split\.dress\.val\.json is missing; check the split file"
    ):
        fashioniq.read_annotations(tmp_path)


def test_relevance_of_other_queries_is_refused(tmp_path: Path) -> None:
    write_layout(tmp_path, [ENTRY], ["A", "B"])
    write_truth(tmp_path, candidate="B", target="A", relevant=["A"])
    with pytest.raises(UserError, match="names another query"):
        fashioniq.read_annotations(tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"relevant": ["NOSUCH", "B"]}, "names 'NOSUCH', not in its split file"),
        ({"relevant": ["A"]}, "has no target among its answers"),
        ({"query_index": 1}, "has no row for dress-val-0"),
    ],
)
def test_truth_is_checked(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    write_layout(tmp_path, [ENTRY], ["A", "B"])
    write_truth(tmp_path, **changed)
    with pytest.raises(UserError, match=said):
        fashioniq.read_annotations(tmp_path)


def test_truth_of_another_type(tmp_path: Path) -> None:
    table = pa.table({name: ["x"] for name in RELEVANCE.names})
    pq.write_table(table, tmp_path / "relevance.parquet")
    with pytest.raises(UserError, match="has types other than"):
        fashioniq.read_relevance(tmp_path / "relevance.parquet")


def test_any_category_counts(tmp_path: Path) -> None:
    write_layout(tmp_path, [ENTRY], ["A", "B"], "shoes.val")
    assert fashioniq.read_annotations(tmp_path).queries[0]["query_id"] == "shoes-val-0"


def test_files_of_others_are_passed_over_with_a_note(tmp_path: Path) -> None:
    write_layout(tmp_path, [ENTRY], ["A", "B"])
    others = [
        "cap.dress.dev.json",
        "cap.extended.json",
        "cap.extended.val.json",
        "._cap.x.val.json",
    ]
    for name in (*others, "correction_dict_dress.json", ".DS_Store"):
        (tmp_path / "captions" / name).write_text("no JSON")
    found = fashioniq.read_annotations(tmp_path)
    assert list(found.files) == ["captions/cap.dress.val.json", "image_splits/split.dress.val.json"]
    (note,) = found.notes
    assert note.startswith("captions/ also contains 6 files that are not read: '.DS_Store', ")


@pytest.mark.parametrize("name", ["mean", "Mean", "a@b", "a,b", " a", "x" * 65])
def test_category_names_that_reports_could_not_tell_apart(tmp_path: Path, name: str) -> None:
    write_layout(tmp_path, [ENTRY], ["A", "B"], f"{name}.val")
    with pytest.raises(UserError, match="a category cannot be named"):
        fashioniq.read_annotations(tmp_path)


def test_categories_that_differ_in_case_only(tmp_path: Path) -> None:
    for name in ("dress.val", "Dress.val"):
        write_layout(tmp_path, [ENTRY], ["A", "B"], name)
    with pytest.raises(UserError, match="differ only in case"):
        fashioniq.read_annotations(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_files_of_other_systems(tmp_path: Path, encoding: str) -> None:
    write_layout(tmp_path, [ENTRY | {"captions": ["is rosé", "longer"]}], ["A", "B"])
    for path in tmp_path.glob("*/*.json"):
        text = json.dumps(json.loads(path.read_text()), ensure_ascii=False, indent=1)
        path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert fashioniq.read_annotations(tmp_path).queries[0]["captions"] == ["is rosé", "longer"]


@pytest.mark.parametrize("target", [7, ["A"], {}])
def test_a_target_of_the_test_split_is_a_string(tmp_path: Path, target: Any) -> None:
    write_layout(tmp_path, [ENTRY | {"target": target}], ["A", "B"], "dress.test")
    with pytest.raises(UserError, match="'target' is not a string"):
        fashioniq.read_annotations(tmp_path)


def test_text_that_is_no_text(tmp_path: Path) -> None:
    write_layout(tmp_path, [ENTRY | {"captions": ["half a \ud83d", "pair"]}], ["A", "B"])
    with pytest.raises(UserError, match="not valid JSON"):
        fashioniq.read_annotations(tmp_path)
    (tmp_path / "captions/cap.dress.val.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="not valid JSON"):
        fashioniq.read_annotations(tmp_path)


def test_a_number_of_thousands_of_digits(tmp_path: Path) -> None:
    write_layout(tmp_path, [ENTRY], ["A", "B"])
    (tmp_path / "captions/cap.dress.val.json").write_text(f"[{'9' * 9999}]")
    with pytest.raises(UserError, match="not valid JSON"):
        fashioniq.read_annotations(tmp_path)


@needs("fashioniq")
def test_real_counts() -> None:
    annotations = fashioniq.read_annotations(REAL)
    counts = {
        split: [
            sum(q["split"] == split and q["category"] == c for q in annotations.queries)
            for c in CATEGORIES
        ]
        for split in fashioniq.SPLITS
    }
    assert counts == {
        "train": [5985, 5988, 6027],
        "val": [2017, 2038, 1961],
        "test": [2024, 2038, 2056],
    }
    assert len(annotations.image_ids) == 74381
    galleries = annotations.galleries
    assert [len(galleries["original"][c]) for c in CATEGORIES] == [3817, 6346, 5373]
    assert [len(galleries["val-union"][c]) for c in CATEGORIES] == [2628, 3089, 2902]


@needs("fashioniq")
def test_real_test_targets_are_hidden() -> None:
    queries = fashioniq.read_annotations(REAL).queries
    assert all((q["target_id"] is None) == (q["split"] == "test") for q in queries)
    texts = [c for q in queries for c in q["captions"]]
    assert {len(q["captions"]) for q in queries} == {2}
    assert sum(not text.strip() for text in texts) == 16


@needs("realphotos")
def test_real_photos_with_relevance() -> None:
    root = SHARED / "realphotos"
    annotations = fashioniq.read_annotations(root)
    assert sum(q["split"] == "train" for q in annotations.queries) == 5375
    relevance = fashioniq.read_relevance(root / "relevance.parquet")
    assert len(relevance) == 2255
    sizes = [len(row["relevant"]) for row in relevance.values()]
    assert sum(sizes) / len(sizes) == pytest.approx(6.9, abs=0.05)
