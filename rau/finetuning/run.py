"""A fine-tuned encoder from parameters, an encoder, pictures and queries."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rau.datasets.captions import all_texts
from rau.encoders import clip
from rau.encoders.forward import compute_dtype
from rau.errors import UserError
from rau.features.item import Item, text_items
from rau.features.table import SHARED, Features, Matrix
from rau.files import digest, digest_sources, new_folder, write_text
from rau.finetuning import picture_store, record
from rau.finetuning.finetuner import Finetuner, Progress
from rau.finetuning.pictures import Pictures
from rau.finetuning.processes import Processes
from rau.finetuning.sides import Encoded, LookedUp, Texts
from rau.finetuning.towers import Towers
from rau.methods import METHODS, RAW_SUM
from rau.models import checkpoint
from rau.models.config import HeadConfig, canonical
from rau.models.head import ComposedHead
from rau.params import EncoderParams, HeadParams, Params
from rau.retrieval import protocols
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import weight_key
from rau.retrieval.tasks import Task, protocol_tasks
from rau.schemas import GalleryRow, QueryRow, ends
from rau.training import model_selection
from rau.training.degradation import degrade
from rau.training.history import to_csv
from rau.training.sampler import BatchSampler
from rau.training.triplets import TrainSet, divide, holdout_tasks, triplets_of

# A small network trained here takes a rate that would wreck a large one trained for weeks.
SMALL_RATE, LARGE_RATE = 1e-3, 1e-5
# Features (N, d) of items by a tower that is not trained: of `images` or `texts`.
Frozen = Callable[[clip.Encoder, str, Sequence[Item]], Matrix]
SOURCES = (
    "datasets/captions.py",
    "encoders",
    "features/item.py",
    "features/table.py",
    "finetuning",
    "losses",
    "lr_schedule.py",
    "models",
    "nn",
    "pictures.py",
    "retrieval",
    "training",
)


def tower_lr(params: Params) -> float:
    """The towers' peak rate: as set, or by the kind of encoder."""
    if params.finetune.tower_lr is not None:
        return params.finetune.tower_lr
    return SMALL_RATE if params.encoder.name == EncoderParams().name else LARGE_RATE


def composer_params(params: Params) -> Params:
    """Head, ua and train of the composer, canonical.

    Raises:
        UserError: when it reads nothing that is trained.
    """
    tune = params.finetune
    name = {"sum": RAW_SUM, "head": params.head.name}.get(tune.composer, tune.composer)
    if tune.towers == "text" and not METHODS[name].reads_text:
        raise UserError(
            f"finetune.towers=text: the composer {name} reads no captions, so that nothing would "
            "be trained; use finetune.towers=image, or another finetune.composer"
        )
    train = params.train.model_copy(
        update={
            "temperature": tune.temperature,
            "learn_temperature": tune.learn_temperature,
            "batch_size": tune.batch_size,
            "batches": tune.batches,
        }
    )
    # In the space that the towers share, `dim` has no effect; what is fixed has no other part.
    own = HeadParams(name=name)
    head = (
        own
        if METHODS[name].fixed
        else params.head.model_copy(update={"name": name, "dim": own.dim})
    )
    return canonical(params.model_copy(update={"head": head, "train": train}))


def key(
    params: Params, encoder_key: str, tables: str, items: Sequence[Item], device: torch.device
) -> str:
    """What decides a fine-tuned encoder: two runs of the same key write the same.

    Args:
        tables: digest of queries and, where val is measured, galleries.
        items: the pictures.
    """
    own = composer_params(params)
    # What has no effect on the weights is left out.
    speed = {"workers", "picture_cache", "checkpointing", "compile", "devices"}
    looked_up = own.finetune.towers != "both"
    values = [
        own.finetune.model_dump(exclude=speed),
        own.head.model_dump(),
        own.ua.model_dump(),
        own.train.model_dump(include={"seed", "holdout", "holdout_seed", "fraction", "noise"}),
        tower_lr(params),
        [device.type, str(compute_dtype(own.finetune.precision, device))],
        own.features.model_dump(include={"dtype", "precision"}) if looked_up else None,
        repr(METHODS[own.head.name]),
    ]
    pictures_digest = digest([[item.name, item.key] for item in items], 64)
    code = digest_sources(Path(__file__).parents[1], SOURCES)
    return digest([values, encoder_key, tables, pictures_digest, code], 32)


