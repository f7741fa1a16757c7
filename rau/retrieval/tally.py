"""Rankings of a task in a larger gallery, of which a block at a time is seen.

A block only adds to counts: how many of its images come before each answer of a query. They are
found by ranking block and answers together, so that scores and ties are those of
`rau.retrieval.ranking`. Counts of different blocks add up, wherever they were made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from rau.retrieval.metrics import MISSING
from rau.retrieval.ranking import Ranking, precisions, rank, true_answers
from rau.retrieval.tasks import Encoded, Ranked, Task

Names = NDArray[Any]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Tally:
    """What some images do to the rankings of a task.

    Attributes:
        ahead: how many come before the target and before each of the `true_answers`, (R, 1 + m).
        names: ids of the k best of them, best first, (R, k); anything past their end.
        scores: their cosines, (R, k); -inf past their end.
    """

    ahead: NDArray[np.int64]
    names: Names
    scores: Scores

    @classmethod
    def nothing(cls, rows: int, answers: int, k: int) -> Self:
        """Of no images."""
        names, scores = np.full((rows, k), "", object), np.full((rows, k), -np.inf, np.float32)
        return cls(np.zeros((rows, 1 + answers), np.int64), names, scores)

    def __add__(self, other: Self) -> Self:
        """Of the images of both, none of which is in both."""
        names = np.concatenate([self.names, other.names], axis=1)
        scores = np.concatenate([self.scores, other.scores], axis=1)
        best = _best(names, scores, self.names.shape[1])
        return type(self)(self.ahead + other.ahead, *best)


@dataclass(frozen=True)
class Question:
    """A task as a method asks it.

    Attributes:
        queries: vectors of its rows, (R, d).
        answers: vectors of all images of the gallery that answer one, (A, d).
        ids: theirs, ascending.
        target: place among the answers, (R,); -1 for a miss.
        truth: likewise, of the `true_answers`, (R, m); m = 0 where they are not known.
        alone: how many answers come before each, as `Tally.ahead`.
    """

    queries: Tensor
    answers: Tensor
    ids: pa.Array
    target: Tensor
    truth: Tensor
    alone: NDArray[np.int64]

    @classmethod
    def of(cls, task: Task, encoded: tuple[Encoded, Encoded]) -> Self:
        """Of a task whose rows and gallery are encoded."""
        (queries, _), (gallery, _) = encoded

        def on_device(places: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(places).to(gallery.device)

        target = on_device(task.ranked_target)
        truth = target.new_empty(len(target), 0)
        if task.relevant is not None:
            truth = true_answers(on_device(task.relevant), on_device(task.removed))
        # The gallery's first image is there in any case: no product is of nothing.
        found = np.unique([0, *target.tolist(), *truth.flatten().tolist()])
        there = on_device(found[found >= 0])
        # From places in the gallery; -1 leads to the last.
        place = target.new_full((len(task.gallery) + 1,), -1)
        place[there] = torch.arange(len(there), device=place.device)
        target, truth, nowhere = place[target], place[truth], torch.full_like(target, -1)
        answers, ids = gallery[there], [task.gallery_ids[one] for one in there.tolist()]
        alone = _ahead(rank(queries, answers, target, nowhere, 1, truth))
        return cls(queries, answers, pa.array(ids, pa.string()), target, truth, alone)

    def nothing(self, top_k: int) -> Tally:
        """What no other images do."""
        return Tally.nothing(len(self.truth), self.truth.shape[1], top_k)

    def tally(self, ids: pa.Array, vectors: Tensor, top_k: int) -> Tally:
        """What other images do: N ids and vectors (N, d), none of which is an answer."""
        every = pa.concat_arrays([ids, self.ids])
        order = torch.from_numpy(pc.sort_indices(every).to_numpy().astype(np.int64))
        order = order.to(vectors.device)
        # The last is where -1 leads.
        place = torch.cat([order.argsort()[len(ids) :], order.new_tensor([-1])])
        found = rank(
            self.queries,
            torch.cat([vectors, self.answers])[order],
            place[self.target],
            torch.full_like(self.target, -1),
            # An answer may be what a query takes out of its list.
            top_k + 1,
            place[self.truth],
        )
        places = order.cpu().numpy()[found.top]
        ours = (found.top >= 0) & (places < len(ids))
        names = np.array(every.to_pylist(), object)[places]
        scores = np.where(ours, found.scores, np.float32(-np.inf))
        return Tally(_ahead(found) - self.alone, *_best(names, scores, top_k))


def enlarged(
    task: Task, ranked: Mapping[str, Ranked], tallies: Mapping[str, Tally]
) -> tuple[Task, dict[str, Ranked]]:
    """A task and its rankings, by method, in its gallery and the tallies' images together.

    Of these images only those that are listed are in the new task, behind its gallery, whose places
    stay.
    """
    lists = {name: _lists(task, one.ranking, tallies[name]) for name, one in ranked.items()}
    listed = {name for names, scores in lists.values() for name in names[scores > -np.inf]}
    ids = [*task.gallery_ids, *sorted(listed.difference(task.gallery_ids))]
    place = {name: number for number, name in enumerate(ids)}
    found = {}
    for method, (names, scores) in lists.items():
        old = ranked[method].ranking
        target, truth = _later(old.target_rank[:, None], tallies[method].ahead[:, :1]), None
        if old.relevant_rank is not None:
            truth = _later(old.relevant_rank, tallies[method].ahead[:, 1:])
        average, r_precision = precisions(truth)
        top = np.full(names.shape, -1)
        there = scores > -np.inf
        top[there] = [place[name] for name in names[there]]
        new = replace(
            old,
            target_rank=target[:, 0],
            top=top,
            scores=np.where(there, scores, np.float32(np.nan)),
            relevant_rank=truth,
            average_precision=average,
            r_precision=r_precision,
        )
        found[method] = replace(ranked[method], ranking=new)
    return replace(task, gallery_ids=ids), found


def _lists(task: Task, ranking: Ranking, tally: Tally) -> tuple[Names, Scores]:
    """The best of the gallery and of the tally's images together."""
    none = ranking.top < 0
    own = np.array(task.gallery_ids, object)[ranking.top]
    scores = np.where(none, np.float32(-np.inf), ranking.scores)
    return _best(
        np.concatenate([own, tally.names], axis=1),
        np.concatenate([scores, tally.scores], axis=1),
        tally.names.shape[1],
    )


