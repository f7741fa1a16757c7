"""Comparison of composers trained together with the encoder, in every data regime."""

from collections.abc import Mapping
from dataclasses import replace

from matplotlib.figure import Figure

from rau.finetuning.run import tower_lr
from rau.methods import DETERMINISTIC, METHODS, RAW_SUM
from rau.params import Params
from rau.report import metric_names
from rau.studies import answers
from rau.studies.figures import intervals, pick
from rau.studies.grid import costs
from rau.studies.plan import (
    WHOLE,
    Plan,
    Preset,
    Regime,
    Tuned,
    Variant,
    parts,
    variant,
    where,
)
from rau.studies.registry import Study
from rau.studies.tables import StudyTables

# Methods with an uncertainty of another kind.
OTHERS = tuple(
    name
    for name, method in METHODS.items()
    if method.blocks and not method.regularised and name != DETERMINISTIC
)
# A tenth of the queries with 40 % of them wrong is omitted: nothing is learned from it (the
# composer keeps its start) at every rate that was tried. `quick` has wrong targets among fewer
# queries, which takes half the time.
REGIMES: Mapping[Preset, tuple[Regime, ...]] = {
    "smoke": (WHOLE, (0.25, 0.4)),
    "quick": (WHOLE, (0.3, 0.0), (0.1, 0.0), (0.3, 0.2), (0.3, 0.4)),
    "full": (WHOLE, (0.3, 0.0), (0.1, 0.0), (1.0, 0.2), (1.0, 0.4), (0.3, 0.4)),
}
# Parts (ISU, CSU, DR) that `quick` compares if queries are few or wrong.
QUICK_PARTS = ((False, False, False), (True, False, False), (True, True, True))


def variants(params: Params, sizes: Plan, tuned: Tuned) -> list[Variant]:
    """Return composers trained together with the towers, in every data regime.

    The number of epochs is divided by the square root of the fraction of data, so that less data
    does not only mean less training. The learning rate of the towers is multiplied by it: at the
    rate for all queries, training with a tenth of them made the built-in encoder worse. All
    composers of a regime have the same epochs and rate.
    """
    deterministic = METHODS[DETERMINISTIC].label
    combined = [(True, False, False), (True, True, False), (True, False, True), (True, True, True)]
    composers = {
        METHODS[name].label: {"head.name": name} for name in (RAW_SUM, DETERMINISTIC, *OTHERS)
    } | dict(parts(params, *own) for own in combined)
    few = {parts(params, *own)[0] for own in QUICK_PARTS} if sizes.preset == "quick" else composers
    rows = []
    for fraction, noise in REGIMES[sizes.preset]:
        place = where(fraction, noise)
        changes = {
            "finetune.composer": "head",
            "finetune.epochs": round(params.finetune.epochs / fraction**0.5),
            "finetune.tower_lr": tower_lr(params) * fraction**0.5,
            "train.fraction": fraction,
            "train.noise": noise,
        }
        for label in composers if (fraction, noise) == WHOLE else few:
            changed = {**changes, **composers[label]}
            found = variant(f"{label}{place}", params, changed, fraction=fraction, noise=noise)
            rows.append(replace(found, partner=f"{deterministic}{place}"))
    return rows


def figure(tables: StudyTables) -> Figure:
    """Plot differences to the deterministic composer, one panel per data regime and metric."""
    summary, document = tables.summary, tables.document
    protocol = summary.protocol.iloc[0]
    places = {v.label: (v.x["fraction"], v.x["noise"]) for v in document.variants}
    known = set(summary.metric)
    shown = [name for name in ("mean_of_r10_r50", "mean_of_r5_rs1", "map") if name in known]
    kinds = list(dict.fromkeys(places.values()))
    drawn = Figure(figsize=(4.6 * len(kinds), 2.9 * len(shown)), layout="constrained")
    grid = drawn.subplots(len(shown), len(kinds), squeeze=False, sharex=True)
    for metric, axes in zip(shown, grid, strict=True):
        for (fraction, noise), axis in zip(kinds, axes, strict=True):
            rows = pick(summary, protocol, metric).dropna(subset="difference")
            rows = rows[[places[label] == (fraction, noise) for label in rows.index]]
            intervals(axis, rows, [label.split(" (")[0] for label in rows.index])
            axis.set(
                title=f"{fraction:.0%} of the queries, {noise:.0%} wrong",
                xlabel=metric_names.label(metric),
            )
    drawn.suptitle(f"{protocol}: difference to {document.reference}, points")
    return drawn


def answer(tables: StudyTables) -> str:
    """Compare full RAU with the deterministic composer by regime, and name the best composer."""
    label, _ = parts(Params(), True, True, True)
    told = []
    for v in tables.document.variants:
        name, _, place = v.label.partition(" (")
        if name == label:
            regime = f"{place[:-1]}: " if place else ""
            told.append(regime + answers.difference(tables, v.label))
    return f"{'; '.join(told)}. Highest mean: {answers.best(tables)}"


STUDY = Study(
    "Composers with jointly trained encoders",
    "Does it help if encoders are trained jointly?",
    answer,
    METHODS[DETERMINISTIC].label,
    variants,
    figure,
    grids=lambda tables: {"Size and training time": costs(tables)},
    encoders=True,
)
