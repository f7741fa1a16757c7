"""`python -m bench`: run benchmarks, write results as JSON and as a table in the documentation."""

import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from rau import console

GROUPS = (
    *("ranking", "training", "features", "finetuning", "finetuning_growth"),
    *("search", "service", "lance", "scale", "ray"),
)
LONG = ("lance", "scale", "ray")
RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs/performance.md"


def main(
    groups: Annotated[list[str] | None, typer.Argument(help=", ".join(GROUPS))] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="timed runs of every case")] = 3,
    scale: Annotated[float, typer.Option(help="factor on all sizes")] = 1.0,
    load_seconds: Annotated[float, typer.Option(help="seconds per number of clients")] = 60.0,
    write: Annotated[bool, typer.Option("--write", help="keep the figures")] = False,
) -> None:
    """Run benchmarks and print the results.

    With --write, the results replace those of the same groups in bench/results/<device>.json and
    docs/performance.md. Default: all groups except `lance` and `scale`, which take hours, and
    `ray`, which starts clusters.
    """
    from bench.harness import Bench, Result, report
    from bench.table import inserted, lines
    from rau import devices
    from rau.files import read_json, write_json, write_text

    chosen = groups or [group for group in GROUPS if group not in LONG]
    if unknown := [group for group in chosen if group not in GROUPS]:
        raise typer.BadParameter(f"{unknown[0]} is not one of {', '.join(GROUPS)}")
    place = devices.choose(device, "--device")
    path = RESULTS / f"{place.type}.json"
    load = os.getloadavg()[0]
    for group in chosen:
        results: list[Result] = []
        with tempfile.TemporaryDirectory(prefix="rau-bench-") as scratch:
            bench = Bench(place, repeats, scale, Path(scratch), load_seconds)
            for result in import_module(f"bench.{group}").cases(bench):
                print(lines([result])[-1], flush=True)
                results.append(result)
        if write and results:
            known = read_json(path, "results") if path.exists() else {}
            known[group] = report(bench, results, load)
            known = {name: known[name] for name in GROUPS if name in known}
            write_json(path, known)
            write_text(PAGE, inserted(PAGE.read_text(), place.type, known))


if __name__ == "__main__":
    console.run(console.command(main))
