"""Results that papers report, shown with ours where the protocol is the same.

The figures were gathered from the survey arXiv 2409.05405 and WeiMoCIR's repository, as each row
says. Most of them were selected on the val split that they are measured on.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rau.evaluation.run_metrics import RunMetrics

FIGURES = Path(__file__).with_name("published.csv")
# The paper's own text names no protocol: the survey lists its figures under VAL.
INFERRED = "val (as the survey lists it)"
MEASURED_SPLIT = {"fashioniq": "val set", "cirr": "val"}


@dataclass(frozen=True)
class Published:
    """One method's figures under one protocol and category.

    Attributes:
        values: by metric, in percent.
        notes: how the row differs from ours, each a few words; empty where it does not.
    """

    protocol: str
    category: str
    method: str
    backbone: str
    source: str
    values: Mapping[str, float]
    notes: tuple[str, ...]


def read() -> list[dict[str, str]]:
    """The rows of the file."""
    with FIGURES.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def comparable(metrics: RunMetrics) -> list[Published]:
    """The rows shown with a run's own: those of its data set, where its copy is official."""
    dataset = metrics.dataset
    if dataset.copy_kind != "official":
        return []
    found: dict[tuple[str, ...], dict[str, float]] = {}
    keys = ("split", "protocol", "category", "method", "backbone", "source")
    for row in read():
        if row["dataset"] == dataset.name:
            values = found.setdefault(tuple(row[key] for key in keys), {})
            values[row["metric"]] = float(row["value"])
    there = metrics.coverage
    result = []
    for (split, protocol, category, method, backbone, source), values in found.items():
        notes: list[str] = []
        if protocol == INFERRED:
            protocol = "val"
            notes.append("protocol inferred")
        if split != MEASURED_SPLIT[dataset.name]:
            notes.append(f"not comparable: measured on {split}")
        if there.val_images < there.val_images_expected:
            notes.append("not comparable: val images are missing here")
        elif there.images < there.images_expected:
            notes.append("images outside val are missing here")
        result.append(Published(protocol, category, method, backbone, source, values, tuple(notes)))
    return result


def select(rows: Sequence[Published], protocol: str, category: str) -> list[Published]:
    """Those of one table."""
    return [row for row in rows if (row.protocol, row.category) == (protocol, category)]
