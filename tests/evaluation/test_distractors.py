"""Val queries among distractors: as in one gallery, however the distractors are divided."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from rau.datasets.captions import all_texts
from rau.errors import UserError
from rau.evaluation import benchmark, distractors
from rau.evaluation.distractors import Distractors
from rau.evaluation.run_metrics import BenchmarkResult
from rau.features import streamed
from rau.features.table import Features, write_features
from rau.models.baselines import IMAGE_ONLY, TEXT_ONLY, RawSum, WeightedSum
from rau.params import EvaluateParams
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import FASHIONIQ, Protocol
from rau.retrieval.tasks import Method
from rau.schemas import GalleryRow, QueryRow
from rau.shards import Shard

ORIGINAL, VAL = FASHIONIQ
GALLERY = [f"{number:03}" for number in range(0, 100, 2)]
OTHERS = [f"{number:03}" for number in range(1, 200, 2)]
METHODS: dict[str, Method] = {
    IMAGE_ONLY: WeightedSum(0.0),
    TEXT_ONLY: WeightedSum(1.0),
    "raw sum": RawSum(),
}
EVALUATE = EvaluateParams(bootstrap=20, top_k=7)


def queries() -> list[QueryRow]:
    rng = np.random.default_rng(0)
    found: list[QueryRow] = []
    for number in range(24):
        some = rng.choice(GALLERY, 4, replace=False).tolist()
        found.append(
            {
                "query_id": str(number),
                "category": ("dress", "shirt")[number % 2],
                "split": "val",
                # Some have no image of their reference.
                "reference_id": "nowhere" if number == 5 else some[0],
                "target_id": some[1],
                "captions": [f"red {number}", f"longer {number}"],
                "relevant": some[1:],
                "members": None,
            }
        )
    return found


def galleries(images: list[str]) -> list[GalleryRow]:
    return [
        {"gallery": gallery, "category": category, "image_id": image}
        for gallery in ("original", "val-union")
        for category in ("dress", "shirt")
        for image in images
    ]


def features(images: list[str]) -> FeatureSet:
    texts = sorted({text for query in queries() for text in all_texts(query["captions"])})
    rng = np.random.default_rng(1)
    # Of every image the same, whatever others there are.
    drawn = rng.normal(size=(1000, 24)).astype(np.float16)
    matrix = np.stack([drawn[int(name)] for name in images])
    words = rng.normal(size=(len(texts), 24)).astype(np.float16)
    about = {"encoder": "some", "key": "abc", "space": "shared"}
    tables = Features(images, matrix, about), Features(texts, words, about)
    return FeatureSet.on(torch.device("cpu"), *tables)


def write(folder: Path) -> Path:
    """The distractors, and three images of the gallery, in three files of small row groups."""
    everything = [*OTHERS, *GALLERY[:3]]
    matrix = features(everything).images.matrix
    folder.mkdir(exist_ok=True)
    for number, rows in enumerate(np.array_split(np.arange(len(everything)), 3)):
        write_features(
            folder / f"{number}.parquet",
            "image_id",
            [everything[row] for row in rows],
            np.array_split(matrix[rows], 5),
            {"key": "abc"},
        )
    return folder


def opened(folder: Path, inputs: str = "these") -> Distractors:
    source = write(folder / "distractors")
    known = queries(), galleries(GALLERY)
    return Distractors.open(
        "distractors", source, features(GALLERY), *known, folder / "parts", inputs
    )


def measure(found: Distractors | None, images: list[str]) -> tuple[BenchmarkResult, pa.Table]:
    return benchmark.evaluate(
        {ORIGINAL: METHODS, VAL: METHODS},
        queries(),
        galleries(images),
        features(images),
        EVALUATE,
        "raw sum",
        distractors=found,
    )


def count(found: Distractors, shard: str) -> int:
    counted = benchmark.count_distractors(
        {ORIGINAL: METHODS, VAL: METHODS},
        queries(),
        galleries(GALLERY),
        features(GALLERY),
        EVALUATE,
        found,
        Shard.parse(shard),
    )
    return counted.images


def assert_as_in_one_gallery(found: tuple[BenchmarkResult, pa.Table]) -> None:
    whole, expected = measure(None, sorted([*GALLERY, *OTHERS]))
    ours, rankings = found
    larger = ORIGINAL.with_distractors().name
    assert ours.protocols[larger] == whole.protocols["original"]
    assert ours.intervals[larger] == whole.intervals["original"]
    assert ours.composition[larger] == whole.composition["original"]
    assert {n: own[larger] for n, own in ours.baselines.items()} == {
        n: own["original"] for n, own in whole.baselines.items()
    }
    assert ours.galleries[larger] == {"dress": 150, "shirt": 150}

    def rows(table: pa.Table, protocol: str) -> list[dict[str, object]]:
        own = [row for row in table.to_pylist() if row["protocol"] == protocol]
        return [row | {"protocol": None} for row in own]

    assert rows(rankings, larger) == rows(expected, "original")


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "BLOCK", 8)


def test_they_rank_as_in_one_gallery(tmp_path: Path) -> None:
    ours, rankings = measure(opened(tmp_path), GALLERY)
    assert_as_in_one_gallery((ours, rankings))
    assert ours.distractors is not None
    assert ours.distractors.model_dump() == {
        "protocol": "original-distractors",
        "source": "distractors",
        "images": 100,
        "skipped": 3,
    }
    # The rest is what it is without them.
    plain, expected = measure(None, GALLERY)
    assert {name: ours.protocols[name] for name in plain.protocols} == plain.protocols
    assert rankings.filter(pa.compute.field("protocol") != "original-distractors") == expected


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The units that are counted, in their order."""
    found: list[int] = []
    unit = Distractors._unit

    def noted(self: Distractors, number: int, *rest: object) -> object:
        found.append(number)
        return unit(self, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Distractors, "_unit", noted)
    return found


