"""Paired differences by hand and against a slow loop; pairing, refusals, order and page."""

import csv
import io
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rau.errors import UserError
from rau.evaluation.comparison import BEYOND, changes, compare, measured, pair
from rau.evaluation.ranked_side import MAX_BYTES, NEEDED, Side, read_side
from rau.evaluation.run import rankings_metadata
from rau.evaluation.run_metrics import RunMetrics
from rau.report import comparison_page as report
from rau.schemas import RANKINGS, ManifestRow, QueryRow, write_table
from rau.table_metadata import RankingsMetadata

SCHEMA = pa.schema([RANKINGS.field(name) for name in NEEDED])


def row(query: str, rank: int | None, **changed: Any) -> dict[str, Any]:
    """A row of category `dress` under protocol `original`; its target is `t`."""
    top = [f"i{place}" for place in range(1, 13)]
    if rank is not None and rank <= len(top):
        top[rank - 1] = "t"
    return {
        "query_id": query,
        "method": "RAU head",
        "protocol": "original",
        "category": "dress",
        "text": "is red",
        "reference_id": "r",
        "target_id": "t",
        "target_rank": rank,
        "subset_rank": None,
        "average_precision": None,
        "uncertainty": None,
        "target_uncertainty": None,
        "top": [] if rank is None else top,
        "scores": [],
    } | changed


def side(name: str, rows: list[dict[str, Any]], **metadata: str) -> Side:
    table = pa.Table.from_pylist(rows, schema=RANKINGS).select(NEEDED).cast(SCHEMA)
    return Side(name, "RAU head", table, RankingsMetadata(**metadata))


