"""Rankings in a gallery that is seen a block at a time, against those in the whole of it."""

from functools import reduce
from operator import add
from random import Random

import numpy as np
import pyarrow as pa
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rau.features.table import Features
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.metrics import per_query
from rau.retrieval.ranking import Ranking
from rau.retrieval.tally import Question, Tally, enlarged
from rau.retrieval.tasks import Ranked, Task, build_task, encode_all, run
from rau.schemas import QueryRow

CAPTION = "is red"


class Shifted:
    """Image and caption added up, against images; nothing to train."""

    def encode_query(self, reference: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return reference + text, text.new_zeros(len(text))

    def encode_gallery(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image, image.new_zeros(len(image))


class Setup:
    """A gallery and distractors.

    Args:
        known: whether all true answers are.
        removed: whether the reference is taken out of a list.
        width: of features; of four values cosines are exact in float32, and many of them equal.
    """

    def __init__(
        self,
        seed: int,
        images: int,
        distractors: int,
        known: bool = True,
        removed: bool = True,
        width: int = 4,
    ) -> None:
        rng = np.random.default_rng(seed)
        names = [f"é{n:x}" if n % 3 else f"{n}" for n in rng.permutation(2000)]
        self.gallery = sorted(names[:images])
        self.others = names[images : images + distractors]
        shape = images + distractors, width
        matrix = rng.choice([-1.0, 1.0], shape) if width == 4 else rng.normal(size=shape)
        # Every other distractor is the copy of an image.
        copies = matrix[images::2]
        copies[:] = matrix[rng.integers(0, images, len(copies))]
        matrix = matrix.astype(np.float32)
        self.features = FeatureSet.on(
            torch.device("cpu"),
            Features([*self.gallery, *self.others], matrix, {}),
            Features([CAPTION], np.zeros((1, width), np.float32), {}),
        )
        self.queries = [self._query(rng, number, known) for number in range(12)]
        self.removed = removed

    def _query(self, rng: np.random.Generator, number: int, known: bool) -> QueryRow:
        some = rng.choice(self.gallery, 4).tolist()
        # Some have no target, and some lack the image of their reference.
        reference = "nowhere" if rng.random() < 0.1 else some[0]
        return {
            "query_id": str(number),
            "split": "val",
            "category": "all",
            "reference_id": reference,
            "target_id": None if rng.random() < 0.1 else some[1],
            "captions": [CAPTION],
            "members": None,
            "relevant": some[:3] if known else None,
        }

    def task(self, gallery: list[str]) -> Task:
        return build_task("all", self.queries, gallery, "forward", self.removed, self.features)

    def whole(self, k: int) -> tuple[Task, Ranked]:
        task = self.task([*self.gallery, *self.others])
        return task, run(task, Shifted(), self.features, k)

    def tallies(self, sizes: list[int], k: int) -> list[Tally]:
        """Of blocks of these sizes and one of the rest."""
        (encoded,) = encode_all([self.task(self.gallery)], Shifted(), self.features)
        question = Question.of(self.task(self.gallery), encoded)
        found, rest = [question.nothing(k)], self.others
        for size in [*sizes, len(rest)]:
            block, rest = rest[:size], rest[size:]
            rows = self.features.images.rows(block, "images")
            if len(block):
                vectors = self.features.image_rows(torch.from_numpy(rows))
                found.append(question.tally(pa.array(block, pa.string()), vectors, k))
        return found

    def in_blocks(self, tallies: list[Tally], k: int) -> tuple[Task, Ranked]:
        task = self.task(self.gallery)
        ranked = {"one": run(task, Shifted(), self.features, k)}
        larger, found = enlarged(task, ranked, {"one": reduce(add, tallies)})
        return larger, found["one"]


def assert_same(ours: tuple[Task, Ranked], whole: tuple[Task, Ranked], k: int) -> None:
    (task, one), (expected_task, other) = ours, whole
    np.testing.assert_equal(one.ranking.target_rank, other.ranking.target_rank)
    values, expected = (per_query(r.ranking, t.usable) for t, r in (ours, whole))
    assert values.keys() == expected.keys()
    for name in values:
        np.testing.assert_array_equal(values[name], expected[name], err_msg=name)
    assert listed(task, one.ranking) == listed(expected_task, other.ranking)
    shown = other.ranking.scores.shape[1]
    np.testing.assert_equal(one.ranking.scores[:, :shown], other.ranking.scores)
    assert one.ranking.top.shape == (len(task.query_ids), k)


def listed(task: Task, ranking: Ranking) -> list[list[str]]:
    return [[task.gallery_ids[place] for place in row if place >= 0] for row in ranking.top]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, 40),
    distractors=st.integers(0, 400),
    sizes=st.lists(st.integers(1, 200), max_size=4),
    k=st.integers(1, 60),
    known=st.booleans(),
    removed=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_blocks_rank_as_the_whole_gallery(
    seed: int,
    images: int,
    distractors: int,
    sizes: list[int],
    k: int,
    known: bool,
    removed: bool,
    order: Random,
) -> None:
    synthetic = Setup(seed, images, distractors, known, removed)
    tallies = synthetic.tallies(sizes, k)
    # Counts add up in any order.
    order.shuffle(tallies)
    assert_same(synthetic.in_blocks(tallies, k), synthetic.whole(k), k)


def test_copies_of_an_answer_tie_with_it_in_every_block() -> None:
    synthetic = Setup(3, 300, 600, width=67)
    for sizes in ([], [1, 255, 7], [256]):
        assert_same(synthetic.in_blocks(synthetic.tallies(sizes, 20), 20), synthetic.whole(20), 20)


def test_a_gallery_that_answers_nothing_still_lists_the_best() -> None:
    synthetic = Setup(1, 5, 30)
    for query in synthetic.queries:
        query["target_id"], query["relevant"] = None, []
    tallies = synthetic.tallies([7], 9)
    assert not any(tally.ahead.any() for tally in tallies)
    assert_same(synthetic.in_blocks(tallies, 9), synthetic.whole(9), 9)
