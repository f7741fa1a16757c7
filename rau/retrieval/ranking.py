"""Exact ranking by cosine. Ties are broken by the gallery's order, by ascending image id."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rau.errors import UserError
from rau.retrieval.metrics import MISSING

# Queries and images in one matrix product: the larger, the nearer it is to its best speed.
BLOCK, SLAB = 1024, 16384
# Scores that are held at a time (512 MiB), and that are ranked at a time.
HELD, STRIP = 2**27, 2**22
# Queries and images are padded to multiples, for kernels sum in another order where there are few.
ROWS, COLUMNS = 16, 256
# Images whose maximum says whether any of them can be among the best.
GROUP = 8
MAP_AT = (5, 10, 25, 50)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Results of Q queries.

    Attributes:
        target_rank: 1-based, `MISSING` where the target is not in the gallery, (Q,).
        subset_rank: 1-based among the query's subset, (Q,), or None.
        subset_top: places of the query's subset, best first, (Q, m), -1 pads, or None.
        top: places in the gallery, best first, (Q, k); -1 past the gallery's end.
        scores: their cosines, (Q, k); NaN past the gallery's end.
        relevant_rank: 1-based, of the `true_answers`, `MISSING` where one pads, (Q, m); or None.
        average_precision: by cut-off, None for the whole gallery, in 0..1, (Q,) each; or empty.
        r_precision: precision at the number of relevant images, in 0..1, (Q,), or None.
    """

    target_rank: NDArray[np.int64]
    subset_rank: NDArray[np.int64] | None
    subset_top: NDArray[np.int64] | None
    top: NDArray[np.int64]
    scores: NDArray[np.float32]
    relevant_rank: NDArray[np.int64] | None
    average_precision: dict[int | None, Floats]
    r_precision: Floats | None


def rank(
    queries: Tensor,
    gallery: Tensor,
    target: Tensor,
    removed: Tensor,
    top_k: int,
    relevant: Tensor | None = None,
    subset: Tensor | None = None,
    block: int = BLOCK,
    slab: int = SLAB,
) -> Ranking:
    """Rank the whole gallery for every query by cosine.

    Args:
        queries: (Q, d), normalised here.
        gallery: (G, d), float16 or float32, normalised here; cast in slabs, never copied whole.
        target: place of the target, (Q,); -1 where it is not in the gallery.
        removed: place of an image to take out of the ranking and the truth, (Q,); -1 for none.
        top_k: how many to list; fewer where the gallery has fewer.
        relevant: places of all true answers of each query, (Q, m); -1 pads; or None.
        subset: places among which the target is also ranked (CIRR's image set), (Q, m); -1 pads.
        block, slab: queries and images in one product, up to a multiple of `ROWS`, `COLUMNS`.

    Raises:
        UserError: when a vector is not finite, or a query's target is the image taken out.
    """
    same = ((target == removed) & (target >= 0)).nonzero().flatten().tolist()
    if same:
        raise UserError(f"query row {same[0]}: its target is its own reference, which is removed")
    goal, out = target[:, None], removed[:, None]
    truth = goal[:, :0] if relevant is None else true_answers(relevant, removed)
    members = goal if subset is None else subset.masked_fill(subset == out, -1).sort(dim=1).values
    ranked, k = torch.cat([goal, truth], dim=1), min(top_k, len(gallery))
    ahead, top = torch.empty_like(ranked), ranked.new_empty(len(queries), k)
    own, theirs, values = (torch.empty_like(t, dtype=torch.float32) for t in (goal, members, top))
    for rows, scores in _scores(queries, gallery, block, slab):
        taken = (removed[rows] >= 0).nonzero().flatten()
        scores[taken, removed[rows][taken]] = -torch.inf
        ahead[rows] = _ahead(scores, ranked[rows])
        top[rows], values[rows] = _best(scores, k)
        own[rows] = scores.gather(1, goal[rows].clamp(min=0))
        theirs[rows] = scores.gather(1, members[rows].clamp(min=0))
    ranks = torch.where(ranked >= 0, ahead + 1, MISSING).cpu().numpy()
    theirs[members < 0] = -torch.inf
    better = (theirs > own) | ((theirs == own) & (members < goal))
    subset_rank = torch.where(target >= 0, better.sum(1) + 1, MISSING)
    order = theirs.argsort(dim=1, descending=True, stable=True)
    of_truth = None if relevant is None else ranks[:, 1:]
    none = values == -torch.inf
    return Ranking(
        ranks[:, 0],
        None if subset is None else subset_rank.cpu().numpy(),
        None if subset is None else members.gather(1, order).cpu().numpy(),
        top.masked_fill(none, -1).cpu().numpy(),
        values.masked_fill(none, torch.nan).cpu().numpy(),
        of_truth,
        *precisions(of_truth),
    )


def true_answers(relevant: Tensor, removed: Tensor) -> Tensor:
    """Each place of a row once, ascending behind pads of -1, without the one removed, (Q, m)."""
    places = relevant.masked_fill(relevant == removed[:, None], -1).sort(dim=1).values
    again = places[:, 1:] == places[:, :-1]
    places = torch.cat([places[:, :1], places[:, 1:].masked_fill(again, -1)], dim=1)
    return places.sort(dim=1).values


