"""How well the holdout ranks variants."""

from dataclasses import replace

import pandas as pd
import pytest

from rau.studies import (
    holdout,
    study_page,
)
from tests.studies.synthetic import (
    study_tables,
)


def test_the_rank_correlation_of_holdout_and_val_is_over_the_variants() -> None:
    val = [10.0, 12.0, 20.0, 18.0]
    held = [1.0, 2.0, 3.0, 4.0]
    rows = [
        {
            "variant": f"v{n}",
            "seed": seed,
            # Not what selects the epochs: it ranks the variants the other way round.
            "holdout_recall_at_1": -h,
            "original.recall_at_1": v,
            "holdout_map": h + seed,
            "original.map": v - 5 * seed,
        }
        for n, (h, v) in enumerate(zip(held, val, strict=True))
        for seed in range(2)
    ]
    made = study_tables()
    selected = made.document.model_copy(update={"select": "map"})
    tables = replace(made, runs=pd.DataFrame(rows), document=selected)
    # Ranks 1, 2, 3, 4 and 1, 2, 4, 3; those of single runs would be others.
    assert holdout.rank_correlation(tables) == pytest.approx(0.8)
    assert holdout.said(tables).endswith("over 4 variants: 0.80")
    assert holdout.said(tables) in study_page.trained(tables)
    for fewer in (tables.runs[tables.runs.variant != "v0"], tables.runs.assign(holdout_map=1.0)):
        assert holdout.said(replace(tables, runs=fewer)) == ""
    other = tables.runs.drop(columns="original.map")
    assert holdout.rank_correlation(replace(tables, runs=other)) is None
    older = tables.document.model_copy(update={"select": ""})
    assert holdout.rank_correlation(replace(tables, document=older)) is None
