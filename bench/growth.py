"""Time and memory of every stage at once, ten and a hundred times its work, and their exponents.

A stage's own command runs in a project of built-in data, in a process of its own that has run it
once before in a small project, so that nothing counts which only a first run does (imports, pools).
Memory is what that process, without workers that it starts, takes beyond what it had then. The
exponent is the slope between ten and a hundred times the work: below that fixed costs hide growth.
"""

import math
import os
import shutil
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
from pipeline import workspace

ROOT = Path(__file__).parents[1]
FIGURE = ROOT / "docs/growth.png"
FACTORS = (1, 10, 100)
LIMIT = 1.1
# Less is a page here and a page there.
LEAST_BYTES = 2**20
# What one time the work is.
GARMENTS = {"train_images": 72, "val_images": 60, "train_queries": 150, "val_queries": 60}
ENCODER = {"steps": 4, "pairs": 64}
FIXED: Mapping[str, dict[str, Any]] = {
    "encoder": {"batch_size": 32},
    "train": {"epochs": 6, "batch_size": 64},
}
IMAGE_SIZE = 64
EPOCHS = 12
SERIES = 15
QUERIES = 150
GALLERY = 1500
# What stands still while the other side of the product grows.
HELD = 2000
OWN = "download, own folder"
# What grows with each stage, in the order in which they run.
STAGES = {
    "download": "images and queries",
    OWN: "images and queries",
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
        for kind, unit, values in (
            ("time", "seconds", self.seconds),
            ("memory", "bytes", self.room),
        ):
            detail = {f"{unit}_x{f}": value for f, value in zip(FACTORS, values, strict=True)}
            detail["exponent_of_all"] = exponent(FACTORS, values)
            if (beyond := beyond_fixed(values)) is not None:
                detail["exponent_beyond_fixed"] = beyond
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


def beyond_fixed(values: Sequence[float]) -> float | None:
    """The p of a + b * factor^p through all three points; None where there is no growth.

    It sees growth that a large a hides, and noise where b is small.
    """
    first, second = np.diff(values)
    if min(first, second) <= 0:
        return None
    return math.log(second / first) / math.log(FACTORS[-1] / FACTORS[-2])


def cases(bench: Bench) -> Iterator[Result]:
    """Every stage; at the real sizes also the figure."""
    grown = [*_stages(bench), *_sides(bench), _tracking(bench)]
    order = [*STAGES, "track"]
    grown.sort(key=lambda one: order.index(command_of(one.name)))
    for one in grown:
        yield from one.results()
    if bench.scale == 1:
        draw(grown, FIGURE)


def _size(bench: Bench, count: int, factor: int) -> int:
    return max(count, round(count * factor * bench.scale))


def _stages(bench: Bench) -> Iterator[Growth]:
    """All stages of a project that is made three times, each time of ten times the data."""
    found: dict[str, list[Cost]] = defaultdict(list)
    small = bench.scratch / "small"
    _write_project(bench, small, 1, None)
    for factor in FACTORS:
        folder, own = (bench.scratch / f"{name}-{factor}" for name in ("project", "own"))
        _write_project(bench, folder, factor, None)
        for name in STAGES:
            if name == OWN:
                _write_project(bench, own, factor, next((folder / "data/raw").iterdir()))
            place = own if name == OWN else folder
            found[name].append(cost(stage, command_of(name), place, small))
    for name, grown in STAGES.items():
        yield Growth(name, grown, found[name])


def command_of(name: str) -> str:
    """The stage that a line is about."""
    return name.partition(",")[0]


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


def stage(name: str, folder: Path, small: Path) -> Callable[[], None]:
    """A stage's command in a project, after a run in a small one with nothing encoded yet."""
    os.environ.pop("DVC_ROOT", None)
    main = import_module(f"pipeline.{name}").main
    os.chdir(small)
    shutil.rmtree(workspace.parts(), ignore_errors=True)
    _quietly(main)
    os.chdir(folder)
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
    """Both protocols of FashionIQ on random features, after a small one."""
    import torch

    from bench.ranking import assessing
    from rau.retrieval.protocols import presets

    protocols, place = presets("fashioniq"), torch.device(device)
    assessing(place, HELD // 100, HELD // 100)(*protocols)
    return partial(assessing(place, queries, images), *protocols)


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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 7), layout="constrained")
    time, memory = figure.subplots(1, 2)
    _lines(time, grown, [one.seconds for one in grown])
    time.set(title="Time", ylabel="seconds")
    _lines(memory, grown, [[room / 2**20 for room in one.room] for one in grown])
    memory.set(title="Memory beyond the process before the work", ylabel="MiB")
    labels = []
    for one in grown:
        slopes = (exponent(FACTORS[-2:], values[-2:]) for values in (one.seconds, one.room))
        labels.append(f"{one.name} ({one.grown}): {' / '.join(f'{s:.2f}' for s in slopes)}")
    figure.legend(
        time.get_lines(),
        [*labels, "slope 1"],
        loc="outside right center",
        title="What grows, and the exponents of\ntime / memory from ×10 to ×100",
        frameon=False,
        labelspacing=1.0,
    )
    figure.savefig(path, dpi=110)


def _lines(axes: Any, grown: Sequence[Growth], lines: Sequence[Sequence[float]]) -> None:
    """One colour a stage, and one of slope 1 through the middle of the last points."""
    stages = [command_of(one.name) for one in grown]
    colours = list(dict.fromkeys(stages))
    for place, (stage_name, values) in enumerate(zip(stages, lines, strict=True)):
        axes.plot(
            FACTORS,
            values,
            color=f"C{colours.index(stage_name)}",
            linestyle=("-", ":", "-.")[stages[:place].count(stage_name)],
            marker="os^Dv"[place % 5],
            linewidth=2,
        )
    end = math.exp(float(np.mean([math.log(values[-1]) for values in lines])))
    heights = [end * factor / FACTORS[-1] for factor in FACTORS]
    axes.plot(FACTORS, heights, color="black", linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="times the work")
    axes.set_xticks(FACTORS, [f"×{factor}" for factor in FACTORS])
    axes.grid(which="major", alpha=0.3)
