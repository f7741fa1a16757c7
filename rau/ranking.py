"""Exact ranking in blocks of queries: ranks by counting, average precision only where it is asked.

Ties are broken by the gallery's order, which is by ascending image id.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rau.errors import UserError

BLOCK_BYTES = 256 * 2**20
GALLERY_ROWS = 16384
MAP_AT = (5, 10, 25, 50)
MISSING = 0


@dataclass(frozen=True)
class Ranking:
    """Results of Q queries.

    Attributes:
        target_rank: 1-based, `MISSING` where the target is not there, (Q,).
        subset_rank: 1-based among the query's subset, (Q,), or None.
        subset_top: places of the query's subset, best first, (Q, m), -1 pads, or None.
        top: places in the gallery, best first, (Q, k); -1 past the gallery's end.
        scores: their cosines, (Q, k); NaN past the gallery's end.
        average_precision: by cut-off, None for the whole gallery, in 0..1, (Q,) each; empty where
            relevance is not known.
        r_precision: precision at the number of relevant images, in 0..1, (Q,), or None.
    """

    target_rank: NDArray[np.int64]
    subset_rank: NDArray[np.int64] | None
    subset_top: NDArray[np.int64] | None
    top: NDArray[np.int64]
    scores: NDArray[np.float32]
    average_precision: dict[int | None, NDArray[np.float64]]
    r_precision: NDArray[np.float64] | None


def rank(
    queries: Tensor,
    gallery: Tensor,
    target: Tensor,
    removed: Tensor,
    top_k: int,
    relevant: Sequence[Sequence[int]] | None = None,
    subset: Tensor | None = None,
    block: int | None = None,
) -> Ranking:
    """Rank the whole gallery for every query by cosine.

    Args:
        queries: (Q, d), normalised here.
        gallery: (G, d), float16 or float32, normalised here; cast in chunks, never copied whole.
        target: place of the target, (Q,); -1 where it is not there.
        removed: place of an image to take out of the ranking and the truth, (Q,); -1 for none.
        top_k: how many to list.
        relevant: places of all true answers of each query, or None.
        subset: places among which the target is also ranked (CIRR's image set), (Q, m); -1 pads.
        block: queries at a time; None for as many as fit `BLOCK_BYTES` of scores.

    Raises:
        UserError: when a score is not finite, or a query's target is the image taken out.
    """
    if bool(((target == removed) & (target >= 0)).any()):
        row = int(((target == removed) & (target >= 0)).nonzero()[0])
        raise UserError(f"query row {row}: its target is its own reference, which is removed")
    count = len(gallery)
    rows = block or max(1, min(1024, BLOCK_BYTES // (4 * max(1, count))))
    parts = []
    for start in range(0, len(queries), rows):
        stop = start + rows
        scores = _scores(F.normalize(queries[start:stop].float(), dim=-1), gallery)
        truth = None if relevant is None else relevant[start:stop]
        few = None if subset is None else subset[start:stop]
        goal = target[start:stop]
        parts.append(_rank_block(scores, goal, removed[start:stop], top_k, truth, few))
    return _join(parts, top_k)


def _scores(queries: Tensor, gallery: Tensor) -> Tensor:
    """Cosines (B, G) of unit queries with the gallery."""
    scores = queries.new_empty(len(queries), len(gallery))
    for start in range(0, len(gallery), GALLERY_ROWS):
        chunk = F.normalize(gallery[start : start + GALLERY_ROWS].float(), dim=-1)
        torch.mm(queries, chunk.T, out=scores[:, start : start + len(chunk)])
    if not bool(torch.isfinite(scores).all()):
        raise UserError("a score is not finite; the head or the features are damaged, train again")
    return scores


def _rank_block(
    scores: Tensor,
    target: Tensor,
    removed: Tensor,
    top_k: int,
    relevant: Sequence[Sequence[int]] | None,
    subset: Tensor | None,
) -> Ranking:
    gone = removed >= 0
    scores[gone.nonzero().flatten(), removed[gone]] = -torch.inf
    top, values = _top(scores, min(top_k, scores.shape[1]))
    precision: dict[int | None, NDArray[np.float64]] = {}
    r_precision = None
    if relevant is not None:
        precision, r_precision = _precisions(scores, removed.tolist(), relevant)
    return Ranking(
        _target_ranks(scores, target).cpu().numpy(),
        None if subset is None else _subset_ranks(scores, target, subset).cpu().numpy(),
        None if subset is None else _subset_top(scores, subset).cpu().numpy(),
        top.masked_fill(values == -torch.inf, -1).cpu().numpy(),
        values.masked_fill(values == -torch.inf, torch.nan).cpu().numpy(),
        precision,
        r_precision,
    )


def _target_ranks(scores: Tensor, target: Tensor) -> Tensor:
    """1 + the number of images ahead of the target, without sorting, (B,)."""
    own = scores.gather(1, target.clamp(min=0)[:, None])
    places = torch.arange(scores.shape[1], device=scores.device)
    ahead = (scores > own).sum(1) + ((scores == own) & (places < target[:, None])).sum(1)
    return torch.where(target >= 0, ahead + 1, MISSING)


def _subset_ranks(scores: Tensor, target: Tensor, subset: Tensor) -> Tensor:
    """1 + the number of the subset's images ahead of the target, (B,), under the same tie rule."""
    own = scores.gather(1, target.clamp(min=0)[:, None])
    theirs = scores.gather(1, subset.clamp(min=0))
    ahead = (theirs > own) | ((theirs == own) & (subset < target[:, None]))
    rank = (ahead & (subset >= 0)).sum(1) + 1
    return torch.where(target >= 0, rank, MISSING)


def _subset_top(scores: Tensor, subset: Tensor) -> Tensor:
    """The subset by score under the same tie rule, what pads it last, (B, m)."""
    places = subset.sort(dim=1).values
    theirs = scores.gather(1, places.clamp(min=0)).masked_fill(places < 0, -torch.inf)
    return places.gather(1, theirs.argsort(dim=1, descending=True, stable=True))


def _top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of each row under the tie rule: places and scores, (B, k) each.

    `topk` finds the k-th score; which of those that tie with it belong is decided by place.
    """
    values, places = scores.topk(k, dim=1)
    last = values[:, -1:]
    tied = (scores == last).sum(1) > (values == last).sum(1)
    for row in tied.nonzero().flatten().tolist():
        above = (scores[row] > last[row]).nonzero().flatten()
        equal = (scores[row] == last[row]).nonzero().flatten()
        places[row] = torch.cat([above, equal])[:k]
        values[row] = scores[row, places[row]]
    places, order = places.sort(dim=1)
    values, best = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return places.gather(1, best), values


def _precisions(
    scores: Tensor, removed: Sequence[int], relevant: Sequence[Sequence[int]]
) -> tuple[dict[int | None, NDArray[np.float64]], NDArray[np.float64]]:
    """Average precision by cut-off and R-precision of each row; 0 where no answer is there."""
    # The place of every image in the ranking, by a stable sort: ties fall in gallery order.
    order = scores.argsort(dim=1, descending=True, stable=True)
    ranks = torch.empty_like(order)
    places = torch.arange(1, scores.shape[1] + 1, device=scores.device).expand_as(order)
    ranks.scatter_(1, order, places)
    cuts: tuple[int | None, ...] = (None, *MAP_AT)
    precision: dict[int | None, NDArray[np.float64]] = {
        cut: np.zeros(len(relevant)) for cut in cuts
    }
    r_precision = np.zeros(len(relevant))
    table = ranks.cpu().numpy()
    for row, answers in enumerate(relevant):
        true = sorted(set(answers) - {removed[row]})
        if not true:
            continue
        found = np.sort(table[row, true])
        hits = np.arange(1, len(found) + 1) / found
        for cut in cuts:
            inside = hits if cut is None else hits[found <= cut]
            precision[cut][row] = inside.sum() / min(cut or len(true), len(true))
        r_precision[row] = (found <= len(true)).mean()
    return precision, r_precision


def _join(parts: Sequence[Ranking], top_k: int) -> Ranking:
    if not parts:
        return Ranking(
            np.zeros(0, np.int64),
            None,
            None,
            np.zeros((0, top_k), np.int64),
            np.zeros((0, top_k), np.float32),
            {},
            None,
        )
    subset_ranks = [part.subset_rank for part in parts if part.subset_rank is not None]
    subset_tops = [part.subset_top for part in parts if part.subset_top is not None]
    r_precisions = [part.r_precision for part in parts if part.r_precision is not None]
    return Ranking(
        np.concatenate([part.target_rank for part in parts]),
        np.concatenate(subset_ranks) if subset_ranks else None,
        np.concatenate(subset_tops) if subset_tops else None,
        np.concatenate([part.top for part in parts]),
        np.concatenate([part.scores for part in parts]),
        {
            cut: np.concatenate([part.average_precision[cut] for part in parts])
            for cut in parts[0].average_precision
        },
        np.concatenate(r_precisions) if r_precisions else None,
    )