def by_rank(name: str, ranks: list[int | None], **changed: Any) -> Side:
    return side(name, [row(f"q{i}", rank, **changed) for i, rank in enumerate(ranks)])


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of every metric."""
    values = measured(side("a", rows).rows.to_pandas())
    return {name: float(value.mean()) for name, value in values.items()}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    write_table(path, pa.Table.from_pylist(rows, schema=RANKINGS), RANKINGS)
    return path


def test_metrics_by_hand() -> None:
    ranks: list[int | None] = [1, 4, 30, 51, None]
    rows = [row(f"q{i}", rank, subset_rank=None) for i, rank in enumerate(ranks)]
    values = {
        name: value.mean() for name, value in measured(side("a", rows).rows.to_pandas()).items()
    }
    assert values == {
        "recall_at_1": 20,
        "recall_at_5": 40,
        "recall_at_10": 40,
        "recall_at_50": 60,
        "mean_of_r10_r50": 50,
    }
    full = [
        row("a", 1, subset_rank=1, average_precision=0.5),
        row("b", 9, subset_rank=2, average_precision=0.25),
        row("c", None),
    ]
    values = {
        name: value.mean() for name, value in measured(side("a", full).rows.to_pandas()).items()
    }
    assert values["map"] == pytest.approx(25)
    assert values["subset_recall_at_1"] == pytest.approx(100 / 3)
    assert values["subset_recall_at_2"] == pytest.approx(200 / 3)
    assert values["mean_of_r5_rs1"] == pytest.approx(100 / 3)
    assert "mean_of_r10_r50" not in values


def test_differences_and_holm_agree_with_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    ours, theirs, gaps = [], [], []
    for category, shift in (("dress", 0.6), ("shirt", 1.0)):
        for number in range(80):
            # Two orders of the captions a query, as the join `separate` has them.
            for text in ("a and b", "b and a"):
                pairs = {"category": category, "text": text}
                theirs_rank = int(rng.integers(1, 40))
                ours_rank = max(1, round(theirs_rank * shift))
                ours.append(row(f"{category}-{number}", ours_rank, **pairs))
                theirs.append(row(f"{category}-{number}", theirs_rank, **pairs))
                gap = 100.0 * ((ours_rank <= 10) - (theirs_rank <= 10))
                gaps.append((category, number, gap))
    rng.shuffle(theirs)
    (done,) = compare(side("a", ours), side("b", theirs), 4000, 3).protocols
    cells = {category: found["recall_at_10"] for category, found in done.cells.items()}
    table = {
        c: np.array([g for k, _, g in gaps if k == c]).reshape(80, 2) for c in ("dress", "shirt")
    }
    drawn = []
    for _ in range(4000):
        means = [values[rng.integers(0, 80, 80)].mean() for values in table.values()]
        drawn.append(np.mean(means))
    expected = np.quantile(drawn, [0.025, 0.975])
    mean = cells["mean"].difference
    assert mean.value == pytest.approx(np.mean([v.mean() for v in table.values()]))
    assert mean.value == pytest.approx(cells["mean"].a - cells["mean"].b)
    assert (mean.low, mean.high) == pytest.approx(tuple(expected), abs=0.6)
    assert cells["shirt"].difference.value == 0
    assert cells["shirt"].difference.p == 1
    assert cells["shirt"].holm is None
    holms = [cell.holm for cell in done.cells["mean"].values()]
    raw = [cell.difference.p for cell in done.cells["mean"].values()]
    assert max(raw) == 1
    assert min(h for h in holms if h is not None) == pytest.approx(len(raw) * min(raw))
    assert done.queries == {"dress": 80, "shirt": 80}


def test_rows_are_paired_by_what_they_are_and_not_by_order() -> None:
    a = side("a", [row("q1", 1), row("q2", 2), row("q2", 3, text="red"), row("q2", 4, text="red")])
    b = side("b", [row("q2", 7, text="red"), row("q2", 8, text="red"), row("q2", 6), row("q1", 5)])
    (pairs,), left_out = pair(a, b)
    ranks = list(zip(pairs.a["target_rank"], pairs.b["target_rank"], strict=True))
    assert ranks == [(1, 5), (2, 6), (3, 7), (4, 8)]
    assert left_out == []


def test_a_protocol_of_one_side_is_left_out() -> None:
    a = side("a", [row("q", 1), row("q", 1, protocol="val")])
    b = side("b", [row("q", 3), row("q", 1, protocol="custom")])
    result = compare(a, b, 100, 5)
    assert [done.protocol for done in result.protocols] == ["original"]
    assert list(result.left_out) == ["custom", "val"]
    assert "left out: custom, val" in report.text_table(result)
    with pytest.raises(UserError, match=r"no protocol in common \(original; val\)"):
        pair(side("a", [row("q", 1)]), side("b", [row("q", 1, protocol="val")]))


def test_other_queries_are_refused() -> None:
    a = by_rank("one", [1, 2, 3])
    with pytest.raises(UserError, match="2 rows are only in A and 0 only in B") as error:
        pair(a, by_rank("two", [1]))
    assert "A, one, and B, two," in str(error.value)
    with pytest.raises(UserError, match="3 rows are only in A and 3 only in B"):
        pair(a, by_rank("two", [1, 2, 3], category="shirt"))
    with pytest.raises(UserError, match="different references or targets in 3 of their rows"):
        pair(a, by_rank("two", [1, 2, 3], target_id="other"))
    with pytest.raises(UserError, match="both 'RAU head' of one"):
        compare(a, a, 100, 5)


def test_changes_are_ordered_by_the_logarithm_of_the_rank() -> None:
    a = by_rank("a", [1, 50, 8, None, 3, 7, None])
    b = by_rank("b", [10, 60, 4, 10, 3, None, None])
    (pairs,), _ = pair(a, b)
    gained, lost = changes(pairs, a, b, 5)
    assert [one.a["query_id"] for one in gained] == ["q5", "q0", "q1"]
    assert [one.a["query_id"] for one in lost] == ["q3", "q2"]
    assert gained[0].log_ratio == pytest.approx(math.log(BEYOND * 60 / 7))
    assert lost[0].log_ratio == pytest.approx(math.log(10 / (BEYOND * 60)))
    assert gained[1].a["top"][0] == gained[1].b["top"][9] == "t"
    assert lost[0].a["top"] == []
    gained, lost = changes(pairs, a, b, 1)
    assert [one.a["query_id"] for one in (*gained, *lost)] == ["q5", "q3"]
    assert changes(pairs, a, b, 0) == ([], [])


def test_a_query_is_among_the_changes_once() -> None:
    a = side("a", [row("q", 1), row("q", 90, text="other")])
    b = side("b", [row("q", 9), row("q", 80, text="other")])
    (pairs,), _ = pair(a, b)
    gained, lost = changes(pairs, a, b, 5)
    assert [(one.a["target_rank"], one.b["target_rank"]) for one in gained] == [(1, 9)]
    assert lost == []


def test_a_file_is_read_by_method_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row("q", 1), row("q", 2, method="sum"), row("q", 3, method="deterministic head")]
    path = write(tmp_path / "x.parquet", rows)
    assert read_side("x", path, None).rows["target_rank"].to_pylist() == [1]
    assert read_side("x", path, "sum").rows["target_rank"].to_pylist() == [2]
    with pytest.raises(UserError, match="x has no method 'other'; choose from RAU head, sum"):
        read_side("x", path, "other")
    other = tmp_path / "other.parquet"
    write_table(other, pa.table({"query_id": ["q"]}), pa.schema([("query_id", pa.string())]))
    with pytest.raises(UserError, match="has no columns method, protocol"):
        read_side("x", other, None)
    odd = pa.schema([*(f for f in SCHEMA if f.name != "target_rank"), ("target_rank", pa.string())])
    table = pa.Table.from_pylist([row("q", 1) | {"target_rank": "first"}], schema=odd)
    write_table(other, table, odd)
    with pytest.raises(UserError, match="columns of other types"):
        read_side("x", other, None)
    other.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a complete Parquet file"):
        read_side("x", other, None)
    with pytest.raises(UserError, match="is missing"):
        read_side("x", tmp_path / "none", None)
    assert path.stat().st_size < MAX_BYTES
    monkeypatch.setattr("rau.evaluation.ranked_side.MAX_BYTES", 10)
    with pytest.raises(UserError, match="larger than 10 bytes"):
        read_side("x", path, None)


def test_what_evaluate_says_of_a_run_is_read_back(built_project: Path) -> None:
    metrics = RunMetrics.read(built_project / "reports/metrics.json")
    path = built_project / "data/rankings/garments.parquet"
    written = pq.read_schema(path).metadata
    assert {k.decode(): v.decode() for k, v in written.items()} == rankings_metadata(metrics)
    ours, twin = read_side("x", path, None), read_side("x", path, "deterministic head")
    assert ours.metadata == RankingsMetadata(
        method="RAU head",
        dataset="garments",
        copy="built in",
        encoder=metrics.encoder_name,
        coverage="360 of 360 images; 120 of 120 val queries usable",
        unusable="miss",
    )
    (done, *_) = compare(ours, twin, 100, 0).protocols
    gap = metrics.against[done.protocol]["mean"]["recall_at_10"].difference
    assert done.cells["mean"]["recall_at_10"].difference.value == pytest.approx(gap, abs=1e-3)
    for found, name in zip(done.composition, (ours.method, twin.method), strict=True):
        assert found is not None
        theirs = metrics.composition[done.protocol]["mean"]
        own, measured_there = found.methods[name], theirs.methods[name]
        assert (found.better, found.either) == (theirs.better, theirs.either)
        assert own.alone == measured_there.alone
        assert own.gap.difference == pytest.approx(measured_there.gap.difference, abs=1e-3)


def test_another_data_set_is_refused() -> None:
    a, b = side("one", [row("q", 1)], dataset="cirr"), side("two", [row("q", 2)], dataset="own")
    with pytest.raises(UserError, match=r"A, one, and B, two, are of different data sets \(cirr;"):
        compare(a, b, 100, 5)
    assert compare(a, side("older", [row("q", 2)]), 100, 5).protocols


def test_sides_are_described_and_what_differs_is_said() -> None:
    metadata = {
        "dataset": "cirr",
        "copy": "official",
        "encoder": "<i>ViT</i>, own",
        "coverage": "all",
    }
    other = {"dataset": "cirr", "copy": "custom", "encoder": "RN50, own", "coverage": "half"}
    for theirs, described, unlike in (
        (metadata, "data set cirr (official); encoder <i>ViT</i>, own; all", ""),
        ({}, "its file does not name its data set, encoder and coverage", ""),
        (other, "data set cirr (custom); encoder RN50", "copy of the data set, encoder, coverage:"),
        (metadata | {"encoder": "RN50"}, "data set cirr (official); encoder RN50; all", "encoder:"),
        (metadata | {"coverage": "half"}, "own; half", "coverage:"),
    ):
        a, b = side("a", [row("q", 1)], **metadata), side("b", [row("q", 2)], **theirs)
        result = compare(a, b, 100, 5)
        page = Page(report.render(result, report.Images())).text
        for text in (page, report.text_table(result)):
            assert "data set cirr (official); encoder <i>ViT</i>, own; all" in text
            assert described in text
            assert text.count("A and B differ in") == bool(unlike)
            assert unlike == "" or f"A and B differ in {unlike}" in text


def test_rows_without_images_are_left_out_on_both_sides() -> None:
    a = [row("q0", 1), row("q1", None), row("q2", 3)]
    b = [row("q0", 7), row("q1", 2), row("q2", None)]
    leaves = side("a", a, unusable="leave_out")
    result = compare(leaves, side("b", b, unusable="miss"), 100, 5)
    (done,) = result.protocols
    assert (done.queries, done.left_out, done.unranked) == ({"dress": 2}, 1, 1)
    assert [one.a["query_id"] for one in (*done.gained, *done.lost)] == ["q2", "q0"]
    assert done.cells["mean"]["recall_at_1"].a == 50
    page = Page(report.render(result, report.Images())).text
    for text in (page, report.text_table(result)):
        assert "2 queries" in text
        assert "1 rows are left out, because their images are missing" in text
    (done,) = compare(leaves, side("b", b, unusable="leave_out"), 100, 5).protocols
    assert (done.queries, done.left_out, done.unranked) == ({"dress": 1}, 2, 0)
    (done,) = compare(side("a", a, unusable="miss"), side("b", b), 100, 5).protocols
    assert (done.left_out, done.unranked) == (0, 2)
    # With images, a target without a rank is a miss.
    seen = side("a", [row("q0", 1), row("q1", None, top=["i1"])], unusable="leave_out")
    (done,) = compare(seen, side("b", [row("q0", 1), row("q1", 2)]), 100, 5).protocols
    assert (done.left_out, done.unranked) == (0, 1)
    shirt = side("a", [row("q0", 1), row("q1", None, category="shirt")], unusable="leave_out")
    other = side("b", [row("q0", 1), row("q1", 1, category="shirt")])
    with pytest.raises(UserError, match="no query of shirt that has its images; complete"):
        compare(shirt, other, 100, 5)


class Page(HTMLParser):
    """What a page would load, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "data")]
        assert tag not in ("link", "iframe", "object")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for name in ("r", "t", *(f"i{place}" for place in range(1, 13))):
        Image.new("RGB", (20, 30), "grey").save(tmp_path / f"{name}.png")
    return tmp_path


