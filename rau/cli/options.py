"""Options shared by several commands."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

IndexFolder: TypeAlias = Annotated[Path, typer.Option("--index", help="folder of the index")]
Device: TypeAlias = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
TrustRemoteCode: TypeAlias = Annotated[
    bool, typer.Option("--trust-remote-code", help="run code that comes with the index's encoder")
]