def _scores(
    queries: Tensor, gallery: Tensor, block: int, slab: int
) -> Iterator[tuple[slice, Tensor]]:
    """Cosines of a few queries at a time with the whole gallery: which queries, and (B, W).

    W is G rounded up to a multiple of `COLUMNS`; past the gallery's end scores are -inf. A score
    does not depend on the block or slab in which it is computed.
    """
    width = _round_up(len(gallery), COLUMNS)
    block = _round_up(max(1, min(block, len(queries), HELD // width)), ROWS)
    slab = min(_round_up(slab, COLUMNS), width)
    strip = max(1, STRIP // width)
    asked = queries.new_zeros(_round_up(len(queries), ROWS), queries.shape[1], dtype=torch.float32)
    _unit(queries, asked[: len(queries)])
    images, table = asked.new_zeros(slab, queries.shape[1]), asked.new_empty(block, width)
    for first in range(0, len(queries), block):
        some = asked[first : first + block]
        for start in range(0, len(gallery), slab):
            if first == 0 or slab < width:
                part = gallery[start : start + slab]
                _unit(part, images[: len(part)])
            columns = table[: len(some), start : start + slab]
            torch.mm(some, images[: columns.shape[1]].T, out=columns)
        table[:, len(gallery) :] = -torch.inf
        for row in range(first, min(first + block, len(queries)), strip):
            rows = slice(row, min(row + strip, first + block, len(queries)))
            yield rows, table[row - first : rows.stop - first]


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _unit(vectors: Tensor, out: Tensor) -> None:
    """Write unit vectors of (N, d) into `out`, float32 of the same shape; zeros stay zeros."""
    norms = torch.linalg.vector_norm(out.copy_(vectors), dim=1, keepdim=True)
    if not bool(torch.isfinite(norms).all()):
        raise UserError("a score is not finite; the head or the features are damaged, train again")
    out.div_(norms.clamp(min=1e-12))


def _ahead(scores: Tensor, place: Tensor) -> Tensor:
    """How many images come before those at `place`, (B, m); any number where that is negative."""
    own = scores.gather(1, place.clamp(min=0))
    if place.shape[1] == 1:
        # In a chunk before its own an equal score suffices, in one behind it does not.
        table = scores.view(len(scores), -1, COLUMNS)
        chunk, inside = place // COLUMNS, place % COLUMNS
        earlier = torch.arange(table.shape[1], device=scores.device) < chunk
        level = torch.where(earlier, own.nextafter(own.new_tensor(-torch.inf)), own)
        # As float32, which sums several times faster than bool.
        better = torch.gt(table, level[:, :, None], out=torch.empty_like(table)).sum(2)
        here = table[torch.arange(len(table), device=scores.device), chunk[:, 0]]
        equal = (here == own) & (torch.arange(COLUMNS, device=scores.device) < inside)
        return (better.long().sum(1) + equal.sum(1))[:, None]
    # numpy sorts without the places, which takes torch a seventh of the time.
    ladder = np.sort(scores.numpy()) if scores.device.type == "cpu" else scores.sort(dim=1).values
    ladder = torch.as_tensor(ladder)
    at_most = torch.searchsorted(ladder, own, right=True)
    tied = (at_most - torch.searchsorted(ladder, own) > 1) & (place >= 0)
    ahead = scores.shape[1] - at_most
    for row, column in tied.nonzero().tolist():
        ahead[row, column] += (scores[row, : place[row, column]] == own[row, column]).sum()
    return ahead


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of each row, best first: places and scores, (B, k) each."""
    places = _largest(scores, min(k + 1, scores.shape[1]))
    values = scores.gather(1, places)
    tied = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)
    values, places = values[:, :k], places[:, :k]
    for row in tied[:, k - 1 :].any(1).nonzero().flatten().tolist():
        # Of the images that equal the last of the list, the first in the gallery belong.
        above, equal = scores[row] > values[row, -1], scores[row] == values[row, -1]
        places[row] = torch.cat([above.nonzero(), equal.nonzero()])[:k, 0]
    if bool(tied.any()):
        places = places.sort(dim=1).values
        values, order = scores.gather(1, places).sort(dim=1, descending=True, stable=True)
        places = places.gather(1, order)
    return places, values


def _largest(scores: Tensor, k: int) -> Tensor:
    """Places of the k largest of each row, largest first, equal ones in any order, (B, k)."""
    count, rest = divmod(scores.shape[1], GROUP)
    if rest or count < 2 * k:
        return scores.topk(k, dim=1).indices
    # They lie in the k groups with the largest maxima. A group holds every count-th image.
    groups = _largest(scores.view(len(scores), GROUP, count).amax(1), k)
    steps = torch.arange(0, scores.shape[1], count, device=scores.device)
    places = (groups[:, None] + steps[:, None]).flatten(1)
    return places.gather(1, scores.gather(1, places).topk(k, dim=1).indices)


def precisions(
    ranks: NDArray[np.int64] | None,
) -> tuple[dict[int | None, Floats], Floats | None]:
    """Average precision by cut-off and R-precision, of ranks of true answers (Q, m), 0 pads;
    nothing where they are not known."""
    if ranks is None:
        return {}, None
    true = (ranks > 0).sum(1)
    found = np.sort(np.where(ranks > 0, ranks, np.inf), axis=1)
    hits = np.arange(1, found.shape[1] + 1) / found
    precision: dict[int | None, Floats] = {}
    for cut in (None, *MAP_AT):
        limit = cut or np.inf
        inside = np.where(found <= limit, hits, 0).sum(1)
        precision[cut] = inside / np.minimum(true, limit).clip(min=1)
    return precision, (found <= true[:, None]).sum(1) / true.clip(min=1)