def manifest(store: Path) -> list[ManifestRow]:
    return [
        {
            "image_id": path.stem,
            "path": path.name,
            "bytes": None,
            "sha256": None,
            "width": 20,
            "height": 30,
            "source": None,
            "status": "ok",
            "reason": None,
        }
        for path in store.glob("*.png")
    ]


QUERIES: list[QueryRow] = [
    {
        "query_id": f"q{i}",
        "split": "val",
        "category": "dress",
        "reference_id": "r",
        "target_id": "t",
        "captions": ["is red"],
        "members": None,
        "relevant": ["t", "i2"],
    }
    for i in range(3)
]


def test_page_stands_alone_with_two_lists_a_query(store: Path) -> None:
    a = side("<b>mine", [row("q0", 1, uncertainty=0.25), row("q1", 9), row("q2", 2)])
    b = side("theirs", [row("q0", 7), row("q1", 3), row("q2", 2)])
    result = compare(a, b, 100, 5)
    shown = report.images_of(result.changes, store, manifest(store), QUERIES)
    html = report.render(result, shown)
    page = Page(html)
    assert len(page.loaded) == 2 * (1 + 2 * 10)
    assert html.count("<script") == 1
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.loaded)
    assert "url(" not in html
    for text in (
        "RAU head of <b>mine compared with RAU head of theirs",
        "A: rank of the target 1, uncertainty (norm of σ) 0.2500",
        "+33.33",
        "p is never below 2/(resamples + 1), here 0.02)",
    ):
        assert text in page.text, text
    assert "B: rank of the target 7" in page.text
    assert page.text.index("A: rank of the target 9") < page.text.index("B: rank of the target 3")
    assert page.text.count("uncertainty") == 1
    assert "No images:" not in page.text


