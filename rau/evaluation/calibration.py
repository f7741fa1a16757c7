"""Confidence of a search: fitted and verified probabilities instead of scores.

A softmax over the best results of a query turns their scores into shares, at a temperature fitted
to the correct answers (temperature scaling, arXiv 1706.04599). A monotone map turns the share of
the first k into the probability that they contain a correct answer (isotonic regression, on bins
of equal mass). Split conformal prediction gives the shortest list that contains one with 90 %
probability (adaptive sets without randomisation, arXiv 2006.02544). Everything is fitted on
queries that the head was not trained on, and applies only to galleries of the same kind and size.
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
# Prefix of a data set's name in a source, and the engine whose search is exact.
DATASET, EXACT = "data set ", "exact"
# Number of results per query whose scores are used.
LISTED = 1000
# Minimum number of queries to fit on, minimum number of queries per bin of a map, maximum number
# of bins.
MIN_QUERIES, MIN_BIN, MAX_BINS = 100, 20, 20
LEVEL = 0.9
# A calibration applies to galleries smaller or larger by up to this factor: the galleries of val,
# where it is verified, are up to 2.4 times as large as those of the holdout, where it is fitted
# (docs/catalogue.md).
SIZES = 2.5
# The coarse grid; a finer one between the neighbours of its best value follows.
TEMPERATURES = np.geomspace(0.002, 1, 20)
Floats = NDArray[np.float64]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Lists:
    """The best results of Q queries.

    Attributes:
        scores: best first, (Q, L); NaN beyond the gallery's size.
        right: which of them are correct, (Q, L).
        sizes: size of each query's gallery, (Q,).
    """

    scores: NDArray[np.float32]
    right: NDArray[np.bool_]
    sizes: NDArray[np.int64]

    @property
    def first(self) -> NDArray[np.int64]:
        """Rank of the first correct answer, (Q,), from 1; 0 if the list contains none."""
        return np.where(self.right.any(1), self.right.argmax(1) + 1, 0)

    @classmethod
    def of(cls, tasks: Sequence[Task], method: Method, features: FeatureSet) -> Self:
        """Rank tasks; rows without a reference or target are left out."""
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
        """Combine lists of any lengths, one per query."""
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
        """Map shares of any shape to probabilities."""
        return np.asarray(np.interp(share, self.share, self.probability), np.float64)


@dataclass(frozen=True)
class Confidence:
    """The confidence of an answer.

    Attributes:
        probability_at_k: probability that the first k results contain a correct one, by k.
        prediction_set_size: length of the shortest list that contains one with 90 % probability;
            None if `LISTED` results are too few.
    """

    probability_at_k: dict[int, float]
    prediction_set_size: int | None


class Calibration(Section):
    """A fitted calibration and what it was fitted on.

    Attributes:
        head: key of the head or model that computed the scores.
        source: origin of the galleries: a data set, as named by `of_dataset`, or an index's
            catalogue.
        engine: the search engine; approximate engines give different scores.
        queries, gallery: number of queries, and the median size of their galleries.
        maps: one map per k.
        threshold: share that the shortest list must reach; None if no list is long enough.
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
        """Read a file written by `write`.

        Raises:
            UserError: if it is missing or malformed.
        """
        return cls.read_json(path, MAX_BYTES, REMEDY)

    @classmethod
    def beside(cls, folder: Path, weights: str) -> Self | None:
        """Read the calibration in the folder of a head; None if there is none.

        Args:
            weights: key of the head.

        Raises:
            UserError: if it is malformed or belongs to another head.
        """
        path = folder / FILE
        if not path.exists():
            return None
        found = cls.read(path)
        if found.head != weights:
            raise UserError(f"{path} is of another head; {REMEDY}")
        return found

    def write(self, path: Path) -> None:
        """Write the calibration as JSON, atomically."""
        write_json(path, self.model_dump())

    def inapplicable(self, source: str, gallery: int, engine: str = EXACT) -> str | None:
        """Why the calibration does not apply to a gallery or search engine; None if it does."""
        if source != self.source:
            return f"fitted on {self.source}, not on {source}"
        if engine != self.engine:
            return f"fitted on answers of the engine {self.engine}, not of {engine}"
        if not self.gallery / SIZES <= gallery <= self.gallery * SIZES:
            return f"fitted on galleries of about {self.gallery:,}, this one has {gallery:,}"
        return None

    def probabilities(self, scores: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Probabilities (Q, cuts) for lists (Q, L), and shares of their first 1 to L, (Q, L)."""
        shares = shares_of(scores, self.temperature)
        cuts = np.minimum(CUTS, shares.shape[1]) - 1
        found = [own(shares[:, cut]) for own, cut in zip(self.maps.values(), cuts, strict=True)]
        # A longer list is never less likely to contain a correct answer.
        return np.maximum.accumulate(np.stack(found, 1), axis=1), shares

    def lengths(self, shares: Floats) -> NDArray[np.int64]:
        """Length, (Q,), of the shortest list with a correct answer at 90 %; 0 if there is none."""
        if self.threshold is None:
            return np.zeros(len(shares), np.int64)
        enough = shares >= self.threshold - 1e-9
        return np.where(enough.any(1), enough.argmax(1) + 1, 0)

    def confidence(self, scores: NDArray[np.float32]) -> Confidence:
        """Confidence from the scores of one query's results, best first, (L,)."""
        found, shares = self.probabilities(scores[None, :LISTED])
        length = int(self.lengths(shares)[0])
        within = {k: float(p) for k, p in zip(CUTS, found[0], strict=True)}
        return Confidence(within, length or None)


def shares_of(scores: NDArray[np.float32], temperature: float) -> Floats:
    """Shares of the first 1 to L results, (Q, L), from the softmax of the scores (Q, L)."""
    logits = (scores - scores[:, :1]).astype(np.float64) / temperature
    weights = np.nan_to_num(np.exp(logits), nan=0.0)
    total = weights.cumsum(1)
    return np.asarray(np.minimum(total / total[:, -1:], 1.0), np.float64)


def of_dataset(name: str, queries: Path) -> str:
    """Source name of a data set: its name and a digest of its table of queries.

    A folder of the same name, or another copy or version of the data set, is another source.
    """
    return f"{DATASET}{name}@{digest_file(queries)[:8]}"


def fit(lists: Lists, head: str, source: str, engine: str = EXACT) -> Calibration | None:
    """Fit a calibration; None if there are fewer than `MIN_QUERIES` queries.

    Args:
        head: key of the head or model that computed the scores.
        source: origin of the galleries.
        engine: the search engine.
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
    """The temperature with the lowest loss, to about one percent."""
    step = TEMPERATURES[1] / TEMPERATURES[0]
    best = min(TEMPERATURES.tolist(), key=lambda t: _loss(lists, t))
    near = np.geomspace(best / step, best * step, 21).tolist()
    return float(min(near, key=lambda t: _loss(lists, t)))


def _loss(lists: Lists, temperature: float) -> float:
    """Mean negative log share of the correct answers, over queries whose list contains one."""
    found = lists.right.any(1)
    if not found.any():
        return 0.0
    shares = np.diff(shares_of(lists.scores[found], temperature), axis=1, prepend=0.0)
    own = (shares * lists.right[found]).sum(1)
    return float(-np.log(np.maximum(own, 1e-300)).mean())


def _monotone(share: Floats, hit: NDArray[np.bool_]) -> Map:
    """Isotonic regression of hits on shares, over bins of equal mass.

    Half a hit and half a miss are added to every bin, so that no rate is 0 or 1.
    """
    from sklearn.isotonic import IsotonicRegression

    bins = equal_mass(share, max(1, min(MAX_BINS, len(share) // MIN_BIN)))
    # Means of equal shares may differ in the last digit, in either direction.
    places = np.maximum.accumulate([share[rows].mean() for rows in bins])
    counts = np.array([len(rows) for rows in bins])
    rates = np.array([(hit[rows].sum() + 0.5) / (len(rows) + 1) for rows in bins])
    # It merges nearly equal inputs, so the outermost ones may lie outside its range.
    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(places, rates, counts)
    fitted = np.maximum.accumulate(model.predict(places))
    return Map(share=places.tolist(), probability=fitted.tolist())


def equal_mass(values: Floats, count: int) -> list[NDArray[np.int64]]:
    """Row indices of values (N,) by ascending value, in bins of nearly equal size."""
    order = np.argsort(values, kind="stable")
    return [rows for rows in np.array_split(order, count) if len(rows)]