def vocabulary(images: Iterable[str], texts: Iterable[str]) -> FeatureSet:
    """Names with features of width 0, which queries can be looked up in."""

    def named(names: Iterable[str]) -> Features:
        listed = list(names)
        return Features(listed, np.empty((len(listed), 0), np.float32), {"space": SHARED})

    return FeatureSet.on(torch.device("cpu"), named(images), named(texts))


@dataclass(frozen=True)
class Material:
    """What a fine-tuning reads.

    Attributes:
        split: queries to train on and to choose by.
        names: of the pictures and texts, without features.
        items: the pictures, in the order of their names.
        holdout, val: tasks to measure; val is empty where its curve is not asked for.
    """

    split: TrainSet
    names: FeatureSet
    items: list[Item]
    holdout: list[Task]
    val: list[Task]


def prepare(
    params: Params,
    items: Sequence[Item],
    queries: Sequence[QueryRow],
    galleries: Sequence[GalleryRow],
    with_val: bool = False,
) -> Material:
    """Carve the holdout that `train` uses too, and list the pictures and texts that are needed.

    Args:
        with_val: list those of val as well, for `Finetuned.measure`.

    Raises:
        UserError: too few queries.
    """
    by_name = {item.name: item for item in items}
    everything = vocabulary(by_name, ())
    divided = divide(queries, everything, params.train.holdout, params.train.split_seed)
    split = degrade(divided, params.train)
    used = split.train + split.holdout
    images = {end for query in used for end in ends(query)}.union(*split.distractors.values())
    curve = params.finetune.val_curve
    val = [q for q in queries if q["split"] == "val"] if curve or with_val else []
    if val:
        images |= {row["image_id"] for row in galleries} | {q["reference_id"] for q in val}
    images &= by_name.keys()
    texts = {text for query in used + val for text in all_texts(query["captions"])}
    # By their length, for that is the order in a batch too: a piece is as long as its longest text.
    names = vocabulary(sorted(images), sorted(texts, key=lambda text: (len(text.split()), text)))
    if params.finetune.select == "map" and any(
        query["relevant"] is None for query in split.holdout
    ):
        raise UserError("finetune.select=map needs known relevance; use mean_of_r10_r50")
    protocol = protocols.presets(params.dataset.name)[0]
    return Material(
        split,
        names,
        [by_name[name] for name in names.images.names],
        holdout_tasks(split, names, "forward", False),
        protocol_tasks(protocol, val, galleries, names) if curve and val else [],
    )


@dataclass(frozen=True)
class Finetuned:
    """Encoder and composer with the weights of the best epoch.

    Attributes:
        measure: embeds pictures and texts with these weights.
    """

    encoder: clip.Encoder
    composer: ComposedHead
    progress: Progress
    split: TrainSet
    measure: "Measure"


def finetune(
    params: Params,
    encoder: clip.Encoder,
    material: Material,
    processes: Processes,
    stores: Path,
    state: Path,
    frozen: Frozen,
    quiet: bool = False,
) -> Finetuned:
    """Train the towers and the composer of `params.finetune`; the encoder's model is changed.

    Args:
        encoder: on the device of this process.
        stores: folder of decoded pictures, shared by all runs.
        state: folder that a stopped run resumes from; remove it once the result is saved.
        frozen: features by a tower that is not trained.
        quiet: show no progress.

    Raises:
        UserError: a picture that cannot be read, a loss that is not finite, a full disk.
    """
    tune, own = params.finetune, composer_params(params)
    dtype = compute_dtype(tune.precision, processes.device)
    encoder = clip.with_preprocess(encoder, tune.preprocess)
    towers = Towers(encoder, tune, dtype)
    towers.eval()
    images, texts = _sides(params, encoder, material, towers, processes, stores, frozen)
    measure = Measure(material, images, texts, processes.device)
    before = measure.features(material.holdout)
    weights = model_selection.choose_weights(
        material.split, before, tune.select, None, [model_selection.TRAINED_FOR]
    )
    config = HeadConfig.from_params(
        own.head,
        own.ua,
        own.train,
        d_image=before.image_matrix.shape[1],
        d_text=before.text_matrix.shape[1],
        shared_space=True,
        text_weight=weights[weight_key(*model_selection.TRAINED_FOR)],
    )
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(own.train.seed)
        composer = ComposedHead(config).to(processes.device)
    finetuner = Finetuner(
        towers,
        composer,
        images,
        texts,
        BatchSampler(triplets_of(material.split.train, material.names), own.train),
        tune,
        own.ua,
        processes,
        lambda: measure(composer),
        state,
        dtype,
        tower_lr(params),
    )
    progress = finetuner.run(quiet)
    towers.eval()
    return Finetuned(encoder, composer.eval(), progress, material.split, measure)