def test_composition_of_both_sides(tmp_path: Path) -> None:
    """The gap to the better single modality, and what one modality finds, on page and terminal."""
    ranks: dict[str, list[int | None]] = {
        "image only": [1, 60, 60, None],
        "text only (ridge map)": [60, 2, 60, 3],
        "RAU head": [1, 2, 3, None],
        "other": [60, 60, 60, 60],
    }
    # Another query of a category of its own, which all but one method find.
    rows = [
        row(f"q{n}", rank, method=method, category="dress" if n < 4 else "shirt")
        for method, own in ranks.items()
        for n, rank in enumerate([*own, 60 if method == "other" else 5])
    ]
    path = write(tmp_path / "rankings.parquet", rows)
    a, b = (read_side(name, path, method) for name, method in (("x", "RAU head"), ("y", "other")))
    result = compare(a, b, 100, 1)
    ours, theirs = result.protocols[0].composition
    assert ours is not None
    assert theirs is not None
    # Among the first ten and fifty: dress 1/4, 2/4 and 3/4, shirt 1 each.
    assert (ours.better, ours.reference, ours.caption) == ("text only (ridge map)", 0.625, 0.75)
    assert ours.methods["RAU head"].gap.difference == pytest.approx(12.5)
    assert ours.methods["RAU head"].alone == pytest.approx((0.5 + 1) / (0.75 + 1), abs=1e-4)
    assert theirs.methods["other"].gap.difference == pytest.approx(-75)
    assert theirs.methods["other"].alone is None
    text = report.text_table(result)
    over = "mean of R@10 and R@50 over text only (ridge map)"
    assert f"A: RAU head: {over} +12.50 [" in text
    assert "; 85.7% of what it finds, found by one modality alone" in text
    page = Page(report.render(result, report.Images())).text
    assert "found by the reference alone" in page
    assert "85.7%" in page
    # A file of one method has no single modalities.
    (alone,) = compare(by_rank("a", [1]), by_rank("b", [2]), 100, 0).protocols
    assert alone.composition == (None, None)


