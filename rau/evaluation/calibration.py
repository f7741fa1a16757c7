"""How sure a search is: probabilities that were fitted and checked, instead of a score.

A query's scores become shares by a softmax over its best answers, at a temperature fitted to the
right ones (temperature scaling, arXiv 1706.04599). The share of the first k, read through a
monotone map, is the probability that what is wanted is among them (isotonic regression, on bins of
equal mass). Split conformal prediction gives the shortest list that holds it with 90 % (adaptive
sets without randomisation, arXiv 2006.02544). All of it is fitted on queries that the head was not
trained on, and says something of galleries of their kind and size alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from rau.errors import UserError
from rau.files import digest_file, write_json
from rau.params import Section
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.metrics import CUTS
from rau.retrieval.tasks import Method, Task, run_all

FILE = "calibration.json"
MAX_BYTES = 1 << 20
REMEDY = "remove it, or train again"
# What a data set's name follows in a source, and the engine that never misses an answer.
DATASET, EXACT = "data set ", "exact"
# Answers of a query whose scores are looked at.
LISTED = 1000
# Fewer queries say too little. Bins of a map: the fewest queries of one, and how many bins.
MIN_QUERIES, MIN_BIN, MAX_BINS = 100, 20, 20
LEVEL = 0.9
# A gallery up to so many times smaller or larger is of the size that was looked at: val, where it
# is checked, has galleries up to 2.4 times those of the holdout, where it is fitted
# (docs/catalogue.md).
SIZES = 2.5
# Those that are tried first; between the best one's neighbours finer ones follow.
TEMPERATURES = np.geomspace(0.002, 1, 20)
Floats = NDArray[np.float64]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Lists:
    """The best answers of Q queries.

    Attributes:
        scores: best first, (Q, L); NaN past the gallery's end.
        right: which of them are what is wanted, (Q, L).
        sizes: of each query's gallery, (Q,).
    """

    scores: NDArray[np.float32]
    right: NDArray[np.bool_]
    sizes: NDArray[np.int64]

    @property
    def first(self) -> NDArray[np.int64]:
        """Rank of the first right answer, (Q,), from 1; 0 where it is not in the list."""
        return np.where(self.right.any(1), self.right.argmax(1) + 1, 0)

    @classmethod
    def of(cls, tasks: Sequence[Task], method: Method, features: FeatureSet) -> Self:
        """Rank tasks; rows without their reference or target are left out."""
        scores: list[NDArray[np.float32]] = []
        right: list[NDArray[np.bool_]] = []
        sizes = []
        for task, ranked in zip(tasks, run_all(tasks, method, features, LISTED), strict=True):
            top, own = ranked.ranking.top, ranked.ranking.scores
            for row in np.flatnonzero(task.usable):
                answers = [task.target[row]]
                if task.relevant is not None:
                    answers = [*answers, *task.relevant[row]]
                wanted = np.isin(top[row], answers) & (top[row] >= 0)
                scores.append(own[row])
                right.append(wanted)
                sizes.append(len(task.gallery) - int(task.removed[row] >= 0))
        return cls.ragged(scores, right, sizes)

    @classmethod
    def ragged(
        cls,
        scores: Sequence[NDArray[np.float32]],
        right: Sequence[NDArray[np.bool_]],
        sizes: Sequence[int],
    ) -> Self:
        """Lists of any lengths, one a query."""
        shape = (len(scores), max(map(len, scores), default=1))
        table = np.full(shape, np.nan, np.float32), np.zeros(shape, np.bool_)
        for row, (own, wanted) in enumerate(zip(scores, right, strict=True)):
            table[0][row, : len(own)], table[1][row, : len(wanted)] = own, wanted
        return cls(*table, np.array(sizes, np.int64))


class Map(Section):
    """A monotone map from the share of the first k to a probability, linear between its points."""

    share: Annotated[list[Share], Field(min_length=1, max_length=MAX_BINS)]
    probability: Annotated[list[Share], Field(min_length=1, max_length=MAX_BINS)]

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if len(self.share) != len(self.probability):
            raise ValueError("share and probability differ in length")
        if sorted(self.share) != self.share or sorted(self.probability) != self.probability:
            raise ValueError("the map is not monotone")
        return self

    def __call__(self, share: Floats) -> Floats:
        """Probabilities of shares of any shape."""
        return np.asarray(np.interp(share, self.share, self.probability), np.float64)


@dataclass(frozen=True)
class Confidence:
    """How sure an answer is.

    Attributes:
        within: probability that what is wanted is among the first k, by k.
        enough: length of the shortest list that holds it with 90 %; None where `LISTED` are few.
    """

    within: dict[int, float]
    enough: int | None


class Calibration(Section):
    """What was fitted, and on what.

    Attributes:
        head: key of the head, or of the model, whose scores these are.
        source: whose galleries: a data set's, as `of_dataset` names it, or an index's catalogue's.
        engine: of the search whose answers these are; approximate ones have other scores.
        queries, gallery: how many, and the median size of their galleries.
        maps: by k.
        threshold: share that the shortest list must have; None where no list is long enough.
    """

    format: Literal["rau-calibration-1"] = "rau-calibration-1"
    head: str
    source: str
    engine: str = EXACT
    queries: Annotated[int, Field(ge=MIN_QUERIES)]
    gallery: PositiveInt
    temperature: Annotated[float, Field(gt=0, le=10)]
    maps: dict[Literal["1", "5", "10", "50"], Map]
    threshold: Annotated[float, Field(ge=0, le=1 + 1e-6)] | None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if [int(k) for k in self.maps] != [*CUTS]:
            raise ValueError(f"there are maps for k of {[*self.maps]}, not {[*CUTS]}")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            UserError: when it is missing or malformed.
        """
        return cls.read_json(path, MAX_BYTES, REMEDY)

    @classmethod
    def beside(cls, folder: Path, weights: str) -> Self | None:
        """The one in the folder of a head; None where there is none.

        Args:
            weights: key of the head.

        Raises:
            UserError: when it is malformed, or of another head.
        """
        path = folder / FILE
        if not path.exists():
            return None
        found = cls.read(path)
        if found.head != weights:
            raise UserError(f"{path} is of another head; {REMEDY}")
        return found

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_json(path, self.model_dump())

    def doubt(self, source: str, gallery: int, engine: str = EXACT) -> str | None:
        """Why it says nothing of a gallery, or of how it is searched; None where it does."""
        if source != self.source:
            return f"fitted on {self.source}, not on {source}"
        if engine != self.engine:
            return f"fitted on answers of the engine {self.engine}, not of {engine}"
        if not self.gallery / SIZES <= gallery <= self.gallery * SIZES:
            return f"fitted on galleries of about {self.gallery:,}, this one has {gallery:,}"
        return None

    def probabilities(self, scores: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Probabilities (Q, cuts) of lists (Q, L), and the shares of their first 1 to L, (Q, L)."""
        shares = shares_of(scores, self.temperature)
        cuts = np.minimum(CUTS, shares.shape[1]) - 1
        found = [own(shares[:, cut]) for own, cut in zip(self.maps.values(), cuts, strict=True)]
        # More answers are never less likely to hold what is wanted.
        return np.maximum.accumulate(np.stack(found, 1), axis=1), shares

    def lengths(self, shares: Floats) -> NDArray[np.int64]:
        """Length of the shortest list that holds the wanted with 90 %, (Q,); 0 for none."""
        if self.threshold is None:
            return np.zeros(len(shares), np.int64)
        enough = shares >= self.threshold - 1e-9
        return np.where(enough.any(1), enough.argmax(1) + 1, 0)

    def confidence(self, scores: NDArray[np.float32]) -> Confidence:
        """Of the scores of one answer, best first, (L,)."""
        found, shares = self.probabilities(scores[None, :LISTED])
        length = int(self.lengths(shares)[0])
        within = {k: float(p) for k, p in zip(CUTS, found[0], strict=True)}
        return Confidence(within, length or None)


def shares_of(scores: NDArray[np.float32], temperature: float) -> Floats:
    """Share of the first 1 to L of each list, (Q, L), by the softmax of its scores (Q, L)."""
    logits = (scores - scores[:, :1]).astype(np.float64) / temperature
    weights = np.nan_to_num(np.exp(logits), nan=0.0)
    total = weights.cumsum(1)
    return np.asarray(np.minimum(total / total[:, -1:], 1.0), np.float64)


def of_dataset(name: str, queries: Path) -> str:
    """A data set as the source of galleries: its name and what its table of queries holds.

    A folder of the same name, or another copy or version of the data set, is another source.
    """
    return f"{DATASET}{name}@{digest_file(queries)[:8]}"


def fit(lists: Lists, head: str, source: str, engine: str = EXACT) -> Calibration | None:
    """Fit a calibration; None where there are fewer than `MIN_QUERIES` queries.

    Args:
        head: key of what gave the scores.
        source: whose galleries.
        engine: what searched them.
    """
    if len(lists.scores) < MIN_QUERIES:
        return None
    temperature = _best_temperature(lists)
    shares = shares_of(lists.scores, temperature)
    first = lists.first
    maps = {
        str(k): _monotone(shares[:, min(k, shares.shape[1]) - 1], (first > 0) & (first <= k))
        for k in CUTS
    }
    own = np.take_along_axis(shares, np.maximum(first - 1, 0)[:, None], 1)[:, 0]
    needed = np.sort(np.where(first > 0, own, np.inf))
    place = int(np.ceil((len(needed) + 1) * LEVEL)) - 1
    threshold = float(needed[place]) if place < len(needed) else np.inf
    return Calibration.model_validate(
        {
            "head": head,
            "source": source,
            "engine": engine,
            "queries": len(first),
            "gallery": int(np.median(lists.sizes)),
            "temperature": temperature,
            "maps": maps,
            "threshold": threshold if np.isfinite(threshold) else None,
        }
    )


def _best_temperature(lists: Lists) -> float:
    """The one with the least loss, to about a percent."""
    step = TEMPERATURES[1] / TEMPERATURES[0]
    best = min(TEMPERATURES.tolist(), key=lambda t: _loss(lists, t))
    near = np.geomspace(best / step, best * step, 21).tolist()
    return float(min(near, key=lambda t: _loss(lists, t)))


def _loss(lists: Lists, temperature: float) -> float:
    """Mean negative log share of the right answers, of the queries whose list has one."""
    found = lists.right.any(1)
    if not found.any():
        return 0.0
    shares = np.diff(shares_of(lists.scores[found], temperature), axis=1, prepend=0.0)
    own = (shares * lists.right[found]).sum(1)
    return float(-np.log(np.maximum(own, 1e-300)).mean())


def _monotone(share: Floats, hit: NDArray[np.bool_]) -> Map:
    """Isotonic regression of hits on shares, over bins of equal mass.

    A bin's rate is that of its queries with half a hit and half a miss more: none is 0 or 1.
    """
    from sklearn.isotonic import IsotonicRegression

    bins = equal_mass(share, max(1, min(MAX_BINS, len(share) // MIN_BIN)))
    # Means of equal shares may differ in the last digit, either way.
    places = np.maximum.accumulate([share[rows].mean() for rows in bins])
    counts = np.array([len(rows) for rows in bins])
    rates = np.array([(hit[rows].sum() + 0.5) / (len(rows) + 1) for rows in bins])
    # It merges places that are nearly equal, so that the outer ones may lie beyond its own.
    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(places, rates, counts)
    fitted = np.maximum.accumulate(model.predict(places))
    return Map(share=places.tolist(), probability=fitted.tolist())


def equal_mass(values: Floats, count: int) -> list[NDArray[np.int64]]:
    """Rows of values (N,) in bins of as equal numbers as can be, by ascending value."""
    order = np.argsort(values, kind="stable")
    return [rows for rows in np.array_split(order, count) if len(rows)]
