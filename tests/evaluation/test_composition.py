"""Methods beside the single modalities, against figures worked out by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from rau.evaluation import benchmark
from rau.evaluation.composition import HIT, measure, single_modalities
from rau.models.baselines import RawSum, untrained
from rau.params import EvaluateParams, Params
from rau.retrieval.protocols import FASHIONIQ
from rau.studies.defined import methods
from rau.studies.plan import Variant
from rau.studies.runs import Result
from rau.studies.tables import StudyDocument, StudyTables, VariantRecord
from tests.studies.synthetic import small_data

METRIC = "mean_of_r10_r50"


def ranked(**hits: list[int]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Metrics by category, from whether each query is found."""
    found = {category: 100.0 * np.array(own) for category, own in hits.items()}
    return {category: {HIT: own, METRIC: own / 2} for category, own in found.items()}


def test_gaps_and_shares_by_hand() -> None:
    values = {
        "image only": ranked(dress=[1, 0, 0, 0], shirt=[0, 0]),
        "text only": ranked(dress=[1, 1, 0, 0], shirt=[0, 1]),
        "head": ranked(dress=[1, 0, 1, 1], shirt=[1, 1]),
        "none": ranked(dress=[0, 0, 0, 0], shirt=[0, 0]),
    }
    clusters = {"dress": np.arange(4), "shirt": np.arange(2)}
    found = measure(values, clusters, ("image only", "text only"), METRIC, 200)
    assert (found.better, found.cut) == ("text only", 10)
    # Categories weigh the same: dress 1/4, 2/4, 2/4 and shirt 0, 1/2, 1/2.
    assert (found.reference, found.caption, found.either) == (0.125, 0.5, 0.5)
    head = found.methods["head"]
    # Half of the headline: dress 37.5 - 25, shirt 50 - 25.
    assert head.gap.difference == pytest.approx(18.75)
    assert head.gap.interval is not None
    low, high = head.gap.interval
    assert low < 18.75 < high
    # Of (3/4 + 1) / 2 found, one modality alone finds (1/4 + 1/2) / 2.
    assert head.alone == pytest.approx(0.375 / 0.875, abs=1e-4)
    assert found.methods["text only"].gap.difference == 0
    assert found.methods["none"].alone is None


def test_the_single_modalities_are_known_by_their_weights() -> None:
    text_map = torch.zeros(3, 2)
    found = untrained(0.0, text_map) | {"image only of another kind": RawSum()}
    assert single_modalities(found) == ("image only", "text only (ridge map)")
    del found["text only (ridge map)"]
    assert single_modalities(found) is None


@pytest.mark.parametrize("resamples", [0, 50])
def test_a_benchmark_has_intervals_of_the_gaps_where_it_resamples(resamples: int) -> None:
    data = small_data()
    found, _ = benchmark.evaluate(
        {FASHIONIQ[0]: untrained(0.5, None)},
        data.queries,
        data.galleries,
        data.features,
        EvaluateParams(bootstrap=resamples),
        "sum",
    )
    gap = found.composition["original"]["mean"].methods["sum"].gap
    assert (gap.interval is not None) == (resamples > 0)


def test_a_study_shows_composition_over_its_seeds() -> None:
    names = [HIT, METRIC]
    hits = {"image only": [1, 0, 0, 0], "text only": [0, 0, 0, 1], "RAU head": [1, 1, 1, 0]}
    columns = {k: 100.0 * np.array([own, own]).T for k, own in hits.items()}
    variants = [Variant(label, Params(), {}) for label in hits]
    results = {
        label: [
            Result({}, {}, names, {"original": {"dress": own}}, {"original": {"dress": rows}}, {})
            for own in (column, column[::-1] if label == "RAU head" else column)
        ]
        for label, column in columns.items()
        for rows in [np.arange(4)]
    }
    table = methods.own(variants, results)["composition"]
    found = table.set_index("variant")
    head = found.loc["RAU head"]
    assert head.gap == 50
    # One seed finds the first three queries, the other the last three: one of three each time.
    assert head.alone == pytest.approx(1 / 3, abs=1e-4)
    assert (head.reference, head.caption, head.either) == (0.25, 0.25, 0.5)
    assert head.low < 50 < head.high
    runs = pd.DataFrame({"variant": list(hits), "parameters": 1, "seconds": 1.0, "best_epoch": 0})
    records = [VariantRecord(label=label, x={}, params="") for label in hits]
    kept = {"study": "methods", "preset": "smoke", "seeds": 2, "reference": "RAU head"}
    document = StudyDocument.model_validate(
        kept | {"variants": records, "diagnostics": {}, "cosines": {}}
    )
    grid, _ = methods.grids(StudyTables(runs, runs, document, {"composition": table})).values()
    assert "caption alone 25.0%, one of them 50.0%" in grid.note
    assert [row[1] for row in grid.rows] == ["+0.00", "+0.00", "+50.00"]