def _sides(
    params: Params,
    encoder: clip.Encoder,
    material: Material,
    towers: Towers,
    processes: Processes,
    stores: Path,
    frozen: Frozen,
) -> tuple[Encoded | LookedUp, Encoded | LookedUp]:
    """Pictures and texts, each encoded by its tower, or looked up if that is not trained."""
    tune = params.finetune
    workers = tune.workers or torch.get_num_threads()

    def decoded(augment: Sequence[str]) -> Pictures:
        items, cache, quiet = material.items, tune.picture_cache, not processes.first
        return picture_store.load(stores, encoder, items, augment, cache, workers, quiet)

    def looked_up(kind: str, items: Sequence[Item]) -> LookedUp:
        with processes.first_ahead():
            features = frozen(encoder, kind, items)
        return LookedUp(torch.from_numpy(features).to(processes.device, torch.float32))

    images: Encoded | LookedUp
    texts: Encoded | LookedUp
    if "image" in towers.trained:
        with processes.first_ahead():
            plain = decoded(())
        changed = decoded(tune.augment) if tune.augment else plain
        images = Encoded(changed, plain, towers.images, processes, tune.micro_batch)
    else:
        images = looked_up("images", material.items)
    listed = material.names.texts.names
    if "text" in towers.trained:
        tokens = Texts(*encoder.tokenise(listed))
        texts = Encoded(tokens, tokens, towers.texts, processes, tune.micro_batch)
    else:
        texts = looked_up("texts", text_items(listed))
    return images, texts


class Measure:
    """Recalls of a composer on the holdout, and on val where that is asked for."""

    def __init__(
        self,
        material: Material,
        images: Encoded | LookedUp,
        texts: Encoded | LookedUp,
        device: torch.device,
    ) -> None:
        self.material, self.images, self.texts, self.device = material, images, texts, device

    def __call__(self, composer: ComposedHead) -> dict[str, float]:
        """Metrics by name, `holdout_…` and `val_…`."""
        found: dict[str, float] = {}
        for prefix, tasks in (("holdout", self.material.holdout), ("val", self.material.val)):
            if tasks:
                features = self.features(tasks)
                values = model_selection.score(tasks, composer, features)
                found |= {f"{prefix}_{name}": value for name, value in values.items()}
        return found

    @staticmethod
    def _rows(tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Rows of the pictures and texts that tasks need, each once."""
        images = np.concatenate([np.concatenate([t.gallery, t.reference]) for t in tasks])
        texts = np.concatenate([task.text.ravel() for task in tasks])
        # A reference that is missing has row -1.
        used = np.unique(np.maximum(images, 0))
        return torch.from_numpy(used), torch.from_numpy(np.unique(texts))

    def features(self, tasks: Sequence[Task]) -> FeatureSet:
        """Features of the pictures and texts that tasks need, zero elsewhere, on the device."""
        rows = self._rows(tasks)
        names = self.material.names
        found: list[Tensor] = []
        for side, table, own in zip(
            (self.images, self.texts), (names.images, names.texts), rows, strict=True
        ):
            values = side.encode(own)
            matrix = values.new_zeros(len(table.names), values.shape[1])
            matrix[own.to(self.device)] = values
            found.append(matrix)
        return replace(names, image_matrix=found[0], text_matrix=found[1])


def save(folder: Path, base: Path, result: Finetuned, params: Params, own_key: str) -> None:
    """Write encoder, composer, history and record to `folder`, whole or not at all.

    Args:
        base: folder of the encoder that was fine-tuned; all but weights and label is taken over.
    """
    tune = params.finetune
    origin = (
        f"{result.encoder.weights}, fine-tuned on {params.dataset.name} ({tune.towers}, "
        f"{result.progress.best_epoch} epochs)"
    )
    with new_folder(folder) as temporary:
        model = result.encoder.model
        clip.save_changed(temporary / record.ENCODER, base, model, tune.preprocess, origin)
        extra: dict[str, Any] = {
            "select": tune.select,
            "best_epoch": result.progress.best_epoch,
            "best_value": result.progress.best_value,
        }
        checkpoint.save(temporary, result.composer, extra)
        write_text(temporary / record.HISTORY, to_csv(result.progress.history))
        record.write(temporary, tune.towers, own_key, params.train)
