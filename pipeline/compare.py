"""Compare two runs query by query: tables, a page and an artifact of the MLflow runs concerned."""

import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import stage, workspace
from rau.errors import UserError

FOLDER = Path("reports/compare")
RUN_ID = re.compile(r"[0-9a-f]{32}")
LONGEST = 60


@dataclass(frozen=True)
class Found:
    """A rankings file, and the MLflow run or the revision that it is of."""

    path: Path
    run: str | None = None
    revision: str | None = None


def main(
    a: Annotated[str, typer.Argument(help="MLflow run, DVC experiment, git revision or file")],
    b: Annotated[str, typer.Argument(help="the same, what A is compared with")],
    method_a: Annotated[str | None, typer.Option(help="in place of A's trained head")] = None,
    method_b: Annotated[str | None, typer.Option(help="in place of B's trained head")] = None,
    changed: Annotated[int, typer.Option(min=0, max=50, help="queries shown each way")] = 5,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="of the bootstrap")] = 10_000,
) -> None:
    """Show differences A less B, and the queries that changed most, under every protocol."""
    from rau.evaluation import comparison
    from rau.files import write_text
    from rau.report import comparison_page as shown

    with tempfile.TemporaryDirectory() as temporary:
        places = [Path(temporary, side) for side in "ab"]
        found = [resolve(name, into) for name, into in zip((a, b), places, strict=True)]
        sides = [
            comparison.read_side(name, one.path, method)
            for name, one, method in zip((a, b), found, (method_a, method_b), strict=True)
        ]
    result = comparison.compare(sides[0], sides[1], resamples, changed)
    page = shown.render(result, _pictures(result))
    folder = FOLDER / f"{safe(a, method_a)}-{safe(b, method_b)}"
    write_text(folder / "differences.csv", shown.differences_csv(result))
    write_text(folder / "changes.csv", shown.changes_csv(result))
    write_text(folder / "index.html", page)
    print(shown.text_table(result))
    print(f"comparison: {folder / 'index.html'}")
    _attach(found, folder)


def safe(name: str, method: str | None) -> str:
    """A side as part of a file name; what had to be changed in it shows as a digest."""
    from rau.files import digest

    whole = name if method is None else f"{name}_{method}"
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", whole).strip("-.")[-LONGEST:]
    return plain if plain == whole else f"{plain}-{digest(whole)}".lstrip("-.")


def resolve(name: str, into: Path) -> Found:
    """Find a side's rankings: a file, then an MLflow run, then a DVC experiment or git revision.

    Args:
        name: what the user named.
        into: folder for a copy; it need not exist.

    Raises:
        UserError: when it is none of them, or has no rankings.
    """
    if Path(name).is_file():
        return Found(Path(name))
    if RUN_ID.fullmatch(name):
        copy = _from_run(name, into)
        if copy is not None:
            return Found(copy, run=name)
    cached = _from_revision(name, into)
    if cached is not None:
        return Found(cached, revision=name)
    raise UserError(
        f"{name}: no file, no MLflow run id, no DVC experiment and no git revision of this "
        "project has this name; see `dvc exp show` and the MLflow page"
    )


def _from_run(run: str, into: Path) -> Path | None:
    """A copy of the rankings of an MLflow run, None when there is no such run."""
    from rau import tracking
    from rau.evaluation.comparison import MAX_BYTES

    into.mkdir(parents=True, exist_ok=True)
    uri = tracking.store_uri(workspace.main_checkout())
    try:
        return tracking.fetch_artifact(uri, run, "rankings", ".parquet", into, MAX_BYTES)
    except tracking.TrackingUnavailable as error:
        raise UserError(f"{run}: {error}; name a file or a DVC experiment instead") from error


def _from_revision(name: str, into: Path) -> Path | None:
    """The rankings of a revision, from the main checkout's cache; None for no such revision."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.scm import SCMError

    try:
        files = DVCFileSystem(str(workspace.main_checkout()), rev=name)
        path = workspace.rankings(_dataset(files, name)).as_posix()
        info = files.info(path)
    except (SCMError, NotDvcRepoError):
        return None
    except FileNotFoundError as error:
        raise UserError(f"{name}: no rankings there; run `dvc repro` there and commit") from error
    except DvcException as error:
        raise UserError(f"{name}: DVC cannot read it ({error}); name a file instead") from error
    if "md5" not in info:
        copy = into / Path(path).name
        into.mkdir(parents=True, exist_ok=True)
        files.get_file(path, str(copy))
        return copy
    # DVC would look in a remote too; what lies in the cache needs no network.
    cached = Path(files.repo.cache.local.oid_to_path(info["md5"]))
    if not cached.is_file():
        raise UserError(
            f"{name}: its {path} is not in DVC's cache; run `dvc fetch`, or the experiment again"
        )
    return cached


def _dataset(files: Any, name: str) -> str:
    """The data set of a revision's parameters, else that of the working folder."""
    import yaml

    try:
        params = yaml.safe_load(files.read_text("params.yaml"))
        return str(params["dataset"]["name"])
    except (FileNotFoundError, KeyError, TypeError):
        return workspace.load_params().dataset.name
    except (yaml.YAMLError, UnicodeError) as error:
        raise UserError(f"{name}: its params.yaml is not YAML; name another revision") from error


def _pictures(result: Any) -> Any:
    """The images of the changed queries, or why there are none."""
    from rau.report.comparison_page import AWAY, Pictures, pictures
    from rau.schemas import MANIFEST, QUERIES, read_table

    try:
        params = workspace.load_params()
        name = params.dataset.name
        root = workspace.store(params.dataset)
        manifest = read_table(workspace.manifest(name), MANIFEST, "download").to_pylist()
        queries = read_table(workspace.table(name, "queries"), QUERIES, "tables").to_pylist()
    except UserError:
        # The differences need no images, and they may be another machine's.
        return Pictures(note=AWAY)
    return pictures(result.changes, root, manifest, queries)


def _attach(found: list[Found], folder: Path) -> None:
    """Attach the files to the runs that were named, else to those of the named experiments."""
    from rau import tracking

    uri = tracking.store_uri(workspace.main_checkout())
    try:
        runs = {one.run for one in found if one.run is not None}
        if not runs:
            revisions = sorted({one.revision for one in found if one.revision is not None})
            tagged = [tracking.find_by_tag(uri, "dvc_experiment", one) for one in revisions]
            runs = {run for run in tagged if run is not None}
        for run in sorted(runs):
            tracking.attach(uri, run, folder, f"compare/{folder.name}")
            print(f"MLflow run {run}: artifact compare/{folder.name}")
        if not runs:
            print("no MLflow run is concerned; the files alone were written")
    except tracking.TrackingUnavailable as error:
        print(f"warning: {error}; only the files were written", file=sys.stderr)


if __name__ == "__main__":
    stage.run(main)
