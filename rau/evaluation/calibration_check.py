"""Evaluation of a calibration on queries that it was not fitted on."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rau.evaluation import confidence_measures as measures
from rau.evaluation.calibration import LISTED, Calibration, Floats, Lists
from rau.evaluation.run_metrics import CalibrationFigures, ReliabilityBin
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.metrics import CUTS
from rau.retrieval.protocols import Protocol
from rau.retrieval.tasks import Method, protocol_tasks
from rau.schemas import GalleryRow, QueryRow

# As in a search, the reference itself is not an answer.
ASKED = Protocol("search", "original", "removed", "forward")


def measure_val(
    calibration: Calibration,
    head: Method,
    queries: Sequence[QueryRow],
    galleries: Sequence[GalleryRow],
    features: FeatureSet,
) -> CalibrationFigures | None:
    """The figures for the val queries, each in the gallery of its category; None if there are none.

    Hits are defined as in fitting: if the correct answers of the train queries are unknown, only
    the target counts, whatever is known for val.
    """
    val = [query for query in queries if query["split"] == "val"]
    if any(query["relevant"] is None for query in queries if query["split"] == "train"):
        val = [{**query, "relevant": None} for query in val]
    lists = Lists.of(protocol_tasks(ASKED, val, galleries, features), head, features)
    return measure(calibration, lists) if len(lists.scores) else None


def measure(calibration: Calibration, lists: Lists) -> CalibrationFigures:
    """The figures for at least one query."""
    found, shares = calibration.probabilities(lists.scores)
    first, lengths = lists.first, calibration.lengths(shares)
    hits = {k: (first > 0) & (first <= k) for k in CUTS}
    columns = {k: found[:, column] for column, k in enumerate(CUTS)}
    # If no list is long enough, everything is shown, and with it the target.
    covered = (lengths == 0) | ((first > 0) & (first <= lengths))
    length = int(np.median(np.where(lengths == 0, 2 * LISTED, lengths)))
    return CalibrationFigures(
        fitted_on=calibration.queries,
        queries=len(first),
        gallery=int(np.median(lists.sizes)),
        fitted_gallery=calibration.gallery,
        auroc={str(k): _auroc(columns[k], hits[k]) for k in CUTS},
        ece={str(k): _round(measures.ece(*_weighed(columns[k], hits[k]))[0]) for k in CUTS},
        rate={str(k): _round(hits[k].mean()) for k in CUTS},
        mean_probability={str(k): _round(columns[k].mean()) for k in CUTS},
        reliability={str(k): _reliability(columns[k], hits[k]) for k in CUTS},
        coverage=_round(covered.mean()),
        length=length if length <= LISTED else None,
    )


def to_csv(figures: CalibrationFigures | None) -> str:
    """The bins of the reliability diagram as CSV, for plots: one row per bin, with columns
    `probability_at_<k>` and `rate_at_<k>`; only the header if there are no figures or bins."""
    by_k = {} if figures is None else figures.reliability
    columns = {
        f"{name}_at_{k}": pd.Series([getattr(one, name) for one in by_k.get(str(k), [])])
        for k in CUTS
        for name in ("probability", "rate")
    }
    return pd.DataFrame(columns).to_csv(index=False, lineterminator="\n")


def _auroc(probability: Floats, hit: NDArray[np.bool_]) -> float | None:
    from sklearn.metrics import roc_auc_score

    return _round(roc_auc_score(hit, probability)) if hit.any() and not hit.all() else None


def _weighed(probability: Floats, hit: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    return probability, hit.astype(np.float64), np.ones((1, len(hit)))


def _reliability(probability: Floats, hit: NDArray[np.bool_]) -> list[ReliabilityBin]:
    found = measures.reliability(*_weighed(probability, hit))
    return [
        ReliabilityBin(probability=_round(said), rate=_round(rate), queries=int(count))
        for said, rate, count in zip(*(own[0] for own in found), strict=True)
        if count
    ]


def _round(value: float) -> float:
    return round(float(value), 4)
