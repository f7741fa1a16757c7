"""Time and memory of every stage at once, ten and a hundred times its work, and their exponents.

A stage's own command runs in a project of built-in data, in a process of its own that has imported
all that the stage needs. Memory is what that process takes beyond what it had then. The exponent is
the slope between ten and a hundred times the work: below that fixed costs hide the growth.
"""

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.harness import Bench, Result
from bench.peak import Cost, cost

ROOT = Path(__file__).parents[1]
FIGURE = ROOT / "docs/growth.png"
FACTORS = (1, 10, 100)
LIMIT = 1.1
# Less is a page here and a page there.
LEAST_BYTES = 2**20
# What one time the work is.
GARMENTS = {"train_images": 72, "val_images": 60, "train_queries": 150, "val_queries": 36}
ENCODER = {"steps": 2, "pairs": 64}
FIXED: Mapping[str, dict[str, Any]] = {
    "encoder": {"batch_size": 32},
    "train": {"epochs": 2, "batch_size": 64},
}
IMAGE_SIZE = 64
EPOCHS = 12
SERIES = 15
QUERIES = 60
GALLERY = 150
# What stands still while the other side of the product grows.
HELD = 3000
# What grows with each stage, in the order in which they run.
STAGES = {
    "download": "images and queries",
    "tables": "images and queries",
    "encoder": "steps and pairs",
    "features": "images and texts",
    "deterministic": "images and queries",
    "train": "images and queries",
    "evaluate": "queries and gallery",
    "report": "queries and images",
}


@dataclass(frozen=True)
class Growth:
    """What a work cost at every factor.

    Attributes:
        name: of the stage.
        grown: what of its work grew.
        costs: one a factor.
    """

    name: str
    grown: str
    costs: Sequence[Cost]

    @property
    def seconds(self) -> list[float]:
        """At every factor."""
        return [one.seconds for one in self.costs]

    @property
    def room(self) -> list[float]:
        """Bytes beyond the process's own, at least `LEAST_BYTES`."""
        return [float(max(LEAST_BYTES, one.peak - one.before)) for one in self.costs]

    def results(self) -> Iterator[Result]:
        """The exponents of time and memory."""
        for kind, unit, values in (("time", "seconds", self.seconds), ("memory", "bytes", self.room)):
            detail = {f"{unit}_x{f}": value for f, value in zip(FACTORS, values, strict=True)}
            detail["exponent_of_all"] = exponent(FACTORS, values)
            yield Result(
                f"growth/{kind}/{self.name}",
                exponent(FACTORS[-2:], values[-2:]),
                "exponent",
                self.grown,
                LIMIT,
                detail=detail,
            )


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the line through the logarithms, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def cases(bench: Bench) -> Iterator[Result]:
    """Every stage; at the real sizes also the figure."""
    grown = [*_stages(bench), *_sides(bench), _tracking(bench)]
    for one in grown:
        yield from one.results()
    if bench.scale == 1:
        draw(grown, FIGURE)


def _size(bench: Bench, count: int, factor: int) -> int:
    return max(count, round(count * factor * bench.scale))


def _stages(bench: Bench) -> Iterator[Growth]:
    """All stages of a project that is made three times, each time of ten times the data."""
    found: dict[str, list[Cost]] = defaultdict(list)
    for factor in FACTORS:
        folder = bench.scratch / f"project-{factor}"
        _write_project(bench, folder, factor, None)
        for name in STAGES:
            found[name].append(cost(stage, name, folder))
        own = bench.scratch / f"own-{factor}"
        _write_project(bench, own, factor, next((folder / "data/raw").iterdir()))
        found["verify"].append(cost(stage, "download", own))
    for name, grown in STAGES.items():
        yield Growth(name, grown, found[name])
    yield Growth("download, own folder", "images and queries", found["verify"])