def _later(ranks: NDArray[np.int64], ahead: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(ranks == MISSING, MISSING, ranks + ahead)


def _ahead(ranking: Ranking) -> NDArray[np.int64]:
    """How many images come before the target and each true answer, (R, 1 + m); -1 for a miss."""
    truth = ranking.relevant_rank
    ranks = [ranking.target_rank[:, None], *([] if truth is None else [truth])]
    return np.concatenate(ranks, axis=1) - 1


def _best(names: Names, scores: Scores, k: int) -> tuple[Names, Scores]:
    """The k best of each row, of equal scores the smaller id first, (R, k) each, with pads."""
    order = np.argsort(-scores, axis=1, kind="stable")
    names = np.take_along_axis(names, order, axis=1)
    scores = np.take_along_axis(scores, order, axis=1)
    level = (scores[:, 1:] == scores[:, :-1]) & (scores[:, 1:] > -np.inf)
    for row in np.flatnonzero(level.any(axis=1)):
        end = np.count_nonzero(scores[row] > -np.inf)
        # By score, then by id.
        order = np.lexsort((names[row, :end].astype(str), -scores[row, :end]))
        names[row, :end] = names[row, order]
    short = max(0, k - scores.shape[1])
    names = np.pad(names[:, :k], ((0, 0), (0, short)), constant_values="")
    return names, np.pad(scores[:, :k], ((0, 0), (0, short)), constant_values=-np.inf)
