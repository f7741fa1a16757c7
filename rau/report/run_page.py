"""The report of a run as one self-contained HTML file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rau.evaluation.bootstrap import Interval, PairedDifference
from rau.evaluation.run_metrics import Composition, RunMetrics, Scores
from rau.report import metric_names, published_results, run_plots
from rau.report.examples import RESULTS, Example
from rau.report.html import page_template
from rau.report.published_results import Published
from rau.report.svg import Plot
from rau.retrieval.protocols import Protocol

TEMPLATE = Path(__file__).with_name("run_page.html")
RECALLS = ("recall_at_1", "recall_at_5", "recall_at_10", "recall_at_50")
SUBSET = ("subset_recall_at_1", "subset_recall_at_2", "subset_recall_at_3", "mean_of_r5_rs1")
# CIRR's own metrics if there are any, otherwise FashionIQ's mean.
COLUMNS = (*RECALLS, "mean_of_r10_r50", *SUBSET, "map")
# CIRCO's.
BY_ANSWERS = tuple(f"{name}_at_{k}" for name in ("map", "recall") for k in (5, 10, 25, 50))


def chance(gallery_size: int, k: int) -> float:
    """Recall at k of a random ranking, in percent."""
    return 100.0 * min(k, gallery_size) / gallery_size


@dataclass(frozen=True)
class MethodRow:
    """A row of a table: the metrics and intervals of a method, in percent."""

    name: str
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]


@dataclass(frozen=True)
class ProtocolTable:
    """Results of one category.

    Attributes:
        galleries: numbers of images.
        metrics: names of the columns.
        rows: the baselines, then the run's own method.
        against: paired differences to the deterministic head; None if there are none.
        composition: the methods compared with the single modalities; None if unknown.
        published: published results.
    """

    category: str
    galleries: Sequence[int]
    metrics: Sequence[str]
    rows: Sequence[MethodRow]
    against: Mapping[str, PairedDifference] | None
    composition: Composition | None
    published: Sequence[Published]

    @property
    def chance(self) -> float:
        """R@10 of a random ranking, in percent, the mean over the galleries."""
        return sum(chance(size, 10) for size in self.galleries) / len(self.galleries)


@dataclass(frozen=True)
class ProtocolSection:
    """The part of the page on one protocol.

    Attributes:
        tables: one per category, the mean over categories first.
        aspects: mAP@10 by method and semantic aspect; empty if queries have none.
    """

    protocol: Protocol
    plots: list[Plot]
    tables: Sequence[ProtocolTable]
    aspects: Mapping[str, Mapping[str, float]]


def columns(values: Mapping[str, float], headline: str) -> list[str]:
    """The metrics to show, in order.

    Args:
        headline: name of the headline metric.
    """
    if headline in BY_ANSWERS:
        return [name for name in BY_ANSWERS if name in values]
    skipped = {"mean_of_r10_r50"} if SUBSET[-1] in values else set()
    return [name for name in COLUMNS if name in values and name not in skipped]


def _categories(values: Scores) -> list[str]:
    """The mean first; a single category is its own mean."""
    own = sorted(name for name in values if name != "mean")
    return own if len(own) == 1 else ["mean", *own]


def _tables(metrics: RunMetrics, protocol: Protocol) -> Iterator[ProtocolTable]:
    """One table per category, the mean first."""
    name = protocol.name
    ours, against = metrics.protocols[name], metrics.against.get(name)
    composed = metrics.composition.get(name, {})
    sizes, reported = metrics.galleries[name], published_results.comparable(metrics)
    for category in _categories(ours):
        rows = [
            MethodRow(
                method,
                scores[name][category],
                metrics.baseline_intervals[method][name].get(category, {}),
            )
            for method, scores in metrics.baselines.items()
        ]
        intervals = metrics.intervals[name].get(category, {})
        yield ProtocolTable(
            category,
            list(sizes.values()) if category == "mean" else [sizes[category]],
            columns(ours[category], protocol.metric),
            [*rows, MethodRow(metrics.method, ours[category], intervals)],
            None if against is None else against[category],
            composed.get(category),
            published_results.select(reported, name, category),
        )


def render(
    metrics: RunMetrics,
    protocols: Sequence[Protocol],
    params: Mapping[str, Any],
    recall: Plot,
    training: Sequence[Plot],
    examples: Sequence[Example],
    provenance: Mapping[str, str],
) -> str:
    """Render the page.

    Args:
        protocols: the evaluated protocols, the headline's first.
        params: flat, by dotted name.
        recall: recall at K of every method.
        training: plots of the training.
        examples: ranked queries.
        provenance: versions and inputs behind the page, by name.
    """
    sections = [_section(metrics, protocol) for protocol in protocols]
    sections[0].plots.append(recall)
    return page_template(TEMPLATE).render(
        metrics=metrics,
        sections=sections,
        params=params,
        training=training,
        examples=examples,
        results=RESULTS,
        provenance=provenance,
        meaning=metric_names.meaning(metrics),
        verdict=metric_names.verdict(metrics),
        calibration=metrics.calibration and run_plots.calibration(metrics.calibration),
        single=single,
    )


def _section(metrics: RunMetrics, protocol: Protocol) -> ProtocolSection:
    name = protocol.name
    known = metrics.protocols[name]["mean"]
    # A custom protocol may not have its headline metric.
    metric = protocol.metric if protocol.metric in known else metrics.headline.metric
    against = run_plots.differences(metrics, name, columns(known, protocol.metric))
    plots = [run_plots.methods(metrics, name, metric), *([against] if against else [])]
    tables, aspects = [*_tables(metrics, protocol)], metrics.aspects.get(name, {})
    if composition := tables[0].composition:
        plots.append(run_plots.composition(composition, metrics.method, name))
    return ProtocolSection(protocol, plots, tables, aspects)


def text_table(metrics: RunMetrics) -> str:
    """A compact table of the means for the terminal."""
    lines = []
    for protocol, values in metrics.protocols.items():
        names = columns(values["mean"], metrics.headline.metric)
        composition = metrics.composition.get(protocol, {}).get("mean")
        header = "".join(f"{name:>17}" for name in names)
        header += f"{'over single':>17}{'single finds':>17}" if composition else ""
        lines.append(f"{'protocol ' + protocol:<31}{header}")
        rows = {n: b[protocol]["mean"] for n, b in metrics.baselines.items()}
        rows[metrics.method] = values["mean"]
        for method, row in rows.items():
            cells = "".join(f"{row[name]:>17.2f}" for name in names)
            lines.append(f"  {method:<29}{cells}{_composed(composition, method)}")
        if protocol in metrics.against:
            gaps = metrics.against[protocol]["mean"]
            cells = "".join(f"{gaps[name].difference:>+17.2f}" for name in names)
            lines.append(f"{'  difference to deterministic':<31}{cells}")
        if composition:
            lines.append(f"  {single(composition)}")
    lines += [f"warning: {caution}" for caution in metrics.cautions]
    lines += [f"{one.name}: {one.evidence}; {one.remedy}" for one in metrics.diagnostics]
    return "\n".join(lines)


def single(composition: Composition) -> str:
    """The queries that single modalities solve, in words."""
    one = composition
    return (
        f"counting targets among the first {one.cut}, the reference alone solves "
        f"{one.reference:.1%} of the queries, the caption alone {one.caption:.1%}, at least one "
        f"{one.either:.1%}; the better one by {metric_names.label(one.metric)} is {one.better}"
    )


def _composed(composition: Composition | None, method: str) -> str:
    """The gain over the better single modality and the share it also finds, as table cells."""
    if composition is None:
        return ""
    own = composition.methods[method]
    alone = "–" if own.alone is None else f"{own.alone:.1%}"
    return f"{own.gap.difference:>+17.2f}{alone:>17}"
