"""One run of a study: a head trained and measured, stored under a digest so that it runs once."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from rau import devices
from rau.errors import UserError
from rau.features.table import read_pair
from rau.files import digest, digest_file, digest_files, digest_sources
from rau.models import checkpoint
from rau.models.head import ComposedHead
from rau.params import Params, Section, first_error, flat
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.metrics import stack
from rau.retrieval.protocols import Protocol, select
from rau.retrieval.tasks import Task, measured, protocol_tasks, run
from rau.schemas import GALLERIES, QUERIES, GalleryRow, QueryRow, read_images, read_table
from rau.studies.plan import EDGES, changed
from rau.training import fit, model_selection, pair_distances
from rau.training.history import columns
from rau.training.history import summary as training_summary
from rau.training.trainer import NotFinite

TOP_K = 1


@dataclass(frozen=True)
class Result:
    """The stored result of a run.

    Attributes:
        params: flat, by dotted name.
        summary: by name: best epoch, time, number of parameters, statistics of the kept epoch,
            metrics on the holdout, alignment; None where not known.
        names: of the metrics.
        values: metrics of every row, (R, M), by protocol, the headline's first, and category.
        clusters: index of the query of each row, (R,), by the same keys.
        cosines: fractions of pairs in `EDGES`' bins, by kind of pair.
        extra: what a study measured in addition, by measure and name.
        failure: why the training failed and the rest is empty; None where it did not.
    """

    params: dict[str, Any]
    summary: dict[str, float | None]
    names: list[str]
    values: dict[str, dict[str, NDArray[np.float64]]]
    clusters: dict[str, dict[str, NDArray[np.int64]]]
    cosines: dict[str, NDArray[np.float64]]
    extra: dict[str, NDArray[Any]] = field(default_factory=dict)
    failure: str | None = None


@dataclass
class StudyData:
    """Features, queries and protocols that all runs of a study share.

    The split and weights that the runs of a seed share are prepared once.

    Attributes:
        listed: ids of all images of the data set, by category; empty where not known.
    """

    features: FeatureSet
    queries: Sequence[QueryRow]
    galleries: Sequence[GalleryRow]
    listed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _prepared: dict[tuple[Any, ...], fit.Prepared] = field(default_factory=dict)
    _tasks: dict[str, list[Task]] = field(default_factory=dict)

    def prepared(self, params: Params) -> fit.Prepared:
        """The split and the baselines' weights of a seed."""
        train = params.train
        drawn = (train.seed, train.split_seed, train.holdout, train.fraction, train.noise)
        key = (*drawn, train.select)
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
class Trained:
    """What a measure reads: a trained head and what it was trained on.

    Attributes:
        protocol: the headline's.
    """

    params: Params
    head: ComposedHead
    data: StudyData
    prepared: fit.Prepared
    protocol: Protocol


# Arrays by name, kept in `Result.extra` under `<function>/<name>`.
Measure = Callable[[Trained], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class Source:
    """Files of the study data, tables and features of one data set, and the device.

    Attributes:
        listed: the table of images, which is read for measures.
        measures: `module:function` of what is measured on every head in addition.
    """

    images: Path
    texts: Path
    queries: Path
    galleries: Path
    device: str
    listed: Path | None = None
    measures: tuple[str, ...] = ()

    def measuring(self, measures: tuple[str, ...]) -> Self:
        """The same files, where these are measured on every head."""
        return replace(self, measures=measures)

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
            self._listed(),
        )

    def _listed(self) -> dict[str, list[str]]:
        """Ids of all images by category."""
        found: dict[str, list[str]] = {}
        for row in read_images(self.listed) if self.listed else ():
            found.setdefault(row["category"], []).append(row["image_id"])
        return found

    def digest(self) -> str:
        """Digest of the files' contents."""
        files = [self.images, self.texts, self.queries, self.galleries]
        return digest_files(files + ([self.listed] if self.listed else []))

    def key(self, params: Params, data: str, device: str) -> str:
        """`key`."""
        return key(params, data, device, self.measures)

    def kind(self, params: Params) -> tuple[str, float]:
        """Heads of one kind, on one share of the queries, take equally long."""
        return f"{params.head.name}, n {params.ua.n}", params.train.fraction

    def epochs(self, params: Params) -> int:
        """Most epochs of a run."""
        return params.train.epochs

    def shortened(self, params: Params) -> Params:
        """The same run with one epoch."""
        return changed(params, {"train.epochs": 1})

    def runner(self) -> Callable[[Params], Result]:
        """Read the files; what is returned executes runs on them."""
        data = self.read()
        measures = {name: load_measure(name) for name in self.measures}
        return lambda params: execute(params, data, measures)


def load_measure(name: str) -> Measure:
    """The function that a `module:function` names."""
    found: Measure = resolve_name(name)
    return found


def key(params: Params, data: str, device: str, measures: Sequence[str] = ()) -> str:
    """Name of a run in the store; it changes with the code that the metrics depend on.

    Args:
        params: canonical.
        data: digest of features, queries and galleries.
        device: type of the device.
        measures: by `module:function`; of their code the module counts and its `SOURCES`, the
            files relative to the library that decide what it measures.
    """
    kept = params.model_dump(include={"ua", "head", "train"})
    del kept["train"]["device"]
    code = _code_digest(params.head.name), [(name, _module_digest(name)) for name in measures]
    return digest([kept, measured_rows(params), data, code, EDGES.tolist(), device], 24)


