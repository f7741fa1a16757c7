"""`rau compare`: compare two runs query by query, as tables, a page and an MLflow artifact."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rau.errors import UserError
from rau.project import workspace
from rau.project.named_rankings import Found, resolve

if TYPE_CHECKING:
    from rau.evaluation.comparison import Comparison
    from rau.report.comparison_page import Images

FOLDER = Path("reports/compare")


def compare(
    a: Annotated[str, typer.Argument(help="MLflow run, DVC experiment, git revision or file")],
    b: Annotated[str, typer.Argument(help="the run that A is compared with, given like A")],
    method_a: Annotated[
        str | None, typer.Option(help="method of A to compare, instead of its trained head")
    ] = None,
    method_b: Annotated[str | None, typer.Option(help="method of B to compare")] = None,
    changed: Annotated[
        int, typer.Option(min=0, max=50, help="improved and worsened queries to show")
    ] = 5,
    resamples: Annotated[
        int, typer.Option(min=100, max=100_000, help="bootstrap resamples")
    ] = 10_000,
) -> None:
    """Show the differences A - B and the queries that changed most, under every protocol."""
    from rau.evaluation import comparison, ranked_side
    from rau.report import comparison_page as report

    with tempfile.TemporaryDirectory() as for_a, tempfile.TemporaryDirectory() as for_b:
        found = [resolve(a, Path(for_a)), resolve(b, Path(for_b))]
        side_a = ranked_side.read_side(a, found[0].path, method_a)
        side_b = ranked_side.read_side(b, found[1].path, method_b)
    result = comparison.compare(side_a, side_b, resamples, changed)
    # No name of a side has a +.
    folder = FOLDER / f"{report.file_name(a, method_a)}+{report.file_name(b, method_b)}"
    report.write(result, _images(result), folder)
    print(report.text_table(result))
    print(f"comparison: {folder / 'index.html'}")
    _attach(found, folder)


def _images(result: "Comparison") -> "Images":
    """Get the images of the changed queries, or the reason why there are none."""
    from rau.report.comparison_page import AWAY, Images, images_of
    from rau.schemas import read_manifest, read_queries

    try:
        params = workspace.load_params()
        name = params.dataset.name
        root = workspace.store(params.dataset)
        manifest = read_manifest(workspace.manifest(name))
        queries = read_queries(workspace.table(name, "queries"))
    except UserError:
        # The comparison does not need the images, which may be on another machine.
        return Images(note=AWAY)
    return images_of(result.changes, root, manifest, queries)


def _attach(found: Sequence[Found], folder: Path) -> None:
    """Attach the files to the given MLflow runs, else to those of the given experiments."""
    from rau import tracking

    uri = tracking.store_uri(workspace.main_checkout())
    try:
        runs = {one.run for one in found if one.run}
        if not runs:
            revisions = {one.revision for one in found if one.revision}
            tagged = (tracking.find_by_tag(uri, "dvc_experiment", one) for one in revisions)
            runs = {run for run in tagged if run}
        for run in sorted(runs):
            tracking.attach(uri, run, folder, f"compare/{folder.name}")
            print(f"MLflow run {run}: artifact compare/{folder.name}")
        if not runs:
            print("no MLflow run matches A or B; only the files were written")
    except tracking.TrackingUnavailable as error:
        print(f"warning: {error}; only the files were written", file=sys.stderr)
