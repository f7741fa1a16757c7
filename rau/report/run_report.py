"""The report of a run: its page, and the figures and image strips as files of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from rau.evaluation.run_metrics import RunMetrics
from rau.files import write_bytes, write_text
from rau.models.config import is_uncertain
from rau.params import Params, of_a_run
from rau.report import figures, run_page
from rau.report.examples import groups, relevant_answers
from rau.report.html import jpeg, png
from rau.retrieval import protocols
from rau.schemas import QueryRow, RankingRow

# Image strips per group.
STRIPS = 4


@dataclass(frozen=True)
class RunReport:
    """The page as HTML, and images by file name."""

    page: str
    images: Mapping[str, bytes]

    def write(self, page: Path, folder: Path) -> None:
        """Write the page, and the images to a folder."""
        for name, data in self.images.items():
            write_bytes(folder / name, data)
        write_text(page, self.page)


def make(
    params: Params,
    metrics: RunMetrics,
    history: figures.Columns | None,
    finetuning: figures.Columns | None,
    rankings: pa.Table,
    paths: Mapping[str, Path],
    queries: Sequence[QueryRow],
) -> RunReport:
    """Draw the figures and strips of a run and render its page.

    Args:
        history: columns of the training history; None where the head was not trained here.
        finetuning: columns of the encoder's, where it was fine-tuned.
        rankings: of schema `RANKINGS`; the run's method under the headline's protocol is shown.
        paths: image files by id.
        queries: rows of the queries table.
    """
    own = (pc.field("method") == metrics.method) & (
        pc.field("protocol") == metrics.headline.protocol
    )
    rows = cast(list[RankingRow], rankings.filter(own).to_pylist())
    drawn = {}
    if history is not None:
        drawn["Loss terms by epoch"] = figures.losses(history)
        best = metrics.training.best_epoch
        drawn["Recall on the holdout by epoch"] = figures.recalls(history, best)
    if finetuning is not None:
        measured_val = "val_map" in finetuning or "val_mean_of_r10_r50" in finetuning
        note = "; val, dotted, chose nothing" if measured_val else ""
        drawn[f"Finetuning of the encoder by epoch{note}"] = figures.finetuning(finetuning)
    if history is not None and is_uncertain(params):
        known = [(row["uncertainty"], row["target_uncertainty"]) for row in rows]
        drawn["σ of source and target"] = figures.sigmas(
            history,
            [source for source, _ in known if source is not None],
            [target for source, target in known if source is not None and target is not None],
        )
    pictures = {caption: png(figure) for caption, figure in drawn.items()}
    strips = groups(rows, paths, relevant_answers(queries), STRIPS)
    measured = protocols.select(params.dataset.name, params.evaluate)
    images = {f"{caption.split()[0].lower()}.png": data for caption, data in pictures.items()}
    shown = (image for group in strips.values() for _, image in group)
    images |= {f"strip_{number:02}.jpg": jpeg(image) for number, image in enumerate(shown, 1)}
    page = run_page.render(metrics, measured, of_a_run(params), pictures, strips)
    return RunReport(page, images)
