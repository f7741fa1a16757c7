"""A comparison to be read: a page that needs no network, a table for the terminal, CSV files."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from rau.evaluation.bootstrap import MEAN
from rau.evaluation.comparison import Cell, Change, Compared, Comparison, Row, Side
from rau.report.examples import SHOWN
from rau.report.html import embed, jpeg, mark, page_template, style
from rau.report.image_strips import Strip, draw

TEMPLATE = Path(__file__).with_name("comparison_page.html")
AWAY = "the images are not at hand; run `python -m pipeline.download` for the pictures"
OTHER = "the images at hand are of another data set, so there are no pictures"
Nested = dict[str, Any]


@dataclass(frozen=True)
class Pictures:
    """What strips are drawn from.

    Attributes:
        paths: image files by id.
        relevant: true answers by query id, where they are known.
        note: why there are none, or nothing.
    """

    paths: Mapping[str, Path] = field(default_factory=dict)
    relevant: Mapping[str, Sequence[str]] = field(default_factory=dict)
    note: str = ""


def pictures(
    changes: Sequence[Change], root: Path, manifest: Sequence[Row], queries: Sequence[Row]
) -> Pictures:
    """The images at hand, where they are of the data set that was compared.

    Args:
        changes: the queries that are shown.
        root: the store that the manifest's paths are relative to.
        manifest: rows of the manifest.
        queries: rows of the queries table.
    """
    known = {q["query_id"]: (q["reference_id"], q["target_id"]) for q in queries}
    # Ids such as dress-val-0 are the same in every data set of the layout; the images are not.
    if any(
        known.get(one.a["query_id"]) != (one.a["reference_id"], one.a["target_id"])
        for one in changes
    ):
        return Pictures(note=OTHER)
    wanted = {
        name
        for one in changes
        for name in (one.a["reference_id"], *one.a["top"][:SHOWN], *one.b["top"][:SHOWN])
    }
    paths = {
        row["image_id"]: root / row["path"]
        for row in manifest
        if row["status"] == "ok" and row["image_id"] in wanted
    }
    there = {name: path for name, path in paths.items() if path.is_file()}
    relevant = {q["query_id"]: q["relevant"] for q in queries if q["relevant"] is not None}
    return Pictures(there, relevant, "" if there or not changes else AWAY)


def strip(row: Row, shown: Pictures) -> Image.Image | None:
    """The first images of one side's list; None when one of them cannot be read."""
    top = row["top"][:SHOWN]
    if not {row["reference_id"], *top} <= set(shown.paths):
        return None
    true = shown.relevant.get(row["query_id"], ())
    try:
        return draw(
            Strip(
                reference=shown.paths[row["reference_id"]],
                caption=row["text"],
                ranked=[shown.paths[name] for name in top],
                target_at=top.index(row["target_id"]) if row["target_id"] in top else None,
                relevant_at=frozenset(i for i, name in enumerate(top) if name in true),
            )
        )
    except OSError:
        # A picture that was damaged after it was examined is no reason to have no page.
        return None


def rank(row: Row) -> str:
    """The target's rank in words."""
    return "none" if row["target_rank"] is None else str(row["target_rank"])


def render(comparison: Comparison, shown: Pictures) -> str:
    """The page."""
    return page_template(TEMPLATE).render(
        comparison=comparison,
        style=style(),
        sides=[(*pair, described(pair[1])) for pair in _sides(comparison)],
        unlike=unlike(comparison),
        note=shown.note,
        protocols=[
            {
                "name": done.protocol,
                "queries": sum(done.queries.values()),
                "unranked": done.unranked,
                "left_out": done.left_out,
                "categories": [f"{c} ({n})" for c, n in sorted(done.queries.items())],
                "rows": _rows(done),
                "groups": [
                    {"title": title, "changes": [_change(one, shown) for one in found]}
                    for title, found in (
                        ("Gained: A ranks the target better", done.gained),
                        ("Lost: A ranks the target worse", done.lost),
                    )
                ],
            }
            for done in comparison.protocols
        ],
    )


def described(side: Side) -> str:
    """Data set, encoder and coverage of a side in words."""
    facts = side.facts
    known = (
        facts.dataset and f"data set {facts.dataset}" + (f" ({facts.copy})" if facts.copy else ""),
        facts.encoder and f"encoder {facts.encoder}",
        facts.coverage,
    )
    return (
        "; ".join(filter(None, known)) or "its file does not say its data set, encoder and coverage"
    )


def unlike(comparison: Comparison) -> str:
    """What else differs between the sides, in one line; nothing where nothing is known to."""
    a, b = comparison.a.facts, comparison.b.facts
    pairs = (
        ("copy of the data set", a.copy, b.copy),
        ("encoder", a.encoder, b.encoder),
        ("coverage", a.coverage, b.coverage),
    )
    words = [what for what, ours, theirs in pairs if ours and theirs and ours != theirs]
    if not words:
        return ""
    return f"A and B differ in {', '.join(words)}: differences are not of the methods alone"


