"""Results that papers report, shown with ours where the protocol is the same.

The figures were gathered from papers, surveys and repositories, as each row says. `chosen_on` is
the split that an epoch was chosen on, as the method's own code does it: `val` of FashionIQ is the
split that it is measured on.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rau.evaluation.run_metrics import RunMetrics

FIGURES = Path(__file__).with_name("published.csv")
# The paper's own text names no protocol: the survey lists its figures under VAL.
INFERRED = "val (as the survey lists it)"
MEASURED_SPLIT = {"fashioniq": "val set", "cirr": "val", "circo": "val"}
# What else distinguishes rows.
ABOUT = ("category", "method", "backbone", "source", "encoders", "chosen_on")


@dataclass(frozen=True)
class Published:
    """One method's figures under one protocol and category.

    Attributes:
        encoders: which of them were trained.
        chosen_on: what the epoch was chosen on.
        values: by metric, in percent.
        notes: how the row differs from ours, each a few words; empty where it does not.
    """

    protocol: str
    category: str
    method: str
    backbone: str
    source: str
    encoders: str
    chosen_on: str
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
    for row in read():
        if row["dataset"] == dataset.name:
            values = found.setdefault(tuple(row[key] for key in ("split", "protocol", *ABOUT)), {})
            values[row["metric"]] = float(row["value"])
    there = metrics.coverage
    result = []
    for key, values in found.items():
        split, protocol, *about = key
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
        named = dict(zip(ABOUT, about, strict=True))
        result.append(Published(protocol=protocol, values=values, notes=tuple(notes), **named))
    return result


def select(rows: Sequence[Published], protocol: str, category: str) -> list[Published]:
    """Those of one table."""
    return [row for row in rows if (row.protocol, row.category) == (protocol, category)]
