"""`rau index`: encode a catalogue into an index for `rau search` and `rau serve`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rau import cpu
from rau.cli.options import IndexFolder
from rau.console import printable
from rau.errors import UserError
from rau.project import workspace

if TYPE_CHECKING:
    from rau.params import Params
    from rau.schemas import QueryRow
    from rau.search.difference import Changes
    from rau.search.index import Index

SPLIT = "none is in the current train split, but a model of another split may have seen them"


def index(
    folder: Annotated[
        Path | None,
        typer.Argument(help="folder of images, optionally with a products.csv or .parquet"),
    ] = None,
    *,
    into: IndexFolder,
    dataset: Annotated[
        bool,
        typer.Option("--dataset", help="index the val gallery of dataset.name, not FOLDER"),
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            help="a project's folder, a git revision, a DVC experiment, an MLflow run or "
            "models:/NAME@ALIAS"
        ),
    ] = ".",
    engine: Annotated[
        Literal["exact", "lancedb"] | None,
        typer.Option(
            help="exact for up to about a million images, lancedb for more; default: that of the "
            "index, exact for a new one"
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="fit the confidence of searches on queries of the catalogue"
        ),
    ] = False,
    renew: Annotated[
        bool, typer.Option("--renew", help="replace the model of an index built with another one")
    ] = False,
) -> None:
    """Update the index to FOLDER: new images are encoded, missing ones are removed."""
    if (folder is None) != dataset:
        raise UserError("give either a FOLDER of images or --dataset")
    if folder is not None and into.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"--index {into} is inside {folder}, so its files would be read as images of the "
            "catalogue; choose another folder"
        )
    from rau import devices
    from rau.project import galleries, named_models
    from rau.search import build, catalogue
    from rau.search.index import MANIFEST, read_manifest

    params = workspace.params_or_defaults()
    threads = cpu.limit_threads(params.train.threads)
    queries = _queries(folder, params) if calibrate else None
    found = catalogue.of_folder(folder) if folder is not None else galleries.catalogue_of()
    if engine is None:
        engine = read_manifest(into).engine if (into / MANIFEST).is_file() else "exact"
    device, trust = devices.choose(params.train.device), params.encoder.trust_remote_code
    with named_models.opened(model, device, trust) as loaded:
        made, changes = build.build(
            into,
            found,
            loaded,
            engine,
            params.features.batch_size,
            params.features.workers or threads,
            renew,
        )
    for note in found.notes:
        print(printable(f"note: {note}"))
    _report(into, made, changes)
    if queries is not None:
        _calibrate(into, queries, params)


def _report(folder: Path, made: "Index", changes: "Changes") -> None:
    """Print changes, skipped images, and the recall of an approximate engine."""
    from rau.search.build import UNREADABLE
    from rau.search.recall import recall

    print(printable(f"{folder}: {len(made):,} images; {changes}"))
    for path, reason in list(changes.unreadable.items())[:3]:
        print(printable(f"skipped: {path}: {reason}"))
    if changes.unreadable:
        print(printable(f"list of all skipped images: {folder / UNREADABLE}"))
    if not made.engine.exact:
        print(f"recall@10 of the exact search's results, on a sample: {recall(made):.3f}")


def _queries(folder: Path | None, params: "Params") -> "Sequence[QueryRow]":
    """Generate the queries of a folder's product table, or without a folder read the data set's.

    Raises:
        UserError: when there are no queries, or too few for the calibration.
    """
    from rau.datasets.catalogue import products
    from rau.datasets.readers import reader
    from rau.schemas import read_queries
    from rau.search.calibrate import untrained

    if folder is None:
        found = read_queries(workspace.table(params.dataset.name, "queries"))
    elif products.tables(folder):
        found = reader("catalogue", params.dataset.catalogue).read_annotations(folder).queries
    else:
        raise UserError(
            f"--calibrate: {folder} has no {products.NAMES[0]} to generate queries from"
        )
    return untrained(found)


def _calibrate(index: Path, queries: "Sequence[QueryRow]", params: "Params") -> None:
    """Fit the index's confidence on its catalogue's queries, and print their number and source."""
    from rau import devices
    from rau.search.calibrate import calibrate
    from rau.search.searcher import Searcher

    device = devices.choose(params.train.device)
    opened = Searcher.open(index, device, params.encoder.trust_remote_code)
    made = calibrate(opened, queries)
    print(printable(f"calibrated on {made.queries:,} queries of {made.source}; {SPLIT}"))
