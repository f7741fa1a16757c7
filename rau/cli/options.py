"""Options shared by several commands."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

IndexFolder: TypeAlias = Annotated[Path, typer.Option("--index", help="the index's folder")]
Device: TypeAlias = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
TrustRemoteCode: TypeAlias = Annotated[
    bool, typer.Option("--trust-remote-code", help="run code that the index's encoder brings")
]
