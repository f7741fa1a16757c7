"""Prediction of whether an answer is correct: uncertainty against predictors that are free."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rau.methods import DETERMINISTIC, METHODS
from rau.params import Params
from rau.report.numbers import minus
from rau.studies import confidence_tables as tables_of
from rau.studies.confidence_tables import ALL, COSINE, MAIN, OVER_FREE, Evidence
from rau.studies.figures import panels
from rau.studies.grid import Grid, interval
from rau.studies.plan import Plan, Tuned, Variant, variant
from rau.studies.registry import Study
from rau.studies.runs import Result
from rau.studies.tables import StudyTables

Results = Mapping[str, Sequence[Result]]
SHOWN = ("AUROC", "AURC", "excess AURC", "at 90 %", "at 80 %", "at 50 %", "Spearman", "R²")
PROBABLE = ("ECE", "Brier")
LISTS = ("coverage 90%", "length 90%", "coverage 95%", "length 95%")
DRAWN = 6
NOTE = (
    "Val queries with the original gallery, the reference removed. Means over seeds, in "
    "parentheses the difference to the top-1 cosine, with 95 % bootstrap intervals over queries "
    "and seeds. At a coverage: share of the most confident queries with the target among the "
    "first ten. R² and Spearman's correlation are of ten bins, ECE is of fifteen: they have no "
    "interval, because resamples add noise to the bins. ECE and Brier score are computed after an "
    "isotonic map fitted on the holdout, except for the models, which predict probabilities. The "
    "models are fitted on the holdouts of all seeds."
)
PRECISION = (
    "The label is the average precision of a query, if all correct answers are known; the models "
    "are those of hits at 10."
)
RIVAL = (
    "The best of cosine, margins, entropy, masses and text length is chosen on these very "
    "queries: no predictor without learning is a stronger baseline."
)
LISTED = (
    "Split conformal prediction in five groups of each predictor, fitted on the holdout; depths "
    "are shares of the gallery."
)


def variants(params: Params, sizes: Plan, tuned: Tuned) -> list[Variant]:
    """Return RAU's head and the deterministic head, which has no σ."""
    return [
        variant(METHODS[name].label, params, {"head.name": name}) for name in (DETERMINISTIC, "rau")
    ]


def own(variants: Sequence[Variant], results: Results) -> dict[str, pd.DataFrame]:
    """Return measures, risk-coverage curves and reliability of every variant."""
    made: dict[str, list[pd.DataFrame]] = {}
    for one in variants:
        runs = results[one.label]
        categories = sorted(next(iter(runs[0].values.values())))
        evidence = Evidence.of([run.extra for run in runs], categories)
        for name in ("table", "curves", "reliability"):
            made.setdefault(name, []).append(getattr(tables_of, name)(one.label, evidence))
    named = {"table": "confidence", "curves": "risk_coverage"}
    return {named.get(k, k): pd.concat(v, ignore_index=True) for k, v in made.items()}


def figure(tables: StudyTables) -> Figure:
    """Plot risk-coverage curves and reliability of RAU's head for the best predictors."""
    label = METHODS["rau"].label
    drawn, (left, right) = panels(2, 5)
    found = tables.own["confidence"]
    areas = _pick(found, label, MAIN, "AUROC").sort_values("mean", ascending=False)
    names = dict.fromkeys([*areas.predictor[:DRAWN], COSINE, tables_of.SIGMA])
    for axis, name, x, y in (
        (left, "risk_coverage", "coverage", "risk"),
        (right, "reliability", "probability", "rate"),
    ):
        table = tables.own[name]
        for predictor in names:
            rows = table[(table.variant == label) & (table.predictor == predictor)]
            if len(rows):
                axis.plot(rows[x], rows[y], "-" if axis is left else "o-", label=predictor)
        axis.set(xlabel=x, ylabel=y)
    left.set_title(f"{label}, {MAIN}: risk and coverage")
    left.legend(fontsize="x-small")
    right.plot([0, 1], [0, 1], ":", color="grey")
    right.set_title("Reliability")
    return drawn


