"""Results of studies as pages of the documentation: a table of answers and a page per study.

A setting is a data set with the features that heads were trained on. Each setting has a folder with
its answers, so that a page can combine settings measured on several machines.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import pandas as pd
from pydantic import Field

from rau.evaluation.run_metrics import RunMetrics
from rau.files import write_json, write_text
from rau.params import Section
from rau.report.html import mark
from rau.report.metric_names import label
from rau.report.numbers import minus
from rau.studies import answers, holdout, registry, study
from rau.studies.grid import Grid, interval
from rau.studies.tables import Statistics, StudyTables, statistics

FILE = "answers.json"
MAX_BYTES = 1 << 22
START, END = "<!-- answers -->\n", "<!-- end -->"
COMPOSITION = "composition"
ORDER = (*registry.STUDIES, COMPOSITION)
LATER = "†"
FOOTNOTE = (
    f"{LATER} Measured before code, features or parameters changed; its command measures it again."
)
# Metrics of the table of differences, if they were measured.
SHOWN = ("recall_at_1", "mean_of_r5_rs1", "mean_of_r10_r50", "map")


class Answer(Section):
    """The answer of a study.

    Attributes:
        study: name of the study, or `COMPOSITION`.
        details: whether a separate page has the tables and the figure.
        current: whether code, features and parameters were unchanged at the last writing.
        code: `study.source_digest` of the code that was used; empty if none is recorded.
    """

    study: str
    question: str
    text: str
    command: str
    details: bool
    current: bool = True
    code: str = ""


class Findings(Section):
    """The answers of one setting, in the order of the studies."""

    setting: str
    about: dict[str, str] = Field(default_factory=dict)
    answers: list[Answer] = Field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            UserError: if the file is malformed.
        """
        return cls.read_json(folder / FILE, MAX_BYTES, "remove it and write the findings again")

    @classmethod
    def of(cls, folder: Path, setting: str) -> Self:
        """Read the answers of a setting, empty if there are none yet; errors as in `read`."""
        return cls.read(folder) if (folder / FILE).exists() else cls(setting=setting)

    def write(self, folder: Path) -> None:
        """Write the file atomically."""
        write_json(folder / FILE, self.model_dump())

    def renewed(self, about: Mapping[str, str], made: Sequence[Answer]) -> Self:
        """Replace the answers of these studies; others are kept and marked as not current."""
        by_study = {one.study: one.model_copy(update={"current": False}) for one in self.answers}
        by_study |= {one.study: one for one in made}
        kept = [by_study[name] for name in ORDER if name in by_study]
        return self.model_copy(update={"about": dict(about), "answers": kept})


def slug(setting: str) -> str:
    """Name of the folder of a setting."""
    return re.sub(r"[^a-z0-9]+", "-", setting.lower()).strip("-")


def of_study(tables: StudyTables) -> Answer:
    """Derive the answer from the tables of a study."""
    name = tables.document.study
    own = registry.load(name)
    command = f"python -m pipeline.study {'tune ' if own.tuned else ''}{name}"
    return Answer(
        study=name,
        question=own.question,
        text=own.answer(tables),
        command=command,
        details=True,
        code=study.source_digest(name),
    )


def of_run(metrics: RunMetrics) -> Answer | None:
    """Answer whether the recalls of a run mean composition; None if that was not measured."""
    found = metrics.composition.get(metrics.headline.protocol, {}).get("mean")
    own = None if found is None else found.methods.get(metrics.method)
    if found is None or own is None or own.alone is None:
        return None
    ends = own.gap.interval or (float("nan"), float("nan"))
    gap = minus(interval((own.gap.difference, *ends), "{:+.1f}"))
    return Answer(
        study=COMPOSITION,
        question="Do recalls mean composition?",
        text=(
            f"{metrics.method}: {gap} {label(found.metric)} over {found.better}; of what it finds "
            f"among the first {found.cut}, {own.alone:.0%} one modality finds alone"
        ),
        command="dvc repro",
        details=False,
    )


