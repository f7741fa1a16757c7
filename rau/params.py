"""Parameters, typed and ranged: the content of `params.yaml`, one section per stage."""

import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from rau import layouts, methods
from rau.errors import UserError
from rau.files import read_bytes
from rau.plain_yaml import parse

# Of dropout.
Fraction = Annotated[float, Field(ge=0, le=0.99)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Width = Annotated[int, Field(ge=1, le=65536)]
# Of the head's layers: a square matrix of this size takes 256 MiB.
LayerWidth = Annotated[int, Field(ge=1, le=8192)]
BatchSize = Annotated[int, Field(ge=2, le=2**17)]
Count = Annotated[int, Field(ge=1, le=10**6)]
# A longer history would exceed what `models.checkpoint` reads in addition to a state's tensors.
Epochs = Annotated[int, Field(ge=1, le=10_000)]
# Threads or processes; 0 lets the program choose.
Parallel = Annotated[int, Field(ge=0, le=256)]
# A name or a path, on one line.
Line = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
MAX_BYTES = 2**20
# The dtype that the factors of float32 matrix products are rounded to.
MatmulPrecision = Literal["float32", "tf32", "bfloat16"]


def first_error(error: ValidationError) -> tuple[str, str]:
    """The dotted name of the first invalid value, and what is wrong with it.

    An error that concerns the whole is reported for `content`.
    """
    first = error.errors(include_url=False)[0]
    return ".".join(map(str, first["loc"]))[:200] or "content", first["msg"]


class Section(BaseModel):
    """A section, which refuses unknown keys and implicit conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def read_json(cls, path: Path, limit: int, remedy: str) -> Self:
        """Read a JSON file; errors end with the remedy.

        Raises:
            UserError: when the file is missing, larger than `limit` bytes or malformed.
        """
        try:
            return cls.model_validate_json(read_bytes(path, limit, remedy))
        except ValidationError as error:
            key, message = first_error(error)
            raise UserError(f"{path}: {key}: {message}; {remedy}") from error


class GarmentsParams(Section):
    """Sizes of the built-in data set."""

    seed: Seed = 0
    train_images: Annotated[int, Field(ge=60, le=10**6)] = 7000
    val_images: Annotated[int, Field(ge=60, le=10**6)] = 3000
    train_queries: Annotated[int, Field(ge=30, le=10**6)] = 15000
    val_queries: Annotated[int, Field(ge=30, le=10**6)] = 3000
    image_size: Annotated[int, Field(ge=32, le=512)] = 128


class CatalogueParams(Section):
    """How a catalogue is split and how many queries are sampled; null depends on its size."""

    seed: Seed = 0
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    train_queries: Annotated[int, Field(ge=0, le=10**6)] | None = None
    val_queries: Annotated[int, Field(ge=0, le=10**6)] | None = None


class DatasetParams(Section):
    """The data set; `root` is a user-provided folder in one of the layouts of the data set.

    Without `root` the data set is downloaded; `images` is a folder whose images complete either.
    """

    name: Annotated[str, AfterValidator(layouts.known)] = "garments"
    root: Line | None = None
    images: Line | None = None
    accept_terms: bool = False
    connections: Annotated[int, Field(ge=1, le=64)] = 16
    allow_missing: bool = False
    garments: GarmentsParams = GarmentsParams()
    catalogue: CatalogueParams = CatalogueParams()

    @model_validator(mode="after")
    def _a_catalogue_is_the_users_own(self) -> Self:
        if self.name == "catalogue" and (self.root is None or self.images is not None):
            raise ValueError(
                "name=catalogue needs root, the folder of products.csv and its images, and does "
                "not read images"
            )
        return self


# Trained by the stage `encoder` on rendered garments, and only suitable for them.
BUILT_IN_ENCODER = "garments-clip"

# Prefix of a model of sentence-transformers, or of a folder with one.
SENTENCE_TRANSFORMERS = "st:"


class EncoderParams(Section):
    """Any open_clip model and tag, an `hf-hub:` or `local-dir:` path, `garments-clip`, or `st:`
    followed by a model of sentence-transformers."""

    name: Line = BUILT_IN_ENCODER
    pretrained: Line | None = None
    trust_remote_code: bool = False
    seed: Seed = 0
    steps: Count = 500
    batch_size: BatchSize = 128
    pairs: Annotated[int, Field(ge=2, le=200_000)] = 10000


def _known_composer(name: str) -> str:
    return name if name in ("sum", "head") else methods.known(name)


# `sum` for the registry's `raw_sum`, `head` for the method in head.name, or a registry's name.
ComposerName = Annotated[str, AfterValidator(_known_composer)]


class FinetuneParams(Section):
    """Fine-tuning of the encoder's towers together with a composer.

    If `tower_lr` is null, it depends on the encoder: `rau.finetuning.run.tower_lr`.
    """

    towers: Literal["none", "text", "image", "both"] = "both"
    composer: ComposerName = "deterministic"
    epochs: Epochs = 5
    batch_size: Annotated[int, Field(ge=2, le=2**20)] = 256
    micro_batch: Annotated[int, Field(ge=1, le=2**20)] | None = None
    batches: Literal["mixed", "category"] = "category"
    duplicates: Literal["positive", "count"] = "positive"
    two_way: bool = True
    temperature: Positive = 0.07
    learn_temperature: bool = False
    tower_lr: Positive | None = None
    composer_lr: Positive = 3e-4
    weight_decay: Weight = 0.01
    eps: Positive = 1e-8
    schedule: Literal["cosine", "constant"] = "cosine"
    warm_up: Fraction = 0.1
    clip_norm: Positive | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    frozen_batch_norm: bool = True
    patience: Annotated[int, Field(ge=0, le=10**6)] = 0
    select: Literal["mean_of_r10_r50", "recall_at_1", "recall_at_10", "map"] = "mean_of_r10_r50"
    val_curve: bool = False
    preprocess: Literal["own", "stretch", "center", "targetpad"] = "own"
    # A tuple, so that parameters are hashable; YAML has lists.
    augment: Annotated[tuple[Literal["flip", "crop", "colour"], ...], Field(strict=False)] = ()
    picture_cache: Literal["auto", "always", "never"] = "auto"
    checkpointing: bool = False
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    compile: bool = False
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    devices: Annotated[int, Field(ge=1, le=64)] = 1

    @model_validator(mode="after")
    def _statistics_need_whole_batches(self) -> Self:
        if not self.frozen_batch_norm and (
            self.micro_batch is not None or self.checkpointing or self.devices > 1
        ):
            raise ValueError(
                "frozen_batch_norm=false needs a whole batch in one pass: no micro_batch, no "
                "checkpointing, one device"
            )
        return self


class FeaturesParams(Section):
    """How features are computed and stored; `source` is a folder of precomputed features."""

    source: Line | None = None
    shared_space: bool = False
    dtype: Literal["float16", "float32"] = "float16"
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    batch_size: Annotated[int, Field(ge=1, le=2**17)] = 256
    workers: Parallel = 0
    engine: Literal["local", "ray"] = "local"


# A name of the registry of methods.
HeadName = Annotated[str, AfterValidator(methods.known)]


class UaParams(Section):
    """The uncertainty augmenter (arXiv 2308.08131)."""

    n: Annotated[int, Field(ge=0, le=16)] = 1
    theta: Annotated[float, Field(ge=-1, le=1)] = 0.8
    theta_quantile: Annotated[float, Field(ge=0, le=1)] | None = None
    samples: Annotated[int, Field(ge=1, le=64)] = 1
    isu: bool = True
    csu_weight: Weight = 0.3
    dr_weight: Weight = 0.2
    dr: Literal["wasserstein", "kl", "jeffreys", "bhattacharyya", "mmd", "means"] = "wasserstein"
    dr_blocks: Literal["last", "all"] = "last"
    shared: bool = False
    sigma_init: Annotated[float, Field(gt=0, le=10)] = 0.6


class HeadParams(Section):
    """The composition head; `rau/methods.py` documents the method of each name."""

    name: HeadName = "rau"
    dim: LayerWidth = 512
    hidden: LayerWidth = 512
    dropout: Fraction = 0.5
    input_dropout: Fraction | None = None


class TrainParams(Section):
    """Optimisation and model selection; `head` names an already trained head to use instead: a
    folder, a git revision, a DVC experiment, an MLflow run or model."""

    head: Line | None = None
    seed: Seed = 0
    start: Literal["fresh", "finetuned"] = "fresh"
    epochs: Epochs = 60
    patience: Annotated[int, Field(ge=0, le=10**6)] = 10
    batch_size: BatchSize = 512
    lr: Positive = 6e-4
    schedule: Literal["constant", "cosine"] = "constant"
    ema: Fraction = 0.98
    weight_decay: Weight = 0.01
    temperature: Positive = 0.07
    learn_temperature: bool = False
    two_way: bool = True
    precision: MatmulPrecision = "float32"
    batches: Literal["mixed", "category"] = "category"
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    threads: Parallel = 0
    holdout: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    holdout_seed: Seed | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    select: Literal["mean_of_r10_r50", "recall_at_1", "recall_at_10", "map"] = "mean_of_r10_r50"

    @property
    def split_seed(self) -> int:
        """The seed that the holdout is drawn with."""
        return self.seed if self.holdout_seed is None else self.holdout_seed


class CustomProtocolParams(Section):
    """A protocol in addition to the presets."""

    gallery: Literal["original", "val-union"]
    reference: Literal["kept", "removed"]
    join: Literal["forward", "both", "separate"]


class EvaluateParams(Section):
    """Protocols and their statistics."""

    headline: Line | None = None
    top_k: Annotated[int, Field(ge=1, le=1000)] = 50
    bootstrap: Annotated[int, Field(ge=0, le=100000)] = 1000
    unusable: Literal["miss", "leave_out"] = "miss"
    custom: CustomProtocolParams | None = None
    distractors: Line | None = None


class TrackParams(Section):
    """What is logged to MLflow."""

    model: bool = False


class StudyParams(Section):
    """The studies of `pipeline/dvc.yaml`; null takes the value of the preset."""

    engine: Literal["local", "ray"] = "local"
    preset: Literal["smoke", "quick", "full"] = "quick"
    seeds: Annotated[int, Field(ge=1, le=100)] | None = None
    epochs: Epochs | None = None
    trials: Annotated[int, Field(ge=1, le=1000)] | None = None
    jobs: Parallel = 0
    cores: Annotated[int, Field(ge=1, le=256)] = 1


class Params(Section):
    """All sections of `params.yaml`."""

    dataset: DatasetParams = DatasetParams()
    encoder: EncoderParams = EncoderParams()
    finetune: FinetuneParams = FinetuneParams()
    features: FeaturesParams = FeaturesParams()
    ua: UaParams = UaParams()
    head: HeadParams = HeadParams()
    train: TrainParams = TrainParams()
    evaluate: EvaluateParams = EvaluateParams()
    track: TrackParams = TrackParams()
    study: StudyParams = StudyParams()

    @model_validator(mode="after")
    def _only_clip_is_fine_tuned(self) -> Self:
        frozen = self.encoder.name.startswith(SENTENCE_TRANSFORMERS)
        if frozen and self.features.source is None and self.finetune.towers != "none":
            raise ValueError(
                f"finetune.towers must be none: encoder.name={self.encoder.name} is used frozen, "
                "only open_clip encoders can be fine-tuned"
            )
        return self


def load(path: Path) -> Params:
    """Read and check a parameter file.

    Raises:
        UserError: naming the key and its permitted values.
    """
    content = read_bytes(path, MAX_BYTES, "run from the project's root")
    return _checked(parse(content, str(path)), path)


def recipe(base: Path, path: Path) -> dict[str, Any]:
    """The parameters that a recipe changes, by dotted name.

    Args:
        base: the parameter file that the recipe changes.
        path: the recipe, a parameter file with only the changed parameters.

    Raises:
        UserError: naming an unknown key, or a key and its permitted values.
    """
    changes = parse(read_bytes(path, MAX_BYTES, "see recipes/"), str(path))
    values = load(base).model_dump()
    for section, own in changes.items():
        values[section] = (
            values[section] | own if section in values and isinstance(own, dict) else own
        )
    _checked(values, path)
    return _flat(changes, Params().model_dump())


def _checked(values: dict[str, Any], path: Path) -> Params:
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key, message = first_error(error)
        if first["type"] == "extra_forbidden":
            raise UserError(f"{path}: unknown parameter {key}; see params.yaml") from None
        given = first["input"]
        got = f", got {_short(given)}" if not isinstance(given, dict) else ""
        where = f"{path}: {key}" if key else path
        raise UserError(f"{where}: {message}{got}") from None


def _short(value: object) -> str:
    """A value as Python writes it, shortened to a few words."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a huge number"


def of_a_run(params: Params) -> dict[str, Any]:
    """`flat` without parameters that no result depends on, including those of the training if the
    head was trained elsewhere."""
    unused: tuple[str, ...] = ("study.", "track.", "dataset.connections", "features.engine")
    unused += ("features.workers", "finetune.workers", "finetune.picture_cache")
    if params.train.head is not None:
        unused += ("ua.", "head.", "train.")
    values = {k: v for k, v in flat(params).items() if not k.startswith(unused)}
    return values | {"train.head": params.train.head}


def flat(params: Params) -> dict[str, Any]:
    """Values by dotted name, as accepted by `dvc exp run -S`."""
    values = params.model_dump()
    return _flat(values, values)


def _flat(section: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """Values by dotted name; a mapping that is not a section of `like` is kept as one value."""
    result: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, dict) and isinstance(like[key], dict):
            result |= {f"{key}.{name}": own for name, own in _flat(value, like[key]).items()}
        else:
            result[key] = value
    return result