def _write_project(bench: Bench, folder: Path, factor: int, root: Path | None) -> None:
    """Parameters of a project, with `root` for a folder that holds the images already."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    garments = {name: _size(bench, count, factor) for name, count in GARMENTS.items()}
    params["dataset"]["garments"] |= garments | {"image_size": IMAGE_SIZE}
    params["dataset"]["root"] = None if root is None else str(root)
    params["encoder"] |= {name: _size(bench, n, factor) for name, n in ENCODER.items()}
    params["train"]["device"] = bench.device.type
    for section, values in FIXED.items():
        params[section] |= values
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def stage(name: str, folder: Path) -> Callable[[], None]:
    """A stage's command in a project, everything imported."""
    os.environ.pop("DVC_ROOT", None)
    os.chdir(folder)
    main = import_module(f"pipeline.{name}").main
    listed = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][name]["deps"]
    for path in (ROOT / entry for entry in listed if entry.startswith("rau/")):
        for source in [path] if path.is_file() else sorted(path.rglob("*.py")):
            parts = source.relative_to(ROOT).with_suffix("").parts
            import_module(".".join(part for part in parts if part != "__init__"))
    return partial(_quietly, main)


def _quietly(work: Callable[[], object]) -> None:
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        work()


def _sides(bench: Bench) -> Iterator[Growth]:
    """Evaluation where one side of queries times gallery grows and the other stands still."""
    held = bench.size(HELD)
    queries = [(_size(bench, QUERIES, factor), held) for factor in FACTORS]
    gallery = [(held, _size(bench, GALLERY, factor)) for factor in FACTORS]
    for name, sizes in (("queries", queries), ("gallery", gallery)):
        costs = [cost(assessment, bench.device.type, *pair) for pair in sizes]
        yield Growth(f"evaluate, {name}", f"{name} alone", costs)


def assessment(device: str, queries: int, images: int) -> Callable[[], None]:
    """Both protocols of FashionIQ on random features."""
    import torch

    from bench.ranking import assessing
    from rau.protocols import presets

    return partial(assessing(torch.device(device), queries, images), *presets("fashioniq"))


def _tracking(bench: Bench) -> Growth:
    epochs = [_size(bench, EPOCHS, factor) for factor in FACTORS]
    return Growth("track", "epochs", [cost(tracking, bench.scratch, count) for count in epochs])


def tracking(folder: Path, epochs: int) -> Callable[[], object]:
    """A run of so many epochs into MLflow; its database is there already."""
    from rau.tracking import Record, track

    def run(name: str, course: list[tuple[str, int, float]]) -> Callable[[], object]:
        record = Record(name, name, {}, {}, course)
        return partial(track, record, f"sqlite:///{folder / 'mlflow.db'}", folder / "mlruns")

    run(f"first {epochs}", [("epoch.series_0", 1, 0.5)])()
    course = [(f"epoch.series_{s}", e, s / e) for e in range(1, epochs + 1) for s in range(SERIES)]
    return run(str(epochs), course)


def draw(grown: Sequence[Growth], path: Path) -> None:
    """Time and memory over the factor, a line a stage, beside a line of slope 1."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8.5), layout="constrained")
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    panels = (
        ("Time", "seconds", [one.seconds for one in grown]),
        ("Memory beyond the process at its start", "MiB", [[b / 2**20 for b in g.room] for g in grown]),
    )
    for axes, (title, label, lines) in zip(figure.subplots(1, 2), panels, strict=True):
        for place, (one, values) in enumerate(zip(grown, lines, strict=True)):
            slope = exponent(FACTORS[-2:], values[-2:])
            axes.plot(
                FACTORS,
                values,
                marker="o^sDv"[place % 5],
                color=colours[place],
                label=f"{one.name} ({one.grown}): {slope:.2f}",
            )
        _guide(axes, lines)
        axes.set(xscale="log", yscale="log", title=title, ylabel=label, xlabel="times the work")
        axes.set_xticks(FACTORS, [f"×{factor}" for factor in FACTORS])
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=9)
    figure.savefig(path, dpi=100)


def _guide(axes: Any, lines: Sequence[Sequence[float]]) -> None:
    """A line of slope 1 through the middle of the last points."""
    end = math.exp(float(np.mean([math.log(values[-1]) for values in lines])))
    heights = [end * factor / FACTORS[-1] for factor in FACTORS]
    axes.plot(FACTORS, heights, color="black", linestyle="--", label="slope 1")
