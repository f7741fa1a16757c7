"""The built-in data: deterministic, in FashionIQ's layout, with the truth that its rule says."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rau.datasets import fashioniq
from rau.datasets.garments import draw_pairs, generate, plan
from rau.datasets.garments.attributes import (
    ATTRIBUTES,
    ORDERS,
    PAINTS,
    VALUES,
    Garment,
    is_valid,
    sample,
)
from rau.datasets.garments.captions import (
    LINKS,
    OPENINGS,
    ORDER_PHRASES,
    VALUE_PHRASES,
    Caption,
    Constraint,
    changes,
    describe,
    relative,
)
from rau.datasets.garments.drawing import Nuisance, draw
from rau.datasets.garments.generate import Part
from rau.datasets.garments.painting import ruffles
from rau.datasets.garments.relevance import Triplet, relevant
from rau.datasets.garments.shapes import TOP_Y, shape
from rau.errors import UserError
from rau.params import GarmentsParams

TINY = GarmentsParams(
    train_images=60, val_images=60, train_queries=60, val_queries=30, image_size=48
)
OTHER = TINY.model_copy(update={"seed": 1})
BASE = Garment("dress", "red", "white", "stripes", "short", "round", "medium", "regular", "belt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("garments")
    generate(root, TINY, workers=1)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_same_seed_same_bytes_whatever_the_workers(folder: Path, tmp_path: Path) -> None:
    generate(tmp_path, TINY, workers=2)
    assert contents(folder) == contents(tmp_path)


def test_other_seed_other_pictures(folder: Path, tmp_path: Path) -> None:
    generate(tmp_path, OTHER, workers=1)
    images = {name for name in contents(tmp_path) if name.startswith("images/")}
    assert len(images) == 120
    assert not images & set(contents(folder))


def test_ordinary_reader_reads_it(folder: Path) -> None:
    annotations = fashioniq.read_annotations(folder)
    assert len(annotations.image_ids) == 120
    assert len(annotations.queries) == 90
    truth = fashioniq.read_relevance(folder / "relevance.parquet")
    assert len(truth) == 90
    for row in truth.values():
        assert row["target"] in row["relevant"]
        assert row["candidate"] not in row["relevant"]


def test_stopped_drawing_goes_on(tmp_path: Path) -> None:
    generate(tmp_path, TINY, workers=1)
    before = contents(tmp_path)
    images = sorted((tmp_path / "images").iterdir())
    for path in images[::3]:
        path.unlink()
    (tmp_path / "garments.json").unlink()
    kept = images[1].stat().st_mtime_ns
    generate(tmp_path, TINY, workers=1)
    assert contents(tmp_path) == before
    assert images[1].stat().st_mtime_ns == kept


def test_lost_annotations_come_back(tmp_path: Path) -> None:
    generate(tmp_path, TINY, workers=1)
    before = contents(tmp_path)
    (tmp_path / "captions" / "cap.dress.val.json").unlink()
    generate(tmp_path, TINY, workers=1)
    assert contents(tmp_path) == before


def test_half_drawn_files_of_old_runs_are_removed(tmp_path: Path) -> None:
    generate(tmp_path, TINY, workers=1)
    old, young = (tmp_path / "images" / name for name in ("A.jpg.1.tmp", "B.jpg.2.tmp"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    generate(tmp_path, TINY, workers=1)
    assert not old.exists()
    assert young.exists()


def test_folder_of_another_spec_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"holds garments of .*'seed': 0"):
        generate(folder, OTHER, workers=1)


@pytest.mark.parametrize("category", ["dress", "shirt"])
def test_largest_garments_stay_in_the_frame(category: str) -> None:
    largest = replace(
        BASE, category=category, length="longest", fit="loose", sleeve="long", detail="ruffles"
    )
    for seed in range(40):
        nuisance = Nuisance.sample(np.random.default_rng(seed))
        points = extent(largest, nuisance)
        assert max(abs(points.real).max(), abs(points.imag).max()) <= 0.5, seed


def extent(garment: Garment, nuisance: Nuisance) -> NDArray[np.complex128]:
    """The corners of a garment in a picture whose middle is 0 and whose sides are 1."""
    outlines = shape(garment, nuisance.arm)
    rim = [c + r for c in ruffles(outlines) for r in (0.042, -0.042, 0.042j, -0.042j)]
    points = np.array(
        [*outlines.body, *outlines.band, *rim, *(z for sleeve in outlines.sleeves for z in sleeve)]
    )
    centre = complex(0, (TOP_Y + outlines.hem_y) / 2)
    turned = nuisance.zoom * np.exp(1j * nuisance.turn) * (points - centre)
    return np.asarray(turned + nuisance.offset)


def holds(constraint: Constraint, reference: Garment, garment: Garment) -> bool:
    """Whether `garment` fulfils a constraint, given the reference."""
    if constraint.value is not None:
        return garment.value(constraint.name) == constraint.value
    rank = ORDERS[constraint.name].rank
    return constraint.sign * (rank(garment) - rank(reference)) > 0


def slow_answers(part: Part, row: int) -> list[int]:
    """The rule in words, one image at a time."""
    triplet = part.triplets[row]
    reference, target = part.garments[triplet.reference], part.garments[triplet.target]
    constraints = [c for caption in triplet.captions for c in caption.constraints]
    said = {name for constraint in constraints for name in constraint.attributes}
    allowed = max(1, len(set(changes(reference, target)) - said))
    return [
        index
        for index, garment in enumerate(part.garments)
        if index != triplet.reference
        and all(holds(constraint, reference, garment) for constraint in constraints)
        and len(set(changes(reference, garment)) - said) <= allowed
    ]


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    sizes = {"train_images": 600, "val_images": 900, "train_queries": 300, "val_queries": 300}
    return plan(GarmentsParams(seed=3, image_size=64, **sizes))


def test_relevance_agrees_with_its_rule(parts: list[Part]) -> None:
    for part in parts:
        for row, answers in enumerate(part.answers()):
            assert answers.tolist() == slow_answers(part, row)
            assert part.triplets[row].target in answers


def test_default_sizes_have_several_answers_a_query() -> None:
    val = [
        part
        for part in plan(GarmentsParams(train_images=60, train_queries=30))
        if part.split == "val"
    ]
    sizes = [len(answers) for part in val for answers in part.answers()]
    assert len(sizes) == 3000
    assert np.median(sizes) >= 4
    assert np.quantile(sizes, 0.9) < 60


def test_queries_stay_in_their_pool(parts: list[Part]) -> None:
    for part in parts:
        assert all(part.pools[t.reference] == part.pools[t.target] for t in part.triplets)
        assert all(t.reference != t.target for t in part.triplets)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_attribute_shows(attribute: str) -> None:
    for value in VALUES[attribute]:
        other = replace(BASE, **{attribute: value})
        if other == BASE or not is_valid(other):
            continue
        one, two = (
            np.asarray(draw(g, 96, np.random.default_rng(0)), dtype=float) for g in (BASE, other)
        )
        changed = (np.abs(one - two).max(2) > 24).mean()
        assert changed > 0.0015, f"{attribute}={value} changes {changed:.4f} of the picture"


def test_captions_hold_and_vary(parts: list[Part]) -> None:
    vague = total = 0
    for part in parts:
        for triplet in part.triplets:
            reference, target = part.garments[triplet.reference], part.garments[triplet.target]
            assert len(triplet.captions) == 2
            for caption in triplet.captions:
                assert all(holds(c, reference, target) for c in caption.constraints)
                vague += sum(c.value is None for c in caption.constraints)
                total += len(caption.constraints)
    assert 0.2 < vague / total < 0.7


def test_constraint_of_an_order() -> None:
    longer = Constraint("length", sign=1)
    assert holds(longer, BASE, replace(BASE, length="long"))
    assert not holds(longer, BASE, BASE)
    assert longer.attributes == ORDERS["length"].attributes
    unsaid = replace(BASE, length="long", fit="loose", detail="bow")
    garments = [BASE, replace(BASE, length="long"), unsaid, replace(BASE, fit="loose")]
    triplet = Triplet(0, 1, (Caption("is longer", (longer,)),))
    assert [a.tolist() for a in relevant(garments, [triplet])] == [[1]]


def test_same_garment_has_nothing_to_say() -> None:
    with pytest.raises(ValueError, match="nothing to say"):
        relative(BASE, BASE, np.random.default_rng(0))


def test_descriptions_speak_the_same_language() -> None:
    rng = np.random.default_rng(0)
    words = {w for _ in range(300) for w in describe(sample("shirt", rng), rng).split()}
    texts = [p for phrases in VALUE_PHRASES.values() for ways in phrases.values() for p in ways]
    texts += [p for both in ORDER_PHRASES.values() for ways in both for p in ways]
    texts += [*OPENINGS, *LINKS, *PAINTS]
    known = {word for text in texts for word in text.replace("{}", "").replace(",", "").split()}
    assert words - {"shirt"} <= known


def test_pairs_repeat_and_differ_by_seed() -> None:
    pictures, captions = draw_pairs(8, 32, 5, workers=1)
    again, same = draw_pairs(8, 32, 5, workers=1)
    assert pictures.shape == (8, 32, 32, 3)
    assert (pictures == again).all()
    assert captions == same
    assert draw_pairs(8, 32, 6, workers=1)[1] != captions


def test_split_files_list_every_image(folder: Path) -> None:
    listed = [i for p in (folder / "image_splits").iterdir() for i in json.loads(p.read_text())]
    assert sorted(f"{i}.jpg" for i in listed) == sorted(
        p.name for p in (folder / "images").iterdir()
    )