@pytest.mark.parametrize("shards", [["1/2", "1/4"], ["1/4", "1/2"], ["1/2", "1/4", "2/3", "2/4"]])
def test_a_share_of_another_division_counts_nothing_twice(
    shards: list[str], tmp_path: Path, read: list[int]
) -> None:
    found = opened(tmp_path)
    own = [{n for n in range(len(found.stream.units)) if Shard.parse(s).holds(n)} for s in shards]
    for shard in shards:
        count(found, shard)
    assert sorted(read) == sorted(set().union(*own))
    assert_as_in_one_gallery(measure(found, GALLERY))


@pytest.mark.parametrize("shards", [["1/1"], ["1/2", "2/2"], ["3/4", "1/4"], ["2/2", "1/3"]])
def test_shares_add_up_to_the_whole(shards: list[str], tmp_path: Path, read: list[int]) -> None:
    found = opened(tmp_path)
    counted = [count(found, shard) for shard in shards]
    disjoint = shards != ["2/2", "1/3"]
    assert 0 < sum(counted) <= 100 or not disjoint
    read.clear()
    assert_as_in_one_gallery(measure(found, GALLERY))
    units = len(found.stream.units)
    done = {n for n in range(units) for s in shards if Shard.parse(s).holds(n)}
    if disjoint:
        assert {*range(units)} - done == {*read}
    # Of shares that overlap one is taken.
    assert len(read) < units or not done
    read.clear()
    assert_as_in_one_gallery(measure(opened(tmp_path), GALLERY))
    assert read == []


def test_a_share_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(tmp_path)
    monkeypatch.setattr(distractors, "SAVED_EVERY", 0.0)
    unit, calls = Distractors._unit, []

    def stopped(self: Distractors, number: int, *rest: object) -> object:
        calls.append(number)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return unit(self, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Distractors, "_unit", stopped)
    with pytest.raises(KeyboardInterrupt):
        count(found, "1/2")
    first = calls[:3]
    assert_as_in_one_gallery(measure(found, GALLERY))
    assert not {*first} & {*calls[4:]}


def test_counts_of_other_inputs_are_not_taken(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path, "others")
    assert one.folder != other.folder
    assert one.folder == opened(tmp_path).folder


def test_a_damaged_file_of_counts_is_counted_again(tmp_path: Path) -> None:
    found = opened(tmp_path)
    count(found, "1/2")
    (path,) = found.folder.glob("*.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert_as_in_one_gallery(measure(found, GALLERY))
    assert [path.name for path in found.folder.iterdir()] == ["1-of-1.parquet"]


def test_distractors_of_another_encoder_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.parquet"
    write_features(source, "image_id", ["x"], [np.ones((1, 24), np.float16)], {"key": "other"})
    known = queries(), galleries(GALLERY)
    with pytest.raises(UserError, match="another encoder"):
        Distractors.open("a", source, features(GALLERY), *known, tmp_path / "parts", "these")


def test_a_protocol_with_distractors_is_another() -> None:
    larger: Protocol = ORIGINAL.with_distractors()
    assert larger.name == "original-distractors"
    assert larger.choices == f"{ORIGINAL.choices} / distractors"
