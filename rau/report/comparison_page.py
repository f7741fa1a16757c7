"""A comparison as a self-contained HTML page, a table for the terminal, and CSV files."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from rau.console import printable
from rau.evaluation.bootstrap import MEAN
from rau.evaluation.comparison import Change, Compared, Comparison
from rau.evaluation.ranked_side import Side
from rau.files import digest, write_text
from rau.report.examples import (
    Ranked,
    image_paths,
    ranked_list,
    relevant_answers,
    shown_images,
    thumbnail_data,
)
from rau.report.html import mark, page_template
from rau.report.metric_names import label
from rau.report.numbers import signed
from rau.report.svg import Plot, Point, forest
from rau.schemas import ManifestRow, QueryRow, RankingRow

LONGEST = 60
Text = Literal["category", "query_id", "text", "reference_id", "target_id"]
TEMPLATE = Path(__file__).with_name("comparison_page.html")
# A query is found if the target is among the first 10.
COMPOSITION = (
    "method",
    "metric",
    "gain over the better single modality",
    "of what it finds, found by one modality alone",
    "found by the reference alone",
    "by the caption alone",
    "by at least one",
)
AWAY = "the images are not on this machine; run `python -m pipeline.download` to show them"
OTHER = "the images on this machine are of another data set"


@dataclass(frozen=True)
class Images:
    """Images and answers for showing ranked lists.

    Attributes:
        paths: image files by id.
        relevant: correct answers by query id, if known.
        note: why there are no images; empty if there are.
    """

    paths: Mapping[str, Path] = field(default_factory=dict)
    relevant: Mapping[str, Sequence[str]] = field(default_factory=dict)
    note: str = ""


def images_of(
    changes: Sequence[Change],
    root: Path,
    manifest: Sequence[ManifestRow],
    queries: Sequence[QueryRow],
) -> Images:
    """The images on this machine, if they belong to the data set that was compared.

    Args:
        changes: the queries that are shown.
        root: the folder that the manifest's paths are relative to.
    """
    known = {q["query_id"]: (q["reference_id"], q["target_id"]) for q in queries}
    shown = [one.a for one in changes]
    # Ids such as dress-val-0 occur in every data set of the layout, with different images.
    if any(known.get(row["query_id"]) != (row["reference_id"], row["target_id"]) for row in shown):
        return Images(note=OTHER)
    wanted = {name for one in changes for row in (one.a, one.b) for name in shown_images(row)}
    paths = image_paths(root, (row for row in manifest if row["image_id"] in wanted))
    present = {name: path for name, path in paths.items() if path.is_file()}
    note = "" if present or not changes else AWAY
    return Images(present, relevant_answers(queries), note)


def _lists(change: Change, shown: Images) -> Iterable[tuple[str, list[Ranked] | None]]:
    """Caption and ranked list of both sides; None if an image is missing."""
    for letter, row in (("A", change.a), ("B", change.b)):
        caption = f"{letter}: rank of the target {rank(row)}"
        if row["uncertainty"] is not None:
            caption += f", uncertainty (norm of σ) {row['uncertainty']:.4f}"
        whole = shown.paths.keys() >= shown_images(row)
        yield caption, ranked_list(row, shown.paths, shown.relevant) if whole else None


def _reference(change: Change, shown: Images) -> str:
    """The image of the reference; empty if missing."""
    path = shown.paths.get(change.a["reference_id"])
    return thumbnail_data(path) if path else ""


def difference(done: Compared) -> Plot:
    """Forest plot of the differences in a protocol's mean, by metric."""
    points = []
    for metric, cell in done.cells[MEAN].items():
        one = cell.difference
        points.append(Point(label(metric), one.value, (one.low, one.high), True, cell.holm))
    plot = forest(f"A - B under protocol {done.protocol}", points, "points", signed=True)
    return replace(plot, header=[*plot.header[:3], "Holm's p"][: len(plot.header)])


def compositions(comparison: Comparison, done: Compared) -> list[list[str]]:
    """The composition of both sides as rows with the columns `COMPOSITION`; empty if unknown."""
    rows = []
    sides = zip("AB", (comparison.a, comparison.b), done.composition, strict=True)
    for letter, side, found in sides:
        if found is None:
            continue
        own = found.methods[side.method]
        low, high = own.gap.interval or (math.nan, math.nan)
        gap = f"{signed(own.gap.difference)} [{signed(low)}, {signed(high)}]"
        shares = (own.alone, found.reference, found.caption, found.either)
        shown = ["–" if share is None else f"{share:.1%}" for share in shares]
        over = f"{label(found.metric)} over {found.better}"
        rows.append([f"{letter}: {side.method}", over, gap, *shown])
    return rows