def grids(tables: StudyTables) -> dict[str, Grid]:
    """Return tables of predictors by measure for hits at 10, by label, and of conformal lists."""
    found = tables.own["confidence"]
    made = {}
    for label in found.variant.unique():
        made[f"{label}: {MAIN}"] = _grid(found, label, MAIN, [*SHOWN, *PROBABLE], NOTE)
        for measure, note in (("AUROC", ""), (OVER_FREE, RIVAL)):
            by_label = found[(found.variant == label) & (found.measure == measure)]
            renamed = by_label.assign(measure=by_label.label, label=measure)
            columns = list(dict.fromkeys(by_label.label))
            made[f"{label}: {measure}"] = _grid(renamed, label, measure, columns, note)
        precision = tables_of.LABELS[-1]
        made[f"{label}: {precision}"] = _grid(found, label, precision, SHOWN, PRECISION)
        made[f"{label}: lists"] = _grid(found, label, "lists", LISTS, LISTED)
        made[f"{label}: coverage of the lists by category"] = _by_category(found, label)
    return made


def _pick(found: pd.DataFrame, variant: str, label: str, measure: str) -> pd.DataFrame:
    return found[
        (found.variant == variant)
        & (found.label == label)
        & (found.measure == measure)
        & (found.category == ALL)
    ]


def _grid(
    found: pd.DataFrame, variant: str, label: str, measures: Sequence[str], note: str
) -> Grid:
    """Return a table with a row per predictor and a column per measure."""
    columns = {m: _pick(found, variant, label, m).set_index("predictor") for m in measures}
    columns = {m: rows for m, rows in columns.items() if len(rows)}
    predictors = dict.fromkeys(name for rows in columns.values() for name in rows.index)
    rows = [
        [name, *(_cell(own.loc[name]) if name in own.index else "–" for own in columns.values())]
        for name in predictors
    ]
    return Grid(["predictor", *columns], rows, note)


def _by_category(found: pd.DataFrame, variant: str) -> Grid:
    """Coverage by category of each predictor's lists with a nominal coverage of 90 %."""
    lists = found[(found.variant == variant) & (found.label == "lists")]
    own = lists[(lists.measure == LISTS[0]) & (lists.category != ALL)]
    renamed = own.assign(measure=own.category, category=ALL)
    return _grid(renamed, variant, "lists", list(dict.fromkeys(own.category)), "")


def _cell(row: pd.Series) -> str:
    """Format a mean with its difference and interval, or else with its own interval, if any."""
    form = "{:.0f}" if row["mean"] > 2 else "{:.3f}"
    if np.isnan(row.difference):
        return interval((row["mean"], row.low, row.high), form)
    signed = form.replace(":", ":+")
    ends = ", ".join(signed.format(v) for v in (row.difference_low, row.difference_high))
    return f"{form.format(row['mean'])} ({signed.format(row.difference)} [{ends}])"


def answer(tables: StudyTables) -> str:
    """State AUROC of σ and of the best free predictor, and the gain of learned ones over it."""
    found, label = tables.own["confidence"], METHODS["rau"].label
    areas = _pick(found, label, MAIN, "AUROC").set_index("predictor")["mean"]
    over = _pick(found, label, MAIN, OVER_FREE).set_index("predictor")
    free = areas[list(tables_of.WITHOUT_SIGMA)]
    told = f"AUROC {areas[tables_of.SIGMA]:.3f} by σ, {free.max():.3f} by {free.idxmax()}"
    learned = [
        f"{name} {interval(over.loc[name, ['mean', 'low', 'high']], '{:+.3f}')}"
        for name in tables_of.LEARNED
        if name in over.index
    ]
    return minus("; learned, over that: ".join([told, *([", ".join(learned)] if learned else [])]))


STUDY = Study(
    "Calibration: what predicts whether an answer is correct",
    "Does σ predict whether an answer is correct?",
    answer,
    METHODS[DETERMINISTIC].label,
    variants,
    figure,
    own,
    grids,
    measures=("rau.studies.evidence:evidence",),
)
