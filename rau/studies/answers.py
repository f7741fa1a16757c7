"""Summaries of a study in a sentence or two, with differences and their intervals."""

from collections.abc import Iterable

import pandas as pd

from rau.report.metric_names import label
from rau.report.numbers import minus
from rau.studies.figures import pick
from rau.studies.grid import interval_of
from rau.studies.plan import compared
from rau.studies.tables import Statistics, StudyTables, statistics

# A difference is significant if its p-value, adjusted by Holm, is below this.
LEVEL = 0.05
NAMED = 3
START_KEPT = "its start kept"


def metrics(tables: StudyTables) -> list[str]:
    """Return the metrics of `plan.compared`."""
    return compared(set(tables.summary.metric))


def rows(tables: StudyTables, metric: str | None = None) -> dict[str, Statistics]:
    """Rows of a metric (default: the headline's) under the headline's protocol, by variant."""
    name = metric or metrics(tables)[0]
    return statistics(pick(tables.summary, tables.summary.protocol.iloc[0], name))


def ends(row: Statistics, form: str = "{:+.2f}") -> str:
    """Format the paired difference of a row of the summary with its interval."""
    return minus(interval_of(row, "difference", form))


def difference(tables: StudyTables, variant: str) -> str:
    """A variant's differences to its partner in all `metrics`, and whether they are significant."""
    found = {name: rows(tables, name)[variant] for name in metrics(tables)}
    told = ", ".join(f"{ends(row)} {label(name)}" for name, row in found.items())
    return f"{told}: {verdict(found.values())}"


def verdict(found: Iterable[Statistics]) -> str:
    """Verdict on rows of the summary: better, worse, both, or no significant difference."""
    signs = {row["difference"] > 0 for row in found if row["p_holm"] < LEVEL}
    if len(signs) > 1:
        return "better in one metric, worse in another"
    return "no difference that holds up" if not signs else "better" if signs.pop() else "worse"


def differing(tables: StudyTables, variants: Iterable[str] | None = None) -> str:
    """List the variants that differ from their partner in any of `metrics`.

    Default: all variants that have a partner. A note marks a variant that kept its start in every
    run because no epoch was better on the holdout.
    """
    paired = [v for v, row in rows(tables).items() if pd.notna(row["difference"])]
    asked = [v for v in variants or paired if v in paired]
    untrained = starts_kept(tables)
    parts = []
    for word, sign in (("better", 1), ("worse", -1)):
        held: dict[str, str] = {}
        for name in metrics(tables):
            by_variant = rows(tables, name)
            for variant in asked:
                row = by_variant[variant]
                if row["p_holm"] < LEVEL and sign * row["difference"] > 0:
                    start = f", {START_KEPT}" if variant in untrained else ""
                    held.setdefault(variant, f"{variant} ({ends(row)} {label(name)}{start})")
        if held:
            more = f" and {len(held) - NAMED} more" if len(held) > NAMED else ""
            parts.append(f"{len(held)} {word}: {', '.join(list(held.values())[:NAMED])}{more}")
    return f"Of {len(asked)}, {'; '.join(parts) or 'none differs'}"


def starts_kept(tables: StudyTables) -> set[str]:
    """The variants that kept their start in every run."""
    latest = tables.runs.groupby("variant").best_epoch.max()
    return {str(variant) for variant in latest.index[latest == 0]}


def best(tables: StudyTables) -> str:
    """The variant with the highest mean of the headline metric."""
    found = rows(tables)
    return max(found, key=lambda variant: found[variant]["mean"])
