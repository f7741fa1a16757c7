"""The number n of UA blocks."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from rau.params import Params
from rau.studies import answers
from rau.studies.figures import axis_places, panels, pick, reach
from rau.studies.grid import costs
from rau.studies.plan import Plan, Preset, Tuned, Variant, variant
from rau.studies.registry import Study
from rau.studies.tables import StudyTables

BLOCKS: Mapping[Preset, tuple[int, ...]] = {
    "smoke": (0, 1, 2),
    "quick": (0, 1, 2, 4, 6),
    "full": tuple(range(7)),
}


def variants(params: Params, sizes: Plan, tuned: Tuned) -> list[Variant]:
    """Return RAU with each number n of blocks."""
    return [
        variant(f"n = {n}", params, {"head.name": "rau", "ua.n": n}, n=n)
        for n in BLOCKS[sizes.preset]
    ]


def figure(tables: StudyTables) -> Figure:
    """Plot R@1 against R@50 by n, and the number of parameters and training time by n."""
    protocol = tables.summary.protocol.iloc[0]
    drawn, axes = panels(3)
    first, deep = (pick(tables.summary, protocol, f"recall_at_{k}") for k in (1, 50))
    labels, n = axis_places(tables, "n")
    axes[0].errorbar(
        first.loc[labels, "mean"],
        deep.loc[labels, "mean"],
        xerr=reach(first.loc[labels], "mean"),
        yerr=reach(deep.loc[labels], "mean"),
        fmt="o",
        elinewidth=0.6,
    )
    places = zip(first.loc[labels, "mean"], deep.loc[labels, "mean"], strict=True)
    named: dict[tuple[float, float], list[str]] = {}
    for label, place in zip(labels, places, strict=True):
        named.setdefault(place, []).append(label)
    for place, own in named.items():
        axes[0].annotate(", ".join(own), place)
    axes[0].set(xlabel="R@1", ylabel="R@50", title=f"protocol {protocol}")
    means = tables.runs.groupby("variant")[["parameters", "seconds"]].median().loc[labels]
    axes[1].plot(n, means.parameters / 1e6, "o-")
    axes[1].set(xlabel="n", ylabel="million parameters", title="size", ylim=(0, None))
    axes[2].plot(n, means.seconds, "o-")
    axes[2].set(xlabel="n", ylabel="seconds", title="training, median of seeds", ylim=(0, None))
    return drawn


STUDY = Study(
    "The number n of blocks",
    "How many blocks n?",
    lambda tables: (
        f"{answers.differing(tables)}, against no block. Highest mean: {answers.best(tables)}"
    ),
    "n = 0",
    variants,
    figure,
    grids=lambda tables: {"Size and training time": costs(tables)},
)
