"""`python -m bench`: run the cases, write their figures as JSON, print the table."""

import json
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.harness import Bench, Result

GROUPS = ("features", "ranking", "training")
RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs/performance.md"


def main(
    groups: Annotated[list[str] | None, typer.Argument(help=", ".join(GROUPS))] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    repeats: Annotated[int, typer.Option(help="turns of every case")] = 5,
    scale: Annotated[float, typer.Option(help="of the real sizes; less only to try it")] = 1.0,
    out: Annotated[Path | None, typer.Option(help="JSON file; groups not run are kept")] = None,
) -> None:
    """Measure; figures go to bench/results/<device>.json, their table to docs/performance.md."""
    from bench.harness import Bench, machine
    from bench.table import inserted, lines
    from rau import devices
    from rau.files import write_json, write_text

    chosen = groups or list(GROUPS)
    if unknown := [group for group in chosen if group not in GROUPS]:
        raise typer.BadParameter(f"{unknown[0]} is none of {', '.join(GROUPS)}")
    place = devices.choose(device)
    target = out or RESULTS / f"{place.type}.json"
    known: dict[str, Any] = json.loads(target.read_text()) if target.exists() else {"groups": {}}
    with tempfile.TemporaryDirectory(prefix="rau-bench-") as scratch:
        bench = Bench(place, repeats, scale, Path(scratch))
        for group in chosen:
            found = list(_show(group, bench))
            known["groups"][group] = {
                "machine": machine(place),
                "repeats": repeats,
                "scale": scale,
                "results": [result.as_dict() for result in found],
            }
            known = _ordered(known)
            write_json(target, known)
    print("\n".join(lines(known)))
    if out is None and scale == 1:
        write_text(PAGE, inserted(PAGE.read_text(), place.type, known))


def _show(group: str, bench: "Bench") -> "Iterator[Result]":
    results: Iterator[Result] = import_module(f"bench.{group}").cases(bench)
    for result in results:
        wanted = "" if result.limit is None else f" ({result.sense} {result.limit:g})"
        print(f"{result.name}: {result.value:.4g} {result.unit}{wanted}", flush=True)
        yield result


def _ordered(document: dict[str, Any]) -> dict[str, Any]:
    """The groups in the order of `GROUPS`, whenever each was run."""
    known = document["groups"]
    return {"groups": {name: known[name] for name in GROUPS if name in known}}


if __name__ == "__main__":
    stage.run(main)
