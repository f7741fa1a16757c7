"""Benefit or harm of θ and n, by amount of data, wrong targets and ambiguity."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rau.methods import DETERMINISTIC, METHODS, WEIGHTED_SUM
from rau.params import Params
from rau.report.numbers import minus
from rau.studies import breakdown
from rau.studies.figures import pick
from rau.studies.grid import Grid, interval, interval_of
from rau.studies.plan import (
    Plan,
    Preset,
    Regime,
    Tuned,
    Variant,
    headline,
    parts,
    regime,
    regimes,
    variant,
    where,
)
from rau.studies.registry import Study
from rau.studies.runs import Result
from rau.studies.tables import StudyTables

REGIMES: Mapping[Preset, tuple[Regime, ...]] = {
    "smoke": ((1.0, 0.0), (0.5, 0.4)),
    "quick": ((1.0, 0.0), (0.1, 0.0), (0.1, 0.4)),
    "full": tuple((f, noise) for f in (1.0, 0.3, 0.1) for noise in (0.0, 0.2, 0.4)),
}
# Values of θ, of its quantile, and of n.
SETTINGS: Mapping[Preset, Mapping[str, tuple[int, ...] | tuple[float, ...]]] = {
    "smoke": {"theta": (0.7,), "theta_quantile": (0.99,), "n": (2,)},
    "quick": {"theta": (0.6, 0.8), "theta_quantile": (0.98, 0.995), "n": (0, 2)},
    "full": {
        "theta": (0.5, 0.6, 0.7, 0.8, 0.9),
        "theta_quantile": (0.95, 0.98, 0.99, 0.995, 0.998),
        "n": (0, 1, 2, 4),
    },
}
NAMES = {"theta": "θ", "theta_quantile": "quantile", "n": "n"}
NOTE = (
    "Headline metric on val, difference to the deterministic head of the same regime, with the "
    "95 % interval by bootstrap over queries and seeds. A setting helps or hurts where p, adjusted "
    "for all settings of the regime, is below 0.05."
)


def variants(params: Params, sizes: Plan, tuned: Tuned) -> list[Variant]:
    """Return the variants of every regime.

    These are the deterministic head, the weighted sum that every head starts as, CSU at every
    threshold, and ISU at every n. A threshold is varied with only CSU on and n with only ISU on,
    the part that uses the parameter.
    """
    rows = []
    for fraction, noise in regimes(params, REGIMES[sizes.preset]):
        place, changes = regime(params, fraction, noise)
        partner = f"{METHODS[DETERMINISTIC].label}{place}"
        x = {"fraction": fraction, "noise": noise}
        _, none = parts(params, False, False, False)
        untrained = f"{METHODS[WEIGHTED_SUM].label}{place}"
        for label, own_changes in ((partner, none), (untrained, {"head.name": WEIGHTED_SUM})):
            made = variant(label, params, changes | own_changes, **x)
            rows.append(replace(made, partner=partner))
        for name, values in SETTINGS[sizes.preset].items():
            _, on = parts(params, name == "n", name != "n", False)
            for value in values:
                setting: dict[str, Any] = {"ua.theta_quantile": None, f"ua.{name}": value}
                label = f"{NAMES[name]} {value:g}{place}"
                made = variant(label, params, changes | on | setting, **x, **{name: value})
                rows.append(replace(made, partner=partner))
    return rows


def own(
    found: Sequence[Variant], results: Mapping[str, Sequence[Result]]
) -> dict[str, pd.DataFrame]:
    """Return differences by the number of correct answers and by the content of captions."""
    metric = headline(results[found[0].label][0].names)
    table = breakdown.table(found, results, found[0].label, metric)
    return {"ambiguity": table.dropna(subset="difference")}


def cells(tables: StudyTables) -> pd.DataFrame:
    """Return the map: a row per setting and regime, and whether the setting helps or hurts."""
    metric = headline(set(tables.summary.metric))
    rows = pick(tables.summary, tables.summary.protocol.iloc[0], metric)
    found = []
    for one in tables.document.variants:
        setting = [name for name in NAMES if one.x.get(name) is not None]
        if setting and one.label in rows.index:
            row = rows.loc[one.label]
            clear = row.p_holm < 0.05
            says = ("helps" if row.difference > 0 else "hurts") if clear else ""
            found.append(
                {
                    "setting": f"{NAMES[setting[0]]} {one.x[setting[0]]:g}",
                    "fraction": one.x["fraction"],
                    "noise": one.x["noise"],
                    "difference": row.difference,
                    "low": row.difference_low,
                    "high": row.difference_high,
                    "says": says,
                }
            )
    return pd.DataFrame(found)


def rule(table: pd.DataFrame) -> Grid:
    """Return the settings that significantly help or hurt, and the best one, in each regime."""
    rows = []
    for fraction, noise in dict.fromkeys(zip(table.fraction, table.noise, strict=True)):
        there = table[(table.fraction == fraction) & (table.noise == noise)]
        helps, hurts = (there[there.says == word] for word in ("helps", "hurts"))
        best = max(there.to_dict("records"), key=lambda row: row["difference"])
        ends = interval(best[name] for name in ("difference", "low", "high"))
        rows.append(
            [
                f"{fraction:.0%} of the queries, {noise:.0%} wrong",
                ", ".join(helps.setting) or "none",
                ", ".join(hurts.setting) or "none",
                f"{best['setting']}: {ends}",
            ]
        )
    return Grid(["regime", "help", "hurt", "largest"], rows, NOTE)


def grids(tables: StudyTables) -> dict[str, Grid]:
    """Return the table of the rule and that of the differences by ambiguity."""
    ambiguity = tables.own["ambiguity"]
    groups = list(dict.fromkeys(ambiguity.group))
    rows = []
    for label, there in ambiguity.groupby("variant", sort=False):
        by_group = there.set_index("group").to_dict("index")
        rows.append([str(label), *(interval_of(by_group[g], "difference") for g in groups)])
    note = "The same differences among some of the val queries; intervals are not adjusted."
    return {
        "Where a setting helps or hurts": rule(cells(tables)),
        "By ambiguity": Grid(["variant", *groups], rows, note),
    }


def figure(tables: StudyTables) -> Figure:
    """Draw the map: settings by regimes, coloured by the difference, * if it is significant."""
    table = cells(tables)
    table["regime"] = [
        f"{f:.0%}\n{n:.0%} wrong" for f, n in zip(table.fraction, table.noise, strict=True)
    ]
    settings, places = (list(dict.fromkeys(table[name])) for name in ("setting", "regime"))
    wide = table.pivot(index="setting", columns="regime", values="difference")
    values = wide.loc[settings, places].to_numpy(np.float64)
    drawn = Figure(figsize=(2 + 1.1 * len(places), 1.5 + 0.4 * len(settings)), layout="constrained")
    axis = drawn.subplots()
    most = max(1.0, float(np.nanmax(np.abs(values))))
    image = axis.imshow(values, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    for row in table.itertuples():
        at = places.index(str(row.regime)), settings.index(str(row.setting))
        axis.text(*at, f"{row.difference:+.1f}{'*' if row.says else ''}", ha="center", va="center")
    axis.set_xticks(range(len(places)), places)
    axis.set_yticks(range(len(settings)), settings)
    axis.set(title="difference to the deterministic head")
    drawn.colorbar(image, label="points")
    return drawn


def answer(tables: StudyTables) -> str:
    """State what helps and hurts in every regime, and the difference of its weighted sum."""
    table, metric = cells(tables), headline(set(tables.summary.metric))
    rows = pick(tables.summary, tables.summary.protocol.iloc[0], metric).to_dict("index")
    places = dict.fromkeys(zip(table.fraction, table.noise, strict=True))
    told = []
    for (fraction, noise), row in zip(places, rule(table).rows, strict=True):
        regime_of, helps, hurts, largest = row
        there = table[(table.fraction == fraction) & (table.noise == noise)]
        untrained = rows[f"{METHODS[WEIGHTED_SUM].label}{where(fraction, noise)}"]
        gap = interval_of(untrained, "difference")
        said = f"help {helps}, hurt {hurts} (largest: {largest}; the weighted sum: {gap})"
        if not there.difference.any():
            said = "every head kept the weighted sum that it starts as"
        told.append(f"{regime_of}: {said}")
    return minus("; ".join(told))


STUDY = Study(
    "Scenarios: θ and n by data",
    "Which θ and n for which data?",
    answer,
    METHODS[DETERMINISTIC].label,
    variants,
    figure,
    own=own,
    grids=grids,
    measures=("rau.studies.breakdown:kinds",),
)