def rank(row: RankingRow) -> str:
    """The target's rank in words."""
    return str(row["target_rank"] or "none")


def p_value(p: float | None) -> str:
    """A p-value with its stars, four decimals."""
    return "" if p is None else f"{p:.4f}{mark(p)}"


def render(comparison: Comparison, shown: Images) -> str:
    """The page."""
    return page_template(TEMPLATE).render(
        comparison=comparison,
        described=described,
        unlike=unlike(comparison),
        note=shown.note,
        p_value=p_value,
        rank=rank,
        difference=difference,
        compositions=compositions,
        composition=COMPOSITION,
        lists=lambda change: _lists(change, shown),
        reference=lambda change: _reference(change, shown),
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
    unknown = "its file does not name its data set, encoder and coverage"
    return "; ".join(filter(None, known)) or unknown


def unlike(comparison: Comparison) -> str:
    """What else differs between the sides, in one line; empty if nothing known differs."""
    a, b = comparison.a.metadata, comparison.b.metadata
    pairs = {
        "copy of the data set": (a.copy, b.copy),
        "encoder": (a.encoder, b.encoder),
        "coverage": (a.coverage, b.coverage),
    }
    words = [what for what, pair in pairs.items() if all(pair) and pair[0] != pair[1]]
    if not words:
        return ""
    return f"A and B differ in {', '.join(words)}: differences are not only due to the methods"


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
            lines.append(f"  {done.left_out} rows are left out, because their images are missing")
        categories = [name for name in done.cells if name != MEAN]
        header = f"{'A':>8}{'B':>8}{'A - B':>9}{'95 % interval':>20}{'p':>11}{'Holm p':>11}"
        lines.append(f"  {'metric':<20}{header}" + "".join(f"{name:>12}" for name in categories))
        for metric, cell in done.cells[MEAN].items():
            one = cell.difference
            interval = f"[{one.low:+.2f}, {one.high:+.2f}]"
            gaps = (done.cells[name][metric].difference for name in categories)
            lines.append(
                f"  {metric:<20}{cell.a:>8.2f}{cell.b:>8.2f}{one.value:>+9.2f}{interval:>20}"
                f"{p_value(one.p):>11}{p_value(cell.holm):>11}"
                + "".join(f"{f'{gap.value:+.2f}{mark(gap.p)}':>12}" for gap in gaps)
            )
        for method, over, gap, alone, *_ in compositions(comparison, done):
            lines.append(f"  {method}: {over} {gap}; {alone} {COMPOSITION[3]}")
        for title, change in _titled(done):
            ranks = f"rank {rank(change.b)} in B, {rank(change.a)} in A"
            text = " ".join(change.a["text"].split())
            lines.append(f"  {title:<8}{change.a['query_id']}: {ranks}: {text}")
    if comparison.left_out:
        lines += ["", f"protocols of only one side, left out: {', '.join(comparison.left_out)}"]
    # A file of rankings may come from someone else.
    return "\n".join(map(printable, lines))


def _titled(done: Compared) -> list[tuple[str, Change]]:
    """Changed queries, each with its direction."""
    return [("gained", one) for one in done.gained] + [("lost", one) for one in done.lost]


def differences_csv(comparison: Comparison) -> str:
    """CSV with one line per cell; metrics in percent."""
    head = "protocol,category,metric,queries,a,b,difference,low,high,p,p_holm"
    lines: list[Sequence[object]] = [head.split(",")]
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
    """CSV of the queries that changed most; a missing rank is an empty cell."""
    texts: tuple[Text, ...] = get_args(Text)
    sides = ("rank_a", "rank_b", "uncertainty_a", "uncertainty_b")
    lines: list[Sequence[object]] = [["protocol", "change", *texts, *sides, "log_ratio"]]
    for done in comparison.protocols:
        for title, one in _titled(done):
            named = [one.a[column] for column in texts]
            ranks = one.a["target_rank"], one.b["target_rank"]
            uncertainties = one.a["uncertainty"], one.b["uncertainty"]
            ratio = round(one.log_ratio, 4)
            lines.append([done.protocol, title, *named, *ranks, *uncertainties, ratio])
    return _csv(lines)


def write(comparison: Comparison, shown: Images, folder: Path) -> None:
    """Write the page `index.html` and both CSV files."""
    write_text(folder / "differences.csv", differences_csv(comparison))
    write_text(folder / "changes.csv", changes_csv(comparison))
    write_text(folder / "index.html", render(comparison, shown))


def file_name(name: str, method: str | None) -> str:
    """A side as part of a file name; a digest is added if characters were replaced."""
    whole = name if method is None else f"{name}_{method}"
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", whole).strip("-.")[-LONGEST:]
    return plain if plain == whole else f"{plain}-{digest(whole)}".lstrip("-.")


def _csv(lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
