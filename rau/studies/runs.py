"""One run of a study: a head trained and measured, stored under a digest so that it runs once."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rau import devices
from rau.errors import UserError
from rau.features.table import read_pair
from rau.files import digest, digest_file, digest_files
from rau.models import checkpoint
from rau.params import Params, flat
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.metrics import stack
from rau.retrieval.protocols import Protocol, select
from rau.retrieval.tasks import Task, measured, protocol_tasks, run
from rau.schemas import GALLERIES, QUERIES, GalleryRow, QueryRow, read_table
from rau.studies.plan import EDGES
from rau.training import fit, model_selection, pair_distances
from rau.training.history import columns
from rau.training.history import summary as training_summary
from rau.training.trainer import NotFinite

TOP_K = 1
PLAIN = ("params", "summary", "names", "protocols", "failure")


@dataclass(frozen=True)
class Result:
    """The stored result of a run.

    Attributes:
        params: flat, by dotted name.
        summary: by name: best epoch, time, number of parameters, last epoch's statistics, metrics
            on the holdout, alignment; None where not known.
        names: of the metrics.
        protocols: names, the headline's first; empty where val was not ranked.
        values: metrics of every row, (R, M), by `<protocol>/<category>`.
        clusters: index of the query of each row, (R,), by the same keys.
        cosines: fractions of pairs in `EDGES`' bins, by kind of pair.
        failure: why the training failed and the rest is empty; None where it did not.
    """

    params: dict[str, Any]
    summary: dict[str, float | None]
    names: list[str]
    protocols: list[str]
    values: dict[str, NDArray[np.float64]]
    clusters: dict[str, NDArray[np.int64]]
    cosines: dict[str, NDArray[np.float64]]
    failure: str | None = None


@dataclass
class StudyData:
    """Features, queries and protocols that all runs of a study share.

    The split and weights that the runs of a seed share are prepared once.
    """

    features: FeatureSet
    queries: Sequence[QueryRow]
    galleries: Sequence[GalleryRow]
    _prepared: dict[tuple[Any, ...], fit.Prepared] = field(default_factory=dict)
    _tasks: dict[str, list[Task]] = field(default_factory=dict)

    @property
    def seeds(self) -> set[int]:
        """Seeds that are prepared."""
        return {seed for seed, *_ in self._prepared}

    def prepared(self, params: Params) -> fit.Prepared:
        """The split and the baselines' weights of a seed."""
        train = params.train
        key = (train.seed, train.holdout, train.fraction, train.noise, train.select)
        if key not in self._prepared:
            choices = [model_selection.TRAINED_FOR]
            self._prepared[key] = fit.prepare(train, self.features, self.queries, choices)
        return self._prepared[key]

    def tasks(self, protocol: Protocol) -> list[Task]:
        """The val queries of a protocol."""
        if protocol.name not in self._tasks:
            val = [query for query in self.queries if query["split"] == "val"]
            made = protocol_tasks(protocol, val, self.galleries, self.features)
            self._tasks[protocol.name] = made
        return self._tasks[protocol.name]


@dataclass(frozen=True)
class Source:
    """Files of the study data, tables and features of one data set, and the device."""

    images: Path
    texts: Path
    queries: Path
    galleries: Path
    device: str

    def read(self) -> StudyData:
        """Read the files.

        Raises:
            UserError: when a file is missing or malformed.
        """
        features = FeatureSet.on(devices.choose(self.device), *read_pair(self.images, self.texts))
        return StudyData(
            features,
            read_table(self.queries, QUERIES, "tables").to_pylist(),
            read_table(self.galleries, GALLERIES, "tables").to_pylist(),
        )

    def digest(self) -> str:
        """Digest of the files' contents."""
        return digest_files([self.images, self.texts, self.queries, self.galleries])


def key(params: Params, data: str, device: str, with_val: bool) -> str:
    """Name of a run in the store; it changes with the code that the metrics depend on.

    Of `evaluate` only the parameters that choose the measured rows are included.

    Args:
        params: canonical.
        data: digest of features, queries and galleries.
        device: type of the device.
        with_val: whether val is ranked too.
    """
    kept = params.model_dump(include={"ua", "head", "train"})
    del kept["train"]["device"]
    rows = params.evaluate.model_dump(include={"headline", "custom", "unusable"})
    code = _code_digest(params.head.name)
    return digest([kept, rows if with_val else None, data, code, device], 24)


