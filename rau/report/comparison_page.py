"""A comparison to be read: a page that needs no network, a table for the terminal, CSV files."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rau.evaluation.bootstrap import MEAN
from rau.evaluation.comparison import Change, Compared, Comparison, Row, Side
from rau.files import digest, write_text
from rau.report.examples import SHOWN, row_strip
from rau.report.html import embed, jpeg, mark, page_template, style
from rau.report.image_strips import draw

LONGEST = 60
TEMPLATE = Path(__file__).with_name("comparison_page.html")
AWAY = "the images are not at hand; run `python -m pipeline.download` for the pictures"
OTHER = "the images at hand are of another data set, so there are no pictures"


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
    shown = [one.a for one in changes]
    # Ids such as dress-val-0 are the same in every data set of the layout; the images are not.
    if any(known.get(row["query_id"]) != (row["reference_id"], row["target_id"]) for row in shown):
        return Pictures(note=OTHER)
    wanted = {name for one in changes for row in (one.a, one.b) for name in _images(row)}
    paths = {
        row["image_id"]: root / row["path"]
        for row in manifest
        if row["status"] == "ok" and row["image_id"] in wanted
    }
    there = {name: path for name, path in paths.items() if path.is_file()}
    relevant = {q["query_id"]: q["relevant"] for q in queries if q["relevant"] is not None}
    return Pictures(there, relevant, "" if there or not changes else AWAY)


def _images(row: Row) -> set[str]:
    """What a row's strip shows."""
    return {row["reference_id"], *row["top"][:SHOWN]}


def _strips(change: Change, shown: Pictures) -> Iterable[tuple[str, str | None]]:
    """Both sides' captions, and their embedded strips; None where an image cannot be read."""
    for letter, row in (("A", change.a), ("B", change.b)):
        caption = f"{letter}: rank of the target {rank(row)}"
        if row["uncertainty"] is not None:
            caption += f", uncertainty {row['uncertainty']:.4f}"
        data = None
        if _images(row) <= set(shown.paths):
            # A picture that was damaged after it was examined is no reason to have no page.
            with suppress(OSError):
                data = embed(jpeg(draw(row_strip(row, shown.paths, shown.relevant))))
        yield caption, data


def rank(row: Row) -> str:
    """The target's rank in words."""
    return str(row["target_rank"] or "none")


def p_value(p: float | None) -> str:
    """A p-value with its stars, four decimals."""
    return "" if p is None else f"{p:.4f}{mark(p)}"


def render(comparison: Comparison, shown: Pictures) -> str:
    """The page."""
    return page_template(TEMPLATE).render(
        comparison=comparison,
        style=style(),
        described=described,
        unlike=unlike(comparison),
        note=shown.note,
        p_value=p_value,
        rank=rank,
        strips=lambda change: _strips(change, shown),
    )


def described(side: Side) -> str:
    """Data set, encoder and coverage of a side in words."""
    metadata = side.metadata
    known = (
        metadata.dataset
        and f"data set {metadata.dataset}" + (f" ({metadata.copy})" if metadata.copy else ""),
        metadata.encoder and f"encoder {metadata.encoder}",
        metadata.coverage,
    )
    unknown = "its file does not say its data set, encoder and coverage"
    return "; ".join(filter(None, known)) or unknown


def unlike(comparison: Comparison) -> str:
    """What else differs between the sides, in one line; nothing where nothing is known to."""
    a, b = comparison.a.metadata, comparison.b.metadata
    pairs = {
        "copy of the data set": (a.copy, b.copy),
        "encoder": (a.encoder, b.encoder),
        "coverage": (a.coverage, b.coverage),
    }
    words = [what for what, pair in pairs.items() if all(pair) and pair[0] != pair[1]]
    if not words:
        return ""
    return f"A and B differ in {', '.join(words)}: differences are not of the methods alone"