def measured_rows(params: Params) -> dict[str, Any]:
    """The parameters of `evaluate` that choose the measured rows."""
    return params.evaluate.model_dump(include={"headline", "custom", "unusable"})


@cache
def _code_digest(method: str) -> tuple[str, str]:
    """Of the head's code and of this module, once per process: a study has hundreds of runs."""
    return fit.code_digest(method), digest_file(Path(__file__))


@cache
def _module_digest(measure: str) -> str:
    """Of the module that a measure is in, and of its `SOURCES`."""
    module = import_module(measure.partition(":")[0])
    assert module.__file__ is not None
    root, sources = Path(__file__).parents[1], getattr(module, "SOURCES", ())
    return digest([digest_file(Path(module.__file__)), digest_sources(root, sources)], 64)


def execute(
    params: Params, data: StudyData, measures: Mapping[str, Measure] | None = None
) -> Result:
    """Train a head and measure it on the holdout and on val.

    A training whose loss becomes non-finite is stored as a failure: it would fail again.

    Raises:
        UserError: when the study data cannot be trained on.
    """
    prepared = data.prepared(params)
    started = time.perf_counter()
    try:
        fitted = fit.fit(params, data.features, prepared, None, quiet=True)
    except NotFinite as error:
        return Result(flat(params), {}, [], {}, {}, {}, failure=str(error))
    seconds, training = time.perf_counter() - started, fitted.training
    summary: dict[str, float | None] = {
        **of_training(seconds, training.history, training.best_epoch),
        "parameters": sum(p.numel() for p in fitted.head.parameters()),
        **{f"alignment_{k}": v for k, v in fitted.extra["alignment"].items()},
    }
    cosines = pair_distances.cosine_histogram(fitted.head, prepared.tasks, data.features, EDGES)
    result = Result(flat(params), summary, [], {}, {}, cosines)
    protocols = select(params.dataset.name, params.evaluate)
    val = {protocol.name: data.tasks(protocol) for protocol in protocols}
    add_val(result, params, fitted.head, data.features, val)
    trained = Trained(params, fitted.head, data, prepared, protocols[0])
    for name, measure in (measures or {}).items():
        own = measure(trained).items()
        result.extra.update({f"{name.split(':')[1]}/{part}": value for part, value in own})
    return result


def of_training(
    seconds: float, history: Sequence[Mapping[str, Any]], best_epoch: int
) -> dict[str, float | None]:
    """What `Result.summary` says of a training: its time and its kept epoch."""
    best = next(row for row in history if row["epoch"] == best_epoch)
    return {
        "best_epoch": best_epoch,
        "seconds": round(seconds, 2),
        **training_summary(columns(history), best_epoch),
        **{k: v for k, v in best.items() if k.startswith("holdout_")},
    }


def add_val(
    result: Result,
    params: Params,
    head: ComposedHead,
    features: FeatureSet,
    val: Mapping[str, Sequence[Task]],
) -> None:
    """Rank the val tasks of every protocol and add their metrics to a result."""
    for protocol, tasks in val.items():
        ranked = [run(task, head, features, TOP_K) for task in tasks]
        by_category, result.clusters[protocol] = measured(tasks, ranked, params.evaluate)
        names = sorted(set.intersection(*(set(values) for values in by_category.values())))
        result.names[:] = names
        result.values[protocol] = {c: stack(v, names) for c, v in by_category.items()}


class _Plain(Section):
    """What is stored beside the arrays."""

    params: dict[str, Any]
    summary: dict[str, float | None]
    names: list[str]
    protocols: list[str]
    failure: str | None


def save(path: Path, result: Result) -> None:
    """Write a result, whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {
        f"cosines/{kind}": value for kind, value in result.cosines.items()
    }
    arrays |= {f"extra/{name}": value for name, value in result.extra.items()}
    for protocol, rows in result.clusters.items():
        values = result.values[protocol]
        arrays |= {f"values/{protocol}/{c}": values[c].astype(np.float32) for c in values}
        arrays |= {f"clusters/{protocol}/{c}": rows[c] for c in rows}
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    # Tensors come back sorted by name.
    plain = {name: getattr(result, name) for name in _Plain.model_fields if name != "protocols"}
    checkpoint.save_state(path, tensors, {**plain, "protocols": list(result.values)})


def load(path: Path) -> Result:
    """Read what `save` wrote.

    Raises:
        UserError: when the file is damaged.
    """
    remedy = "remove it and run `python -m pipeline.study` again"
    tensors, meta = checkpoint.load_state(path, "a run of a study", remedy)

    def arrays(prefix: str, kind: type | None) -> dict[str, Any]:
        found = {k: v.numpy() for k, v in checkpoint.under(tensors, prefix).items()}
        return found if kind is None else {k: v.astype(kind) for k, v in found.items()}

    try:
        plain = _Plain.model_validate(meta)
    except ValidationError as error:
        key, message = first_error(error)
        raise UserError(f"{path}: {key}: {message}; {remedy}") from error
    return Result(
        **plain.model_dump(exclude={"protocols"}),
        values={p: arrays(f"values/{p}/", np.float64) for p in plain.protocols},
        clusters={p: arrays(f"clusters/{p}/", np.int64) for p in plain.protocols},
        cosines=arrays("cosines/", np.float64),
        extra=arrays("extra/", None),
    )
