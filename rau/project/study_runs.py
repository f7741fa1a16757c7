"""The project's studies: workers, the store of their runs, and execution into its tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rau.errors import UserError
from rau.files import write_json, write_text
from rau.finetuning.record import Record
from rau.params import Params
from rau.project import workspace
from rau.studies import registry, study
from rau.studies.encoder_runs import EncoderSource
from rau.studies.local_workers import LocalWorkers
from rau.studies.plan import WHOLE, Tuned, changed
from rau.studies.run_store import RunStore
from rau.studies.runs import Source
from rau.studies.workers import Workers

TUNED, TRIALS = Path(registry.TUNE, "tuned.json"), Path(registry.TUNE, "trials.csv")


def execute(names: Sequence[str], params: Params) -> None:
    """Execute the runs of studies that are not stored yet, and write the studies' tables.

    Args:
        names: keys of `registry.STUDIES`, or `registry.TUNE` for the tuning; empty for the tuning
            and the studies of `registry.USUAL`, with an estimated duration of all.

    Raises:
        UserError: when a study cannot be made with these parameters, or its runs fail.
    """
    with connected(params) as workers:
        if not names:
            study.announce(registry.USUAL, used(params), store(params, workers))
        for name in names or (registry.TUNE, *registry.USUAL):
            _execute(name, params, workers)


def _execute(name: str, params: Params, workers: Workers) -> None:
    """Execute the tuning, or a study with the chosen parameters."""
    folder = workspace.studies(params.dataset.name)
    if name == registry.TUNE:
        trials, choice = study.tune(used(params), store(params, workers))
        write_text(folder / TRIALS, trials.to_csv(index=False))
        write_json(folder / TUNED, choice.model_dump())
        return
    own = registry.load(name)
    runs = store(params, workers, own.encoders)
    params = used(params, own.encoders)
    study.run_study(name, params, changes(own, params, runs), runs).write(folder / name)


def used(params: Params, encoders: bool = False) -> Params:
    """The parameters of a study: for heads on features of a fine-tuned encoder, every seed has the
    holdout that the encoder was not trained on.

    With a holdout of its own, a seed would select on queries whose features are fitted to them.

    Args:
        encoders: as in `store`; such a study keeps its parameters.

    Raises:
        UserError: when the record of the fine-tuning is missing or malformed, or the encoder was
            fine-tuned on a part of the queries that is drawn by seed.
    """
    if encoders:
        return params
    found = Record.read(workspace.finetuned(params.dataset.name))
    if found.towers == "none":
        # With features.source no encoder is fine-tuned, whatever finetune.towers says.
        given = params.features.source is not None
        return changed(params, {"finetune.towers": "none"}) if given else params
    if (params.train.fraction, params.train.noise) != WHOLE:
        raise UserError(
            "train.fraction and train.noise: every seed of a study draws its own queries, but the "
            "encoder was fine-tuned on those of one seed; set finetune.towers to none, or compare "
            "by the study finetune"
        )
    own = {"train.holdout": found.holdout, "train.holdout_seed": found.holdout_seed}
    return changed(params, own)


def changes(own: registry.Study, params: Params, runs: RunStore) -> Tuned:
    """The changes that the tuning chose, by method; none for a study that does not use them.

    Raises:
        UserError: as in `rau.studies.study.tuned`.
    """
    path = workspace.studies(params.dataset.name) / TUNED
    return study.tuned(path, params, runs) if own.tuned else {}


@contextmanager
def connected(params: Params) -> Iterator[Workers]:
    """Yield the workers that execute runs: processes of this machine or of a cluster."""
    device, own = params.train.device, params.study
    if own.engine == "ray":
        from rau.studies.ray_workers import ray_workers

        with ray_workers(device, own.jobs, own.cores) as workers:
            yield workers
    else:
        yield LocalWorkers(device, jobs=own.jobs, cores=own.cores)


def store(params: Params, workers: Workers, encoders: bool = False) -> RunStore:
    """The run store shared by all studies; its paths are absolute, so that all nodes find them.

    Args:
        encoders: whether every run trains its own encoder.

    Raises:
        UserError: when the parameters name a head, or a start, that studies do not use.
    """
    if params.train.head is not None:
        raise UserError("train.head: a study trains heads of its own; set it to null")
    if params.train.start != "fresh":
        raise UserError("train.start: heads of a study start fresh; set it to fresh")
    name, here = params.dataset.name, Path.cwd()
    queries, galleries = (here / workspace.table(name, kind) for kind in ("queries", "galleries"))
    source: Source | EncoderSource
    if encoders:
        source = EncoderSource(
            encoder=here / workspace.ENCODER,
            manifest=here / workspace.manifest(name),
            queries=queries,
            galleries=galleries,
            images=workspace.store(params.dataset),
            parts=workspace.parts(),
            device=workers.device,
        )
    else:
        source = Source(
            images=here / workspace.features(name, "images"),
            texts=here / workspace.features(name, "texts"),
            queries=queries,
            galleries=galleries,
            device=workers.device,
            listed=here / workspace.table(name, "images"),
        )
    return RunStore(workspace.parts() / "runs", source, workers)
