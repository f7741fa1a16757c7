"""`python -m bench`: measure, write the figures as JSON and their table into the documentation."""

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from pipeline import stage

GROUPS = ("ranking", "training", "features", "finetuning")
RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs/performance.md"


def main(
    groups: Annotated[list[str] | None, typer.Argument(help=", ".join(GROUPS))] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="timed runs of every case")] = 3,
    scale: Annotated[float, typer.Option(help="of the real sizes; less only to try it")] = 1.0,
) -> None:
    """Measure and print.

    All groups at the real sizes are also written: to bench/results/<device>.json, and as the table
    of docs/performance.md.
    """
    from bench.harness import Bench, Result, report
    from bench.table import inserted, lines
    from rau import devices
    from rau.files import write_json, write_text

    chosen = groups or list(GROUPS)
    if unknown := [group for group in chosen if group not in GROUPS]:
        raise typer.BadParameter(f"{unknown[0]} is not one of {', '.join(GROUPS)}")
    place = devices.choose(device)
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="rau-bench-") as scratch:
        bench = Bench(place, repeats, scale, Path(scratch))
        for group in chosen:
            for result in import_module(f"bench.{group}").cases(bench):
                print(lines([result])[-1], flush=True)
                results.append(result)
    if groups is None and scale == 1:
        document = report(bench, results)
        write_json(RESULTS / f"{place.type}.json", document)
        write_text(PAGE, inserted(PAGE.read_text(), place.type, document))


if __name__ == "__main__":
    stage.run(main)