@cache
def _code_digest(method: str) -> tuple[str, str]:
    """Of the head's code and of this module, once per process: a study has hundreds of runs."""
    return fit.code_digest(method), digest_file(Path(__file__))


def execute(params: Params, data: StudyData, with_val: bool) -> Result:
    """Train a head and measure it on the holdout, with `with_val` also on val.

    A training whose loss becomes non-finite is stored as a failure: it would fail again.

    Raises:
        UserError: when the study data cannot be trained on.
    """
    prepared = data.prepared(params)
    started = time.perf_counter()
    try:
        fitted = fit.fit(params, data.features, prepared, None, quiet=True)
    except NotFinite as error:
        return Result(flat(params), {}, [], [], {}, {}, {}, str(error))
    seconds = time.perf_counter() - started
    history = fitted.training.history
    best = next(row for row in history if row["epoch"] == fitted.training.best_epoch)
    summary: dict[str, float | None] = {
        "best_epoch": fitted.training.best_epoch,
        "seconds": round(seconds, 2),
        "parameters": sum(p.numel() for p in fitted.head.parameters()),
        **training_summary(columns(history), fitted.training.best_epoch),
        **{k: v for k, v in best.items() if k.startswith("holdout_")},
        **{f"alignment_{k}": v for k, v in fitted.extra["alignment"].items()},
    }
    cosines = pair_distances.cosine_histogram(fitted.head, prepared.tasks, data.features, EDGES)
    protocols = select(params.dataset.name, params.evaluate) if with_val else []
    names, values, clusters = _val(params, protocols, fitted.head, data)
    order = [protocol.name for protocol in protocols]
    return Result(flat(params), summary, names, order, values, clusters, cosines)


def _val(
    params: Params, protocols: Sequence[Protocol], head: Any, data: StudyData
) -> tuple[list[str], dict[str, NDArray[np.float64]], dict[str, NDArray[np.int64]]]:
    """Every metric of every val row, by `<protocol>/<category>`."""
    names: list[str] = []
    values: dict[str, NDArray[np.float64]] = {}
    clusters: dict[str, NDArray[np.int64]] = {}
    for protocol in protocols:
        tasks = data.tasks(protocol)
        ranked = [run(task, head, data.features, TOP_K) for task in tasks]
        by_category, rows = measured(tasks, ranked, params.evaluate)
        names = sorted(set.intersection(*(set(v) for v in by_category.values())))
        for category, metrics in by_category.items():
            values[f"{protocol.name}/{category}"] = stack(metrics, names)
            clusters[f"{protocol.name}/{category}"] = rows[category]
    return names, values, clusters


def save(path: Path, result: Result) -> None:
    """Write a result, whole or not at all."""
    tensors = {f"values/{k}": torch.from_numpy(v).float() for k, v in result.values.items()}
    tensors |= {f"clusters/{k}": torch.from_numpy(v) for k, v in result.clusters.items()}
    tensors |= {f"cosines/{k}": torch.from_numpy(v) for k, v in result.cosines.items()}
    meta = {name: getattr(result, name) for name in PLAIN}
    checkpoint.save_state(path, tensors, meta)


def load(path: Path) -> Result:
    """Read what `save` wrote.

    Raises:
        UserError: when the file is damaged.
    """
    tensors, meta = checkpoint.load_state(path, "the result of a run")

    def arrays(prefix: str) -> dict[str, Any]:
        return {k: v.numpy() for k, v in checkpoint.under(tensors, f"{prefix}/").items()}

    values = {name: value.astype(np.float64) for name, value in arrays("values").items()}
    if absent := [name for name in PLAIN if name not in meta]:
        raise UserError(f"{path} does not say its {absent[0]}; remove it")
    plain = {name: meta[name] for name in PLAIN}
    return Result(**plain, values=values, clusters=arrays("clusters"), cosines=arrays("cosines"))