def table(found: Sequence[Findings], folder: str) -> str:
    """The answers of all settings as a Markdown table with one row per study.

    Args:
        folder: parent of the settings' folders, relative to the page.
    """
    by_study: dict[str, list[tuple[Answer, str]]] = {}
    for setting in found:
        for one in setting.answers:
            page = f"{folder}/{slug(setting.setting)}/{one.study}.md"
            name = f"[{setting.setting}]({page})" if one.details else setting.setting
            old = "" if _is_current(one) else f" {LATER}"
            told = by_study.setdefault(one.study, [])
            told.append((one, f"{name}{old}: {one.text}."))
    rows = []
    for name in (name for name in ORDER if name in by_study):
        # Older answers may have been to the same question in other words.
        asked = max((one for one, _ in by_study[name]), key=_is_current)
        cells = "<br>".join(cell for _, cell in by_study[name])
        rows.append([asked.question, cells, f"`{asked.command}`"])
    lines = markdown(["question", "answer", "measured by"], rows)
    return f"{lines}\n\n{FOOTNOTE}" if LATER in lines else lines


def _is_current(answer: Answer) -> bool:
    """Whether an answer was current at the last writing of its setting, and its code still is."""
    return answer.current and (not answer.code or answer.code == study.source_digest(answer.study))


def inserted(page: str, content: str) -> str:
    """Return the page with the content between its markers.

    Raises:
        ValueError: if the page has no markers.
    """
    before, found, rest = page.partition(START)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"the page has no line {START.strip()} followed by {END}")
    return f"{before}{START}{content}\n{END}{after}"


def details(tables: StudyTables, setting: str, about: Mapping[str, str], picture: str) -> str:
    """The page of a study: its answer, figure, differences and additional tables."""
    own_study = registry.load(tables.document.study)
    size = f"preset {tables.document.preset}, {tables.document.seeds} seeds"
    parts = [
        f"# {own_study.title}",
        f"{setting}. {own_study.answer(tables)}.",
        "; ".join([size, *(f"{name} {value}" for name, value in about.items())]) + ".",
        f"{found}." if (found := holdout.said(tables)) else "",
        f"![{own_study.title}]({picture})",
    ]
    for protocol, own in tables.summary.groupby("protocol", sort=False):
        parts += [f"## Protocol {protocol}", differences(own)]
    for heading, grid in own_study.grids(tables).items():
        parts += [f"## {heading}", grid.described, _grid(grid)]
    return "\n\n".join(part for part in parts if part) + "\n"


def differences(rows: pd.DataFrame) -> str:
    """Format means and paired differences, the summary's rows of a protocol, as Markdown."""
    known = [name for name in SHOWN if name in set(rows.metric)]
    compared = known[1:] or known
    header = ["variant", *map(label, known), *(f"difference, {label(name)}" for name in compared)]
    cells = []
    for variant, own in rows.groupby("variant", sort=False):
        by_metric = statistics(own.set_index("metric"))
        means = [f"{by_metric[name]['mean']:.2f}" for name in known]
        gaps = [_gap(by_metric[name]) for name in compared]
        cells.append([str(variant), *means, *gaps])
    return markdown(header, cells)


def _gap(row: Statistics) -> str:
    if pd.isna(row["difference"]):
        return ""
    return f"{answers.ends(row)}{mark(row['p_holm'])}"


def _grid(grid: Grid) -> str:
    return markdown(grid.header, grid.typeset)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table as Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in line) + " |"
        for line in lines
    )


def write_page(path: Path, folder: Path) -> None:
    """Write the answers of all settings into the page."""
    found = [Findings.read(own.parent) for own in sorted(folder.glob(f"*/{FILE}"))]
    write_text(path, inserted(path.read_text(encoding="utf-8"), table(found, folder.name)))