def test_page_without_pictures_says_why(store: Path) -> None:
    result = compare(by_rank("a", [1, 9, None]), by_rank("b", [7, 3, 2]), 100, 5)
    rows = manifest(store)
    (store / "t.png").write_bytes(b"")
    for missing in (False, True):
        text = Page(
            report.render(result, report.images_of(result.changes, store, rows, QUERIES))
        ).text
        assert ("some of its images are missing" in text) == missing
        (store / "t.png").unlink(missing_ok=True)
    assert "1 rows have no rank" in text
    others: list[QueryRow] = [{**query, "target_id": "x"} for query in QUERIES]
    for shown, why in (
        (report.images_of(result.changes, store, [], QUERIES), "not on this machine"),
        (report.images_of(result.changes, store, manifest(store), others), "another data set"),
    ):
        page = Page(report.render(result, shown))
        assert why in page.text
        assert page.loaded == []
        assert "A: rank of the target none" in page.text


def test_csv_files_hold_every_cell() -> None:
    rows = [("q1", "dress"), ("q2", "dress"), ("q3", "shirt")]
    a = side("a", [row(q, 1, category=c, text='a "b", c') for q, c in rows])
    b = side("b", [row(q, None, category=c, text='a "b", c') for q, c in rows])
    result = compare(a, b, 100, 5)
    lines = list(csv.DictReader(io.StringIO(report.differences_csv(result))))
    assert len(lines) == 3 * 5
    first = lines[0]
    assert (first["category"], first["metric"], first["queries"]) == ("mean", "recall_at_1", "3")
    assert (first["a"], first["b"], first["difference"]) == ("100.0", "0.0", "100.0")
    assert float(first["p"]) == pytest.approx(2 / 101, abs=1e-6)
    assert float(first["p_holm"]) == pytest.approx(5 * 2 / 101, abs=1e-6)
    assert {line["p_holm"] for line in lines if line["category"] != "mean"} == {""}
    changed = list(csv.DictReader(io.StringIO(report.changes_csv(result))))
    assert [(one["query_id"], one["change"]) for one in changed] == [
        ("q1", "gained"),
        ("q2", "gained"),
        ("q3", "gained"),
    ]
    assert (changed[0]["rank_a"], changed[0]["rank_b"]) == ("1", "")
    assert changed[0]["text"] == 'a "b", c'


def test_a_single_category_is_its_own_mean() -> None:
    (done,) = compare(by_rank("a", [1, 2]), by_rank("b", [3, 4]), 100, 5).protocols
    assert list(done.cells) == ["mean"]
