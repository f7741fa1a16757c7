"""The report of a run: its page, and its plots and image strips as separate files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from rau.evaluation.run_metrics import RunMetrics
from rau.files import new_folder, write_text
from rau.models.config import is_uncertain
from rau.params import Params, of_a_run
from rau.report import run_page, run_plots
from rau.report.examples import choose, evenly, mixed, relevant_answers, row_strip
from rau.report.html import jpeg
from rau.report.image_strips import draw
from rau.retrieval import protocols
from rau.schemas import QueryRow, RankingRow

# Queries per result on the page, and the number of them that are also separate strips.
EXAMPLES, STRIPS = 12, 4


@dataclass(frozen=True)
class RunReport:
    """The page as HTML, and images by file name."""

    page: str
    images: Mapping[str, bytes]

    def write(self, page: Path, folder: Path) -> None:
        """Write the page, and the images to a folder, in place of those of another run."""
        with new_folder(folder) as new:
            for name, data in self.images.items():
                (new / name).write_bytes(data)
        write_text(page, self.page)


def make(
    params: Params,
    metrics: RunMetrics,
    history: run_plots.Columns | None,
    finetuning: run_plots.Columns | None,
    rankings: pa.Table,
    paths: Mapping[str, Path],
    queries: Sequence[QueryRow],
    provenance: Mapping[str, str],
) -> RunReport:
    """Draw the plots and strips of a run and render its page.

    Args:
        history: columns of the training history; None if the head was not trained here.
        finetuning: columns of the encoder's history, if it was fine-tuned.
        rankings: of schema `RANKINGS`; the run's method under the headline's protocol is shown.
        paths: image files by id.
        queries: rows of the queries table.
        provenance: versions and inputs behind the page, by name.
    """
    own = (pc.field("method") == metrics.method) & (
        pc.field("protocol") == metrics.headline.protocol
    )
    rows = cast(list[RankingRow], rankings.filter(own).to_pylist())
    best = metrics.training.best_epoch
    plots = {} if history is None else run_plots.training(history, best)
    if finetuning is not None:
        plots |= run_plots.finetuning(finetuning)
    if history is not None and is_uncertain(params):
        known = [(row["uncertainty"], row["target_uncertainty"]) for row in rows]
        plots |= run_plots.sigmas(
            history,
            [source for source, _ in known if source is not None],
            [target for source, target in known if source is not None and target is not None],
        )
    chosen, relevant = choose(rows, paths, EXAMPLES), relevant_answers(queries)
    recall = run_plots.recall_curve(metrics, rankings)
    images = {
        f"{name}.svg": plot.file() for name, plot in (plots | {"recall_at_k": recall}).items()
    }
    strips = [row for found in chosen.values() for row in evenly(found, STRIPS)]
    for number, row in enumerate(strips, 1):
        images[f"strip_{number:02}.jpg"] = jpeg(draw(row_strip(row, paths, relevant)))
    measured = protocols.select(params.dataset.name, params.evaluate)
    if metrics.distractors:
        measured.insert(1, measured[0].with_distractors())
    page = run_page.render(
        metrics,
        measured,
        of_a_run(params),
        recall,
        list(plots.values()),
        mixed(chosen, paths, relevant),
        provenance,
    )
    return RunReport(page, images)