def text_table(comparison: Comparison) -> str:
    """Differences of the mean and of each category, and the changed queries, for the terminal."""
    lines = []
    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        lines += [f"{letter}: {side.name}, {side.method}", f"   {described(side)}"]
    if warning := unlike(comparison):
        lines.append(warning)
    for done in comparison.protocols:
        lines += ["", f"protocol {done.protocol}, {sum(done.queries.values())} queries"]
        if done.left_out:
            lines.append(f"  {done.left_out} rows lack their images and are left out")
        categories = [name for name in done.cells if name != MEAN]
        heads = f"{'A':>8}{'B':>8}{'A - B':>9}{'95 % interval':>20}{'p':>11}{'Holm p':>11}"
        lines.append(f"  {'metric':<20}{heads}" + "".join(f"{name:>12}" for name in categories))
        for metric, cell in done.cells[MEAN].items():
            one = cell.difference
            interval = f"[{one.low:+.2f}, {one.high:+.2f}]"
            gaps = (done.cells[name][metric].difference for name in categories)
            lines.append(
                f"  {metric:<20}{cell.a:>8.2f}{cell.b:>8.2f}{one.value:>+9.2f}{interval:>20}"
                f"{p_value(one.p):>11}{p_value(cell.holm):>11}"
                + "".join(f"{f'{gap.value:+.2f}{mark(gap.p)}':>12}" for gap in gaps)
            )
        for title, change in _titled(done):
            ranks = f"rank {rank(change.b)} in B, {rank(change.a)} in A"
            text = " ".join(change.a["text"].split())
            lines.append(f"  {title:<8}{change.a['query_id']}: {ranks}: {text}")
    if comparison.left_out:
        lines += ["", f"protocols of one side only, left out: {', '.join(comparison.left_out)}"]
    return "\n".join(lines)


def _titled(done: Compared) -> list[tuple[str, Change]]:
    """Changed queries, each with its direction."""
    return [("gained", one) for one in done.gained] + [("lost", one) for one in done.lost]


def differences_csv(comparison: Comparison) -> str:
    """Every cell as a line of a CSV file; metrics in percent."""
    head = "protocol,category,metric,queries,a,b,difference,low,high,p,p_holm"
    lines: list[Sequence[Any]] = [head.split(",")]
    for done in comparison.protocols:
        for category, cells in done.cells.items():
            queries = sum(done.queries.values()) if category == MEAN else done.queries[category]
            for metric, cell in cells.items():
                one = cell.difference
                values = [round(v, 4) for v in (cell.a, cell.b, one.value, one.low, one.high)]
                p_values = round(one.p, 6), cell.holm and round(cell.holm, 6)
                lines.append([done.protocol, category, metric, queries, *values, *p_values])
    return _csv(lines)


def changes_csv(comparison: Comparison) -> str:
    """The queries that changed most as lines of a CSV file; no rank is an empty cell."""
    texts = ("category", "query_id", "text", "reference_id", "target_id")
    sides = ("rank_a", "rank_b", "uncertainty_a", "uncertainty_b")
    lines: list[Sequence[Any]] = [["protocol", "change", *texts, *sides, "log_ratio"]]
    for done in comparison.protocols:
        for title, one in _titled(done):
            named = [one.a[column] for column in texts]
            pairs = [s[c] for c in ("target_rank", "uncertainty") for s in (one.a, one.b)]
            lines.append([done.protocol, title, *named, *pairs, round(one.log_ratio, 4)])
    return _csv(lines)


def write(comparison: Comparison, shown: Pictures, folder: Path) -> None:
    """The page `index.html`, and both CSV files."""
    write_text(folder / "differences.csv", differences_csv(comparison))
    write_text(folder / "changes.csv", changes_csv(comparison))
    write_text(folder / "index.html", render(comparison, shown))


def file_name(name: str, method: str | None) -> str:
    """A side as part of a file name; what had to be changed in it shows as a digest."""
    whole = name if method is None else f"{name}_{method}"
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", whole).strip("-.")[-LONGEST:]
    return plain if plain == whole else f"{plain}-{digest(whole)}".lstrip("-.")


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