def _rows(done: Compared) -> list[Nested]:
    """A row a metric: both means, the difference of the mean, then of each category."""
    return [
        {
            "metric": metric,
            "a": f"{done.cells[MEAN][metric].a:.2f}",
            "b": f"{done.cells[MEAN][metric].b:.2f}",
            "holm": p_value(done.cells[MEAN][metric].holm),
            "cells": [_cell(cells[metric]) for cells in done.cells.values()],
        }
        for metric in done.metrics
    ]


def _cell(cell: Cell) -> dict[str, str]:
    one = cell.difference
    return {
        "value": f"{one.value:+.2f}",
        "interval": f"[{one.low:+.2f}, {one.high:+.2f}]",
        "p": p_value(one.p),
    }


def p_value(p: float | None) -> str:
    """A p-value with its stars, four decimals."""
    return "" if p is None else f"{p:.4f}{mark(p)}"


def _change(one: Change, shown: Pictures) -> Nested:
    strips = []
    for letter, row in (("A", one.a), ("B", one.b)):
        image = strip(row, shown)
        words = f"{letter}: rank of the target {rank(row)}"
        if row["uncertainty"] is not None:
            words += f", uncertainty {row['uncertainty']:.4f}"
        strips.append({"caption": words, "data": None if image is None else embed(jpeg(image))})
    return {"row": one.a, "a": rank(one.a), "b": rank(one.b), "strips": strips}


def text_table(comparison: Comparison) -> str:
    """Differences of the mean and of each category, and the changed queries, for the terminal."""
    lines = []
    for letter, side in _sides(comparison):
        lines += [f"{letter}: {side.name}, {side.method}", f"   {described(side)}"]
    if warning := unlike(comparison):
        lines.append(warning)
    for done in comparison.protocols:
        categories = [name for name in done.cells if name != MEAN]
        lines += ["", f"protocol {done.protocol}, {sum(done.queries.values())} queries"]
        if done.left_out:
            lines.append(f"  {done.left_out} rows lack their images and are left out")
        heads = f"{'A':>8}{'B':>8}{'A - B':>9}{'95 % interval':>20}{'p':>11}{'Holm p':>11}"
        lines.append(f"  {'metric':<20}{heads}" + "".join(f"{name:>12}" for name in categories))
        for metric, cell in done.cells[MEAN].items():
            shown = _cell(cell)
            row = f"  {metric:<20}{cell.a:>8.2f}{cell.b:>8.2f}{shown['value']:>9}"
            row += f"{shown['interval']:>20}{shown['p']:>11}{p_value(cell.holm):>11}"
            for name in categories:
                gap = done.cells[name][metric].difference
                row += f"{f'{gap.value:+.2f}{mark(gap.p)}':>12}"
            lines.append(row)
        for title, found in (("gained", done.gained), ("lost", done.lost)):
            for one in found:
                ranks = f"rank {rank(one.b)} in B, {rank(one.a)} in A"
                text = " ".join(one.a["text"].split())
                lines.append(f"  {title:<8}{one.a['query_id']}: {ranks}: {text}")
    if comparison.left_out:
        lines += ["", f"protocols of one side only, left out: {', '.join(comparison.left_out)}"]
    return "\n".join(lines)


def _sides(comparison: Comparison) -> list[tuple[str, Side]]:
    return [("A", comparison.a), ("B", comparison.b)]


def differences_csv(comparison: Comparison) -> str:
    """Every cell as a line of a CSV file; metrics in percent."""
    head = "protocol,category,metric,queries,a,b,difference,low,high,p,p_holm"
    lines: list[list[Any]] = [head.split(",")]
    for done in comparison.protocols:
        for category, cells in done.cells.items():
            queries = sum(done.queries.values()) if category == MEAN else done.queries[category]
            for metric, cell in cells.items():
                one = cell.difference
                values = [cell.a, cell.b, one.value, one.low, one.high]
                p_values = [round(one.p, 6), "" if cell.holm is None else round(cell.holm, 6)]
                rounded = [round(value, 4) for value in values]
                lines.append([done.protocol, category, metric, queries, *rounded, *p_values])
    return _csv(lines)


def changes_csv(comparison: Comparison) -> str:
    """The queries that changed most as lines of a CSV file; no rank is an empty cell."""
    sides = [f"{column}_{side}" for column in ("rank", "uncertainty") for side in ("a", "b")]
    shown = ("category", "query_id", "text", "reference_id", "target_id")
    lines: list[list[Any]] = [["protocol", "change", *shown, *sides, "log_ratio"]]
    for done in comparison.protocols:
        for way, found in (("gained", done.gained), ("lost", done.lost)):
            for one in found:
                pairs = [
                    side[column]
                    for column in ("target_rank", "uncertainty")
                    for side in (one.a, one.b)
                ]
                texts = [one.a[column] for column in shown]
                lines.append([done.protocol, way, *texts, *pairs, round(one.log_ratio, 4)])
    return _csv(lines)


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
