"""`rau export`: log a search as an MLflow model, which `mlflow models serve` can serve."""

import re
from typing import Annotated

import typer

from rau.cli.options import IndexFolder, TrustRemoteCode
from rau.errors import UserError
from rau.project import workspace

NAME, ALIAS = (
    re.compile(r"[\w.-]{1,200}", re.ASCII),
    re.compile(r"[a-z][\w-]{0,200}", re.ASCII | re.I),
)
# Version names that MLflow reserves.
RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)


def export(
    *,
    index: IndexFolder,
    run: Annotated[
        str | None, typer.Option(help="MLflow run to log the model to; default: a new run")
    ] = None,
    name: Annotated[str, typer.Option(help="name of the registered model")] = "rau-search",
    alias: Annotated[str, typer.Option(help="alias of the registered version")] = "champion",
    by_reference: Annotated[
        bool,
        typer.Option("--by-reference", help="store the path of the index instead of a copy"),
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Log the search of an index to MLflow and register it."""
    if not NAME.fullmatch(name):
        raise UserError(f"--name {name}: use only letters, digits, '_', '-' and '.'")
    if not ALIAS.fullmatch(alias) or RESERVED.fullmatch(alias):
        raise UserError(
            f"--alias {alias}: use a letter, then letters, digits, '_' and '-'; `latest` and "
            "versions such as `v1` are reserved"
        )
    from rau import tracking
    from rau.search import exported

    root = workspace.main_checkout()
    uri = tracking.store_uri(root)
    try:
        logged = exported.log(
            index, uri, root / "mlruns", run, name, alias, by_reference, trust_remote_code
        )
    except tracking.TrackingUnavailable as error:
        raise UserError(str(error)) from error
    print(f"MLflow run {logged.run}: models:/{name}@{alias}, version {logged.version}")
    print(f"serve it: mlflow models serve -m models:/{name}@{alias} --env-manager local")
