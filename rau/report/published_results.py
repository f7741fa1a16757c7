"""Published results, shown with ours if the protocol is the same.

The figures were collected from papers, surveys and repositories, as stated in each row.
`chosen_on` is the split that the epoch was chosen on according to the method's own code; for
FashionIQ, `val` is also the split that is reported.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rau.evaluation.run_metrics import RunMetrics

FIGURES = Path(__file__).with_name("published.csv")
# The paper does not name its protocol; the survey lists its figures under VAL.
INFERRED = "val (as the survey lists it)"
MEASURED_SPLIT = {"fashioniq": "val set", "cirr": "val", "circo": "val"}
# What else distinguishes rows.
ABOUT = ("category", "method", "backbone", "source", "encoders", "chosen_on")


@dataclass(frozen=True)
class Published:
    """The published figures of one method under one protocol and category.

    Attributes:
        encoders: which encoders were trained.
        chosen_on: the split that the epoch was chosen on.
        values: by metric, in percent.
        notes: differences to our rows, a few words each; may be empty.
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
    """The rows shown with those of a run: those of its data set, if its copy is official."""
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
    """The rows of one table."""
    return [row for row in rows if (row.protocol, row.category) == (protocol, category)]
