"""The report of a run as one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from rau.evaluation.bootstrap import Interval
from rau.evaluation.run_metrics import RunMetrics, Scores
from rau.report import published_results
from rau.report.html import embed, jpeg, mark, page_template, style
from rau.retrieval.protocols import Protocol

TEMPLATE = Path(__file__).with_name("run_page.html")
RECALLS = ("recall_at_1", "recall_at_5", "recall_at_10", "recall_at_50")
SUBSET = ("subset_recall_at_1", "subset_recall_at_2", "subset_recall_at_3", "mean_of_r5_rs1")
# CIRR's own metrics where there are any, FashionIQ's mean elsewhere.
COLUMNS = (*RECALLS, "mean_of_r10_r50", *SUBSET, "map")


def _cells(
    values: Mapping[str, float], intervals: Mapping[str, Interval], names: Sequence[str]
) -> list[dict[str, str | None]]:
    cells: list[dict[str, str | None]] = []
    for name in names:
        ends = intervals.get(name)
        interval = f"[{ends[0]:.1f}, {ends[1]:.1f}]" if ends else None
        cells.append({"value": f"{values[name]:.2f}", "interval": interval})
    return cells


def columns(values: Mapping[str, float]) -> list[str]:
    """The metrics that are shown, in order."""
    skipped = {"mean_of_r10_r50"} if SUBSET[-1] in values else set()
    return [name for name in COLUMNS if name in values and name not in skipped]


def _categories(values: Scores) -> list[str]:
    """The mean first; a single category is its own mean."""
    own = sorted(name for name in values if name != "mean")
    return own if len(own) == 1 else ["mean", *own]


def tables(metrics: RunMetrics, protocols: Sequence[Protocol]) -> list[dict[str, Any]]:
    """One table per protocol and category, the mean first.

    Baselines are above the head, published results below it; every row names its encoder.
    """
    result = []
    encoder = metrics.encoder_name
    reported = published_results.comparable(metrics)
    for protocol in protocols:
        ours = metrics.protocols[protocol.name]
        for category in _categories(ours):
            names = columns(ours[category])
            rows = [
                {
                    "name": name,
                    "encoder": encoder,
                    "ours": False,
                    "cells": _cells(
                        baseline[protocol.name][category],
                        metrics.baseline_intervals[name][protocol.name].get(category, {}),
                        names,
                    ),
                }
                for name, baseline in metrics.baselines.items()
            ]
            own = metrics.intervals[protocol.name].get(category, {})
            rows.append(
                {
                    "name": metrics.method,
                    "encoder": encoder,
                    "ours": True,
                    "cells": _cells(ours[category], own, names),
                }
            )
            sizes = metrics.galleries[protocol.name]
            of = list(sizes.values()) if category == "mean" else [sizes[category]]
            result.append(
                {
                    "protocol": protocol.name,
                    "choices": protocol.choices,
                    "category": category,
                    "gallery": " + ".join(map(str, of)),
                    "chance": sum(chance(size, 10) for size in of) / len(of),
                    "metrics": names,
                    "rows": rows,
                    "published": _published(reported, protocol.name, category, names),
                    "against": _against(metrics, protocol.name, category, names),
                }
            )
    return result


def chance(gallery_size: int, k: int) -> float:
    """Recall at k of a random ranking, in percent."""
    return 100.0 * min(k, gallery_size) / gallery_size


def _against(
    metrics: RunMetrics, protocol: str, category: str, names: Sequence[str]
) -> list[dict[str, str]] | None:
    """Differences to the deterministic head, paired by query; None where there are none."""
    found = metrics.against.get(protocol)
    if found is None:
        return None
    cells = []
    for name in names:
        one = found[category][name]
        stars = "" if one.p is None else mark(one.p)
        ends = "" if one.interval is None else "[{:+.1f}, {:+.1f}]".format(*one.interval)
        cells.append({"value": f"{one.difference:+.2f}{stars}", "interval": ends})
    return cells


def _published(
    reported: Sequence[published_results.Published],
    protocol: str,
    category: str,
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """Rows of one table, a dash where a paper gives no figure."""
    return [
        {
            "name": row.method,
            "encoder": row.backbone,
            "source": row.source,
            "notes": row.notes,
            "cells": [f"{row.values[n]:.2f}" if n in row.values else "–" for n in names],
        }
        for row in published_results.select(reported, protocol, category)
    ]


def render(
    metrics: RunMetrics,
    protocols: Sequence[Protocol],
    params: Mapping[str, Any],
    figures: Mapping[str, bytes],
    groups: Mapping[str, Sequence[tuple[str, Image.Image]]],
) -> str:
    """The page.

    Args:
        protocols: those measured.
        params: flat, by dotted name.
        figures: PNG by caption.
        groups: strips with their captions, by title.
    """
    return page_template(TEMPLATE).render(
        style=style(),
        metrics=metrics,
        coverage=metrics.coverage,
        tables=tables(metrics, protocols),
        params=params,
        figures=[{"caption": c, "data": embed(data)} for c, data in figures.items()],
        groups=[
            {
                "title": title,
                "strips": [{"caption": c, "data": embed(jpeg(image))} for c, image in strips],
            }
            for title, strips in groups.items()
        ],
    )


def text_table(metrics: RunMetrics) -> str:
    """A compact table of the means for the terminal."""
    lines = []
    for protocol, values in metrics.protocols.items():
        names = columns(values["mean"])
        lines.append(f"{'protocol ' + protocol:<31}" + "".join(f"{name:>17}" for name in names))
        rows = {n: b[protocol]["mean"] for n, b in metrics.baselines.items()}
        rows[metrics.method] = values["mean"]
        for method, row in rows.items():
            lines.append(f"  {method:<29}" + "".join(f"{row[name]:>17.2f}" for name in names))
        if protocol in metrics.against:
            gaps = metrics.against[protocol]["mean"]
            cells = "".join(f"{gaps[name].difference:>+17.2f}" for name in names)
            lines.append(f"{'  difference to deterministic':<31}{cells}")
    lines += [f"{one.name}: {one.evidence}; {one.remedy}" for one in metrics.diagnostics]
    return "\n".join(lines)
