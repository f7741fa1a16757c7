"""CSU's threshold θ, absolute and as a quantile."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rau.methods import DETERMINISTIC, METHODS
from rau.models.config import without_uncertainty
from rau.params import Params, UaParams
from rau.report import metric_names
from rau.studies import answers
from rau.studies.figures import axis_places, band, cosines, pick
from rau.studies.grid import Columns, by_variant
from rau.studies.plan import Plan, Preset, Tuned, Variant, variant
from rau.studies.registry import Study
from rau.studies.tables import StudyTables

THETAS: Mapping[Preset, tuple[float, ...]] = {
    "smoke": (0.3, 0.8),
    "quick": (0.1, 0.3, 0.5, 0.7, 0.9),
    "full": tuple(round(0.1 * step, 1) for step in range(1, 10)),
}
QUANTILES: Mapping[Preset, tuple[float, ...]] = {
    "smoke": (0.99,),
    "quick": (0.98, 0.995),
    "full": (0.9, 0.95, 0.98, 0.99, 0.995, 0.998),
}
CSU: Columns = {
    "csu_added_per_row": ("extra positives per query", "{:.2f}"),
    "csu_share": ("share of all pairs", "{:.1%}"),
    "csu_precision": ("precision", "{:.1%}"),
    "csu_recall": ("recall", "{:.1%}"),
}


def variants(params: Params, sizes: Plan, tuned: Tuned) -> list[Variant]:
    """Return absolute thresholds, then quantiles, then the deterministic head as the baseline."""
    weight = params.ua.csu_weight or UaParams().csu_weight
    common = {"head.name": "rau", "ua.csu_weight": weight, "ua.theta_quantile": None}
    thresholds = [("θ =", "theta", value) for value in THETAS[sizes.preset]]
    thresholds += [("quantile", "theta_quantile", value) for value in QUANTILES[sizes.preset]]
    rows = [
        variant(f"{word} {value:g}", params, {**common, f"ua.{name}": value}, **{name: value})
        for word, name, value in thresholds
    ]
    return [*rows, Variant(METHODS[DETERMINISTIC].label, without_uncertainty(params), {})]


def _sweep(left: Axes, right: Axes, tables: StudyTables, axis_name: str) -> None:
    """Plot metrics against a threshold on the left, and positives added by CSU on the right."""
    labels, x = axis_places(tables, axis_name)
    summary = tables.summary
    protocol = summary.protocol.iloc[0]
    for metric in ("recall_at_10", "recall_at_50", "map"):
        rows = pick(summary, protocol, metric)
        if rows.empty:
            continue
        band(left, x, rows.loc[labels], metric_names.label(metric))
        flat = float(rows["mean"].loc[tables.document.reference])
        left.axhline(flat, linestyle=":", color=left.get_lines()[-1].get_color())
    left.set(xlabel=axis_name, ylabel="percent", title=f"{protocol}; dotted: deterministic head")
    left.legend(fontsize="small")
    means = tables.runs.groupby("variant")[
        ["csu_added_per_row", "csu_precision", "csu_recall"]
    ].mean()
    right.plot(x, means.loc[labels, "csu_added_per_row"], "ko-", label="extra positives per query")
    right.set(xlabel=axis_name, yscale="symlog", title="what CSU adds, kept epoch")
    right.set_ylabel("extra positives per query")
    if means.loc[labels, "csu_precision"].notna().any():
        rates = right.twinx()
        for name, colour in (("csu_precision", "tab:green"), ("csu_recall", "tab:orange")):
            rates.plot(x, 100 * means.loc[labels, name], "s--", color=colour, label=CSU[name][0])
        rates.set(ylabel="percent", ylim=(0, 105))
        rates.legend(fontsize="small", loc="center right")


def figure(tables: StudyTables) -> Figure:
    """Plot metrics and extra positives against θ and its quantile, and the cosines."""
    drawn = Figure(figsize=(13, 7.5), layout="constrained")
    grid = drawn.add_gridspec(2, 3)
    for row, name in enumerate(("theta", "theta_quantile")):
        left, right = drawn.add_subplot(grid[row, 0]), drawn.add_subplot(grid[row, 1])
        _sweep(left, right, tables, name)
    document = tables.document
    cosines(drawn.add_subplot(grid[:, 2]), document.cosines[document.reference])
    return drawn


def answer(tables: StudyTables) -> str:
    """State which thresholds differ from the deterministic head, and CSU's best precision."""
    told = f"{answers.differing(tables)} from the deterministic head"
    means = tables.runs.groupby("variant", sort=False)[["csu_added_per_row", "csu_precision"]]
    precise = means.mean().query("csu_added_per_row >= 1").csu_precision.dropna()
    if precise.empty:
        return told
    most = f"{precise.max():.0%} of what CSU adds at {precise.idxmax()}"
    return f"{told}. At best {most} is true, where it adds one positive a query or more"


STUDY = Study(
    "The threshold θ",
    "Which θ?",
    answer,
    METHODS[DETERMINISTIC].label,
    variants,
    figure,
    grids=lambda tables: {"Extra positives of CSU": by_variant(tables, CSU, "mean")},
)
