"""Methods tuned with the same budget, compared with each other and with single modalities."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rau.evaluation.composition import CUT, HIT, measure
from rau.methods import DETERMINISTIC, METHODS
from rau.params import Params
from rau.report.metric_names import label
from rau.studies import answers
from rau.studies.figures import differences
from rau.studies.grid import Columns, Grid, costs
from rau.studies.plan import Plan, Tuned, Variant, headline, variant
from rau.studies.registry import Study
from rau.studies.runs import Result
from rau.studies.tables import StudyTables

SINGLE = METHODS["image_only"].label, METHODS["text_only"].label
RESAMPLES = 2000
FORMS: Columns = {
    "gap": ("over the better single modality", "{:+.2f}"),
    "low": ("95 % from", "{:+.2f}"),
    "high": ("to", "{:+.2f}"),
    "alone": ("found by one modality alone", "{:.1%}"),
}


def variants(params: Params, sizes: Plan, tuned: Tuned) -> list[Variant]:
    """Return every method with the changes chosen by its tuning."""
    return [
        variant(method.label, params, {"head.name": name, **tuned.get(name, {})})
        for name, method in METHODS.items()
    ]


def own(
    found: Sequence[Variant], results: Mapping[str, Sequence[Result]]
) -> dict[str, pd.DataFrame]:
    """Compare every method with the single modalities, over all seeds."""
    first = results[SINGLE[0]][0]
    metric = headline(first.names)
    places = {name: first.names.index(name) for name in (HIT, metric)}
    rows = []
    for protocol, clusters in first.clusters.items():
        values = {
            v.label: {
                category: {
                    name: np.concatenate([r.values[protocol][category][:, at] for r in by_seed])
                    for name, at in places.items()
                }
                for category in clusters
            }
            for v in found
            for by_seed in [results[v.label]]
        }
        # Rows of a query are resampled together, whatever their seed.
        tiled = {c: np.tile(own, len(results[SINGLE[0]])) for c, own in clusters.items()}
        made = measure(values, tiled, SINGLE, metric, RESAMPLES)
        shares = (made.better, made.reference, made.caption, made.either)
        for method, one in made.methods.items():
            ends = one.gap.interval or (np.nan, np.nan)
            rows.append((protocol, method, one.gap.difference, *ends, one.alone, metric, *shares))
    columns = ["protocol", "variant", *FORMS, "metric", "better", "reference", "caption", "either"]
    return {"composition": pd.DataFrame(rows, columns=columns)}


def grids(tables: StudyTables) -> dict[str, Grid]:
    """Return tables of composition by protocol, and of the costs of the methods."""
    made = {}
    for protocol, rows in tables.own["composition"].groupby("protocol", sort=False):
        one = rows.iloc[0]
        alone = f"the reference alone solves {one.reference:.1%} of the queries, the caption alone"
        note = (
            f"With the target among the first {CUT}, {alone} {one.caption:.1%}, one of them "
            f"{one.either:.1%}; the better one in {label(one.metric)} is {one.better}. Intervals "
            "are over queries, not over seeds. Last column: of what a method finds."
        )
        made[f"Composition, protocol {protocol}"] = Grid.of(
            "variant", rows.set_index("variant"), FORMS, note
        )
    return made | {"Size and training time": costs(tables)}


def answer(tables: StudyTables) -> str:
    """Compare RAU with the deterministic head, and name the best method."""
    told = answers.difference(tables, METHODS["rau"].label)
    return f"{told}. Highest mean: {answers.best(tables)}"


STUDY = Study(
    "Methods side by side",
    "Does RAU beat a deterministic head that is tuned as carefully?",
    answer,
    METHODS[DETERMINISTIC].label,
    variants,
    differences,
    own,
    grids,
    tuned=True,
)
