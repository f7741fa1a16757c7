"""An experiment with the parameters of a recipe: `dvc exp run`, with an option for each of them."""

import json
import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import stage
from rau.project import workspace


def option(name: str, value: Any) -> str:
    """An override as DVC reads it, in the grammar of Hydra."""
    return f"{name}={_written(value)}"


def _written(value: Any) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    match value:
        case str():
            # DVC would fill `${name}` in.
            return QuotedString(value.replace("${", r"\${"), Quote.double).with_quotes()
        case list():
            return f"[{','.join(map(_written, value))}]"
        case dict():
            return f"{{{','.join(f'{key}:{_written(own)}' for key, own in value.items())}}}"
        case _:
            return json.dumps(value)


def main(
    path: Annotated[Path, typer.Argument(help="as recipes/clip4cir.yaml")],
    more: Annotated[
        list[str] | None, typer.Argument(help="options of `dvc exp run`, after `--`")
    ] = None,
) -> None:
    """Check the recipe and run it as an experiment, named after it."""
    from rau.params import recipe

    changes = recipe(workspace.PARAMS, path)
    options = [word for pair in changes.items() for word in ("-S", option(*pair))]
    command = ["dvc", "exp", "run", "--name", path.stem, *options, *(more or [])]
    print(shlex.join(command), flush=True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    stage.run(main)
