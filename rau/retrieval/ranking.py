"""Exact ranking: ranks are counted, never sorted, and memory is bounded by a slab of the gallery.

A slab is cast and normalised once and multiplied with one block of queries after another, which
are all that is held of the scores. Ties are broken by the gallery's order, which is by ascending
image id.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rau.errors import UserError

# Of queries and of images at a time: the larger, the nearer is the product to its best speed.
BLOCK = 1024
SLAB = 16384
# Images in one matrix product. All have this shape, for kernels may round by shape.
PIECE = 2048
# Images in one comparison; a slab is padded to a multiple.
CHUNK = 256
# Images whose maximum says whether any of them can be among the best.
GROUP = 8
# Scores compared at a time.
COMPARED = 2**19
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
    relevant: Tensor | None = None,
    subset: Tensor | None = None,
    block: int = BLOCK,
    slab: int = SLAB,
) -> Ranking:
    """Rank the whole gallery for every query by cosine.

    Args:
        queries: (Q, d), normalised here.
        gallery: (G, d), float16 or float32, normalised here; cast in slabs, never copied whole.
        target: place of the target, (Q,); -1 where it is not there.
        removed: place of an image to take out of the ranking and the truth, (Q,); -1 for none.
        top_k: how many to list; fewer where the gallery has fewer.
        relevant: places of all true answers of each query, (Q, m); -1 pads; or None.
        subset: places among which the target is also ranked (CIRR's image set), (Q, m); -1 pads.
        block: queries at a time.
        slab: images at a time.

    Raises:
        UserError: when a vector is not finite, or a query's target is the image taken out.
    """
    if bool(((target == removed) & (target >= 0)).any()):
        row = int(((target == removed) & (target >= 0)).nonzero()[0])
        raise UserError(f"query row {row}: its target is its own reference, which is removed")
    asked = _unit(queries, torch.empty_like(queries, dtype=torch.float32))
    truth = None if relevant is None else _truth(relevant, removed)
    k = min(top_k, len(gallery))
    starts = range(0, max(1, len(queries)), block)
    blocks = []
    for rows in (slice(start, start + block) for start in starts):
        few = None if subset is None else subset[rows].sort(dim=1).values
        answers = None if truth is None else truth[rows]
        blocks.append(_Block(asked[rows], target[rows], removed[rows], answers, few, k))
    sheet = _Sheet(gallery, min(block, len(queries)), min(slab, len(gallery)))
    if len(gallery) > slab:
        for part in blocks:
            part.know(sheet)
    for start in range(0, len(gallery), slab):
        sheet.load(gallery[start : start + slab])
        for part in blocks:
            part.add(sheet.scores(part.queries), start, sheet.count)
    return _join([part.ranking() for part in blocks])


def _unit(vectors: Tensor, out: Tensor) -> Tensor:
    """Write unit vectors of (N, d) into `out`, float32 of the same shape; zeros stay zeros."""
    out.copy_(vectors)
    norms = torch.linalg.vector_norm(out, dim=1, keepdim=True)
    if not bool(torch.isfinite(norms).all()):
        raise UserError("a score is not finite; the head or the features are damaged, train again")
    return out.div_(norms.clamp(min=1e-12))


def _truth(relevant: Tensor, removed: Tensor) -> Tensor:
    """True answers (Q, m), each once and without the image that is taken out; -1 elsewhere."""
    truth = relevant.sort(dim=1).values
    again = torch.zeros_like(truth, dtype=torch.bool)
    again[:, 1:] = truth[:, 1:] == truth[:, :-1]
    return truth.masked_fill(again | (truth == removed[:, None]), -1)


class _Sheet:
    """The unit vectors of a slab, and room for the scores of one block of queries."""

    def __init__(self, gallery: Tensor, rows: int, slab: int) -> None:
        width = -(-slab // CHUNK) * CHUNK
        self._vectors = torch.empty(width, gallery.shape[1], device=gallery.device)
        self._vectors[slab:] = 0
        self._room = torch.empty(rows, width, device=gallery.device)
        self.slab = slab
        self.gallery = gallery
        self.count = 0

    def load(self, vectors: Tensor) -> None:
        """Take the next images, (N, d), at most a slab."""
        self.count = len(vectors)
        _unit(vectors, self._vectors[: self.count])

    def scores(self, queries: Tensor) -> Tensor:
        """Cosines of (B, d) with the slab, (B, N) and -inf up to a whole chunk; overwritten by the
        next call."""
        width = len(self._vectors)
        for start in range(0, self.count, PIECE):
            # What lies behind the last image is of the slab before, and of no account.
            stop = min(start + PIECE, width)
            piece = self._vectors[start:stop]
            torch.mm(queries, piece.T, out=self._room[: len(queries), start:stop])
        used = -(-self.count // CHUNK) * CHUNK
        found = self._room[: len(queries), :used]
        found[:, self.count :] = -torch.inf
        return found


class _Block:
    """What is known so far of one block of B queries, slab after slab."""

    def __init__(
        self,
        queries: Tensor,
        target: Tensor,
        removed: Tensor,
        truth: Tensor | None,
        subset: Tensor | None,
        k: int,
    ) -> None:
        self.queries = queries
        self._target = target
        self._removed = removed
        self._truth = truth
        self._subset = subset
        self._k = k
        # Images whose own scores are asked for, (B, w), and those scores.
        tables = [table for table in (target[:, None], truth, subset) if table is not None]
        self._wanted = torch.cat(tables, dim=1)
        self._known: Tensor | None = None
        self._ahead = torch.zeros_like(target)
        self._answers_ahead = None if truth is None else torch.zeros_like(truth)
        self._top = target.new_empty(len(target), 0)
        self._values = queries.new_empty(len(target), 0)

    def know(self, sheet: _Sheet) -> None:
        """Score the wanted images before the gallery is gone through slab by slab."""
        known = self.queries.new_full(self._wanted.shape, -torch.inf)
        images = torch.unique(self._wanted[self._wanted >= 0])
        for first in range(0, len(images), sheet.slab):
            some = images[first : first + sheet.slab]
            sheet.load(sheet.gallery[some])
            column = torch.searchsorted(some, self._wanted).clamp(max=len(some) - 1)
            scores = sheet.scores(self.queries).gather(1, column)
            known = torch.where(some[column] == self._wanted, scores, known)
        self._known = known.masked_fill(self._wanted == self._removed[:, None], -torch.inf)

    def add(self, scores: Tensor, start: int, count: int) -> None:
        """Count and list the images of a slab: so many from place `start` of the gallery on."""
        if self._known is not None:
            # An image has one score, so that the count agrees with itself.
            row, column, place = _inside(self._wanted, start, count)
            scores[row, place] = self._known[row, column]
        row, _, place = _inside(self._removed[:, None], start, count)
        scores[row, place] = -torch.inf
        if self._known is None:
            known = scores.gather(1, self._wanted.clamp(min=0))
            self._known = known.masked_fill(self._wanted < 0, -torch.inf)
        own, place = self._known, self._wanted - start
        self._ahead += _ahead(scores, None, own[:, 0], place[:, 0])
        if self._answers_ahead is not None:
            columns = slice(1, 1 + self._answers_ahead.shape[1])
            self._answers_ahead += _answers_ahead(scores, own[:, columns], place[:, columns], count)
        self._list(*_best(scores, min(self._k, scores.shape[1])), start)

    def _list(self, places: Tensor, values: Tensor, start: int) -> None:
        """Merge the best of a slab with those of the slabs before it."""
        places = places + start
        if start > 0:
            # What was listed before has smaller places and goes first among equals.
            places = torch.cat([self._top, places], dim=1)
            values = torch.cat([self._values, values], dim=1)
            values, order = values.sort(dim=1, descending=True, stable=True)
            places = places.gather(1, order)
        self._top, self._values = places[:, : self._k], values[:, : self._k]

    def ranking(self) -> Ranking:
        """The block's results, once every slab was added."""
        there = self._target >= 0
        none = self._values == -torch.inf
        subset_rank = subset_top = None
        if self._subset is not None and self._known is not None:
            theirs = self._known[:, self._known.shape[1] - self._subset.shape[1] :]
            own, place = self._known[:, :1], self._target[:, None]
            ahead = (theirs > own) | ((theirs == own) & (self._subset < place))
            ahead &= self._subset >= 0
            subset_rank = torch.where(there, ahead.sum(1) + 1, MISSING).cpu().numpy()
            best = theirs.argsort(dim=1, descending=True, stable=True)
            subset_top = self._subset.gather(1, best).cpu().numpy()
        precision: dict[int | None, NDArray[np.float64]] = {}
        r_precision = None
        if self._truth is not None and self._answers_ahead is not None:
            ranks = torch.where(self._truth >= 0, self._answers_ahead + 1, MISSING)
            precision, r_precision = _precisions(ranks.cpu().numpy())
        return Ranking(
            torch.where(there, self._ahead + 1, MISSING).cpu().numpy(),
            subset_rank,
            subset_top,
            self._top.masked_fill(none, -1).cpu().numpy(),
            self._values.masked_fill(none, torch.nan).cpu().numpy(),
            precision,
            r_precision,
        )


def _inside(places: Tensor, start: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of those places that lie in a slab, and where in the slab they lie."""
    row, column = ((places >= start) & (places < start + count)).nonzero(as_tuple=True)
    return row, column, places[row, column] - start


def _ahead(scores: Tensor, rows: Tensor | None, own: Tensor, place: Tensor) -> Tensor:
    """How many of a slab's images come before each of N that have score `own` at `place`, (N,).

    Args:
        scores: of the slab, (B, width).
        rows: which row of the scores each belongs to, (N,); None for one in every row.
        place: counted from the slab's first image, beyond it where the image is in another slab.
    """
    width = scores.shape[1]
    few = max(1, COMPARED // width)
    table = scores.view(len(scores), width // CHUNK, CHUNK)
    numbers = torch.arange(table.shape[1], device=scores.device)
    chunk = place.div(CHUNK, rounding_mode="floor")[:, None]
    # In a chunk before the image's own an equal score suffices, in one behind it does not.
    level = torch.where(
        numbers < chunk, own.nextafter(own.new_tensor(-torch.inf))[:, None], own[:, None]
    )
    found = torch.empty_like(place)
    room = scores.new_empty(min(few, len(own)), *table.shape[1:])
    for start in range(0, len(own), few):
        part = slice(start, start + few)
        some = table[part] if rows is None else table[rows[part]]
        better = torch.gt(some, level[part, :, None], out=room[: len(some)])
        # Counts are whole numbers that float32 holds.
        found[part] = better.sum((1, 2)).long()
    row = torch.arange(len(own), device=scores.device) if rows is None else rows
    within = (chunk >= 0) & (chunk < len(numbers))
    here = table[row, chunk[:, 0].clamp(0, len(numbers) - 1)]
    earlier = torch.arange(CHUNK, device=scores.device) < place[:, None] - chunk * CHUNK
    return found + ((here == own[:, None]) & earlier & within).sum(1)


def _answers_ahead(scores: Tensor, own: Tensor, place: Tensor, count: int) -> Tensor:
    """The same for m images of every row, (B, m) as `own` and `place`, from sorted scores.

    What stands at places before the slab, and is in no slab, gets any number.
    """
    ladder, own = _ascending(scores), own.contiguous()
    at_most = torch.searchsorted(ladder, own, right=True)
    equal = at_most - torch.searchsorted(ladder, own)
    ahead = scores.shape[1] - at_most
    # Among equals the place decides; rare enough to be counted one by one.
    here = (place >= 0) & (place < count)
    row, column = ((equal > here.long()) & (own > -torch.inf)).nonzero(as_tuple=True)
    ahead[row, column] = _ahead(scores, row, own[row, column], place[row, column])
    return ahead


def _ascending(scores: Tensor) -> Tensor:
    """Every row sorted. On the CPU torch sorts places too, which takes seven times as long."""
    if scores.device.type == "cpu":
        return torch.from_numpy(np.sort(scores.numpy(), axis=1))
    return scores.sort(dim=1).values


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of each row under the tie rule: places and scores, (B, k) each."""
    values, places = _largest(scores, min(k + 1, scores.shape[1]))
    ties = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)
    values, places = values[:, :k], places[:, :k]
    # Where the next one is as good as the last, the smaller places belong.
    rows = ties[:, k - 1 :].any(1).nonzero().flatten()
    if len(rows):
        table, last = scores[rows], values[rows, -1:]
        above, equal = table > last, table == last
        room = k - above.sum(1, keepdim=True)
        chosen = above | (equal & (equal.cumsum(1) <= room))
        places[rows] = chosen.nonzero()[:, 1].view(-1, k)
    rows = ties.any(1).nonzero().flatten()
    if len(rows):
        listed = places[rows].sort(dim=1).values
        table, order = scores[rows[:, None], listed].sort(dim=1, descending=True, stable=True)
        places[rows], values[rows] = listed.gather(1, order), table
    return places, values


def _largest(scores: Tensor, k: int, ordered: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest of each row, largest first if `ordered`: scores and places, (B, k) each.

    They lie in the k groups with the largest maxima, found the same way: whatever is in none of
    these has k before it.
    """
    count, rest = divmod(scores.shape[1], GROUP)
    if rest or count < 2 * k:
        values, places = scores.topk(k, dim=1, sorted=ordered)
        return values, places
    # A group holds every count-th image from its own number on: the fastest way to take maxima.
    _, groups = _largest(scores.view(len(scores), GROUP, count).amax(1), k, ordered=False)
    steps = torch.arange(0, scores.shape[1], count, device=scores.device)
    places = (groups[:, None] + steps[:, None]).flatten(1)
    values, best = scores.gather(1, places).topk(k, dim=1, sorted=ordered)
    return values, places.gather(1, best)


def _precisions(
    ranks: NDArray[np.int64],
) -> tuple[dict[int | None, NDArray[np.float64]], NDArray[np.float64]]:
    """Average precision by cut-off and R-precision, 0 where no answer is there.

    Args:
        ranks: of the true answers, (B, m); 0 for none.
    """
    true = (ranks > 0).sum(1)
    # In order, and what pads them behind every cut.
    found = np.sort(np.where(ranks > 0, ranks, np.iinfo(np.int64).max), axis=1)
    hits = np.arange(1, found.shape[1] + 1) / found
    hits[np.arange(found.shape[1]) >= true[:, None]] = 0
    precision: dict[int | None, NDArray[np.float64]] = {}
    for cut in (None, *MAP_AT):
        inside = hits if cut is None else np.where(found <= cut, hits, 0)
        most = true if cut is None else np.minimum(true, cut)
        precision[cut] = inside.sum(1) / np.maximum(most, 1)
    return precision, (found <= true[:, None]).sum(1) / np.maximum(true, 1)


def _join(parts: Sequence[Ranking]) -> Ranking:
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
