"""A query is the same vector in search as in evaluation, for every layout of queries and join."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rau.datasets.captions import Join, all_texts
from rau.errors import UserError
from rau.features.table import Features
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.tasks import build_task, run
from rau.schemas import QueryRow
from rau.search.model import Model, Query, query_vector
from tests.search.synthetic import CPU, draw_folder, load_model, query_row

LAYOUTS = {
    "garments": ["is red and long", "has short sleeves"],
    "fashioniq": ["Is darker.", "  has a different print, "],
    "cirr": ["Two dogs instead of one."],
}


def queries(ids: Sequence[str], captions: list[str]) -> list[QueryRow]:
    return [
        query_row(f"q{number}", *pair, [f"{caption} {number}" for caption in captions])
        for number, pair in enumerate(zip(ids, ids[3:], strict=False))
    ]


def features(model: Model, root: Path, ids: Sequence[str], rows: list[QueryRow]) -> FeatureSet:
    """What the stage `features` makes of them, in float32."""
    texts = sorted({text for row in rows for text in all_texts(row["captions"])})
    images = np.stack([model.image_feature(root / name).numpy() for name in ids])
    about = {"space": "shared"}
    return FeatureSet.on(
        CPU,
        Features(list(ids), images, about),
        Features(texts, model.encoder.encode_texts(texts).numpy(), about),
    )


@pytest.fixture(name="models", scope="module")
def _models(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> dict[bool, Model]:
    """By whether the captions that it was trained on come in several."""
    folder = tmp_path_factory.mktemp("heads")
    return {
        joins: load_model(folder / str(joins), encoder_folder, joins) for joins in (True, False)
    }


@pytest.fixture(name="model", scope="module")
def _model(models: dict[bool, Model]) -> Model:
    return models[True]


@pytest.mark.parametrize("join", get_args(Join))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_val_split_is_ranked_alike(
    tmp_path: Path, models: dict[bool, Model], layout: str, join: Join
) -> None:
    captions = LAYOUTS[layout]
    model = models[len(captions) > 1]
    ids = draw_folder(tmp_path / "pictures", 24)
    rows = queries(ids, captions)
    own = features(model, tmp_path / "pictures", ids, rows)
    task = build_task("all", rows, ids, join, layout == "cirr", own)
    ranking = run(task, model.head, own, len(ids)).ranking
    gallery = model.encode_gallery(own.image_matrix)
    found = []
    for row in rows:
        reference = own.image_matrix[own.images.index[row["reference_id"]]]
        for vector in model.encode_query(reference, row["captions"], join):
            scores = gallery @ vector
            if layout == "cirr":
                scores[own.images.index[row["reference_id"]]] = -torch.inf
            target = scores[own.images.index[row["target_id"] or ""]]
            found.append(int((scores > target).sum()) + 1)
    assert len(set(found)) > 5, "all targets rank alike: the test would not see a difference"
    assert found == ranking.target_rank.tolist()


def test_one_sentence_is_written_as_those_that_were_trained_on(models: dict[bool, Model]) -> None:
    joined, single = models[True], models[False]
    reference = torch.randn(joined.head.config.d_image)
    assert torch.equal(
        joined.encode_query(reference, ["is red."]), joined.encode_query(reference, ["Is red"])
    )
    assert not torch.equal(
        single.encode_query(reference, ["is red."]), single.encode_query(reference, ["is red"])
    )


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(F.cosine_similarity(a, b, dim=-1))


def test_the_weight_leads_from_the_words_to_the_picture(model: Model) -> None:
    torch.manual_seed(0)
    picture, centre = torch.randn(2, model.head.config.d_image)

    def vector(**changes: Any) -> torch.Tensor:
        return query_vector(model, Query(**{"references": [picture]} | changes), centre)

    composed = vector(caption="is red")
    assert torch.equal(composed, model.encode_query(picture, ["is red"])[0])
    alone = vector()
    assert torch.allclose(alone, model.encode_gallery(picture[None])[0])
    words = query_vector(model, Query(caption="is red"), centre)
    assert torch.allclose(words, model.encode_query(centre, ["is red"])[0])
    steps = [vector(caption="is red", image_weight=w) for w in (0, 0.25, 0.5, 0.75, 1)]
    assert torch.allclose(steps[0], words, atol=1e-6)
    assert torch.equal(steps[2], composed)
    assert torch.allclose(steps[4], alone, atol=1e-6)
    towards = [cosine(step, alone) for step in steps]
    assert towards == sorted(towards)


def test_several_pictures_are_one_of_their_mean(model: Model) -> None:
    first, second, centre = torch.randn(3, model.head.config.d_image)
    both = query_vector(model, Query([first, second], "is red"), centre)
    assert torch.equal(both, model.encode_query((first + second) / 2, ["is red"])[0])


def test_what_is_not_wanted_is_farther_away(model: Model) -> None:
    picture, centre = torch.randn(2, model.head.config.d_image)
    unwanted = model.encode_query(picture, ["has stripes"])[0]
    plain = query_vector(model, Query([picture], "is red"), centre)
    without = query_vector(model, Query([picture], "is red", "has stripes"), centre)
    assert cosine(without, unwanted) < cosine(plain, unwanted)
    assert float(without.norm()) == pytest.approx(1)


def test_an_empty_query_is_refused(model: Model) -> None:
    with pytest.raises(UserError, match="the query is empty"):
        query_vector(model, Query(without="stripes"), torch.zeros(model.head.config.d_image))
    assert Query([torch.zeros(1)], "is red").plain
    assert not Query([torch.zeros(1)], "is red", image_weight=0.6).plain


def test_a_copy_answers_alike(tmp_path: Path, model: Model) -> None:
    model.copy_to(tmp_path / "copy")
    copy = Model.open_copy(tmp_path / "copy", CPU)
    picture = torch.randn(model.head.config.d_image)
    assert copy.key == model.key
    assert torch.equal(
        copy.encode_query(picture, ["is red"]), model.encode_query(picture, ["is red"])
    )
