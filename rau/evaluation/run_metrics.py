"""The content of `metrics.json`: one typed record, checked on write and on read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from rau.datasets.coverage import Coverage
from rau.errors import UserError
from rau.evaluation.bootstrap import MEAN, Interval, PairedDifference
from rau.evaluation.diagnostics import Diagnostic
from rau.files import write_json
from rau.params import Section
from rau.schemas import QUERIES, read_table
from rau.table_metadata import cautions

Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
# By category, including `mean`, and metric.
Scores = dict[str, dict[str, Percent]]
Intervals = dict[str, dict[str, Interval]]
# Names of metrics in tables of runs; capitals come first in MLflow's lists.
SHORT = {
    "MAP": "map",
    "R1": "recall_at_1",
    "R5": "recall_at_5",
    "R10": "recall_at_10",
    "R50": "recall_at_50",
    "Rs1": "subset_recall_at_1",
}
MAX_BYTES = 64 * 2**20


class DatasetLabel(Section):
    """The data set, and the kind of its copy.

    Attributes:
        copy_kind: `official`, `custom` or `built in`; `copy` in the file.
        root: the user-provided folder.
        differs: annotation files that differ from the published ones.
        unverified: digests by path of files whose published digest is unknown.
    """

    name: str
    copy_kind: str = Field(alias="copy")
    root: str | None = None
    differs: list[str] = Field(default_factory=list)
    unverified: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of_table(cls, queries: Path) -> Self:
        """Read the label of the copy from a queries table.

        Raises:
            UserError: when the table has no label.
        """
        metadata = read_table(queries, QUERIES, "tables").schema.metadata or {}
        try:
            return cls.model_validate_json(metadata.get(b"dataset", b""))
        except ValidationError as error:
            raise UserError(
                f"{queries} does not name its data set; run `python -m pipeline.tables` again"
            ) from error

    @property
    def built_in(self) -> bool:
        """Whether it is the data set that this project renders."""
        return (self.name, self.copy_kind) == ("garments", "built in")

    def __str__(self) -> str:
        return f"{self.name} ({self.copy_kind})"


class Relevance(Section):
    """Number of correct answers per val query."""

    queries: NonNegativeInt
    median: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    mean: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Headline(Section):
    """The headline metric, with its protocol and interval."""

    protocol: str
    metric: str
    value: Percent
    interval: Interval | None


class TrainingSummary(Section):
    """Choices made on the holdout, and numbers of queries.

    `dataset` is the data set trained on; None if nothing was trained, or by an older version. The
    weights are empty if there was no holdout.
    """

    select: str
    best_epoch: NonNegativeInt
    text_weights: dict[str, Annotated[float, Field(ge=0, le=1)]]
    queries: dict[str, NonNegativeInt]
    alignment: dict[str, float | None]
    dataset: str | None = None


class MethodComposition(Section):
    """A method compared with the single modalities.

    Attributes:
        gap: of the headline metric to the better single modality, paired by query, in points.
        alone: of the queries that it solves, the share that a single modality also solves; None if
            it solves none.
    """

    gap: PairedDifference
    alone: Share | None


class Composition(Section):
    """The single modalities under a protocol, and the methods compared with them.

    A query is solved if the target is among the first `cut`. Shares are means over categories.

    Attributes:
        metric: the headline metric, whose gaps are given.
        better: name of the single modality with the higher value.
        reference, caption, either: share of the queries that the reference alone solves, the
            caption alone, and at least one of them.
        methods: by name.
    """

    metric: str
    cut: PositiveInt
    better: str
    reference: Share
    caption: Share
    either: Share
    methods: dict[str, MethodComposition]


class DistractorFigures(Section):
    """Images that answer no query, added to the galleries of the headline's protocol.

    Attributes:
        protocol: name of the resulting protocol.
        source: their files, as named by the parameter.
        images: number of images added to every gallery.
        skipped: number of images in the files that are also in a gallery or a query.
    """

    protocol: str
    source: str
    images: NonNegativeInt
    skipped: NonNegativeInt


class BenchmarkResult(Section):
    """Every method under every protocol.

    Attributes:
        protocols, intervals: those of the run's own method, by protocol.
        baselines, baseline_intervals: those of the other methods, by name and protocol.
        galleries: number of images by protocol and category.
        against: differences to the deterministic head by protocol, category and metric.
        composition: by protocol and category, the mean over categories included.
        aspects: mAP@10 by protocol, method and semantic aspect; empty if queries have none.
        distractors: the images of the protocol with distractors; None if there is none.
    """

    protocols: dict[str, Scores] = Field(default_factory=dict)
    intervals: dict[str, Intervals] = Field(default_factory=dict)
    baselines: dict[str, dict[str, Scores]] = Field(default_factory=dict)
    baseline_intervals: dict[str, dict[str, Intervals]] = Field(default_factory=dict)
    galleries: dict[str, dict[str, PositiveInt]] = Field(default_factory=dict)
    against: dict[str, dict[str, dict[str, PairedDifference]]] = Field(default_factory=dict)
    composition: dict[str, dict[str, Composition]] = Field(default_factory=dict)
    aspects: dict[str, dict[str, dict[str, Percent]]] = Field(default_factory=dict)
    distractors: DistractorFigures | None = None


class ReliabilityBin(Section):
    """Mean predicted probability and observed rate of queries with similar probabilities."""

    probability: Share
    rate: Share
    queries: PositiveInt


class CalibrationFigures(Section):
    """The head's calibration evaluated on val, which it was not fitted on.

    Attributes:
        queries, gallery: number of val queries, and the median size of their galleries.
        fitted_on, fitted_gallery: the same for the holdout.
        auroc: by k, AUROC of the probability for predicting that the target is among the first k;
            None if it always or never is.
        ece: by k, expected calibration error, 15 bins of equal mass.
        rate, mean_probability: by k, observed frequency and mean predicted probability.
        reliability: by k, these bins, the most confident first; empty in files of older versions.
        coverage: share of the queries whose prediction set at 90 % contains the target.
        length: median size of these sets; None if most queries have none.
    """

    queries: PositiveInt
    gallery: PositiveInt
    fitted_on: PositiveInt
    fitted_gallery: PositiveInt
    auroc: dict[str, Share | None]
    ece: dict[str, Share]
    rate: dict[str, Share]
    mean_probability: dict[str, Share]
    reliability: dict[str, list[ReliabilityBin]] = Field(default_factory=dict)
    coverage: Share
    length: PositiveInt | None

    @model_validator(mode="after")
    def _same_cuts(self) -> Self:
        by_k = (self.auroc, self.ece, self.rate, self.mean_probability, self.reliability)
        if len({tuple(one) for one in by_k if one}) > 1:
            raise ValueError("the figures are for different k")
        return self


def short_names(values: Mapping[str, float], headline: str) -> dict[str, float]:
    """The few values shown in tables of runs, including the metric `headline`, by names that come
    first in MLflow's lists."""
    found = {short: values[name] for short, name in SHORT.items() if name in values}
    return {"Headline": values[headline]} | found


class RunMetrics(BenchmarkResult):
    """The content of `metrics.json`; `encoder` is the metadata of both feature tables, `head` names
    a head that was trained elsewhere."""

    method: str
    head: str | None = None
    dataset: DatasetLabel
    encoder: dict[str, str]
    coverage: Coverage
    relevance: Relevance | None
    headline: Headline
    training: TrainingSummary
    diagnostics: list[Diagnostic]
    calibration: CalibrationFigures | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Check that all parts have the same protocols, categories and metrics."""
        if absent := sorted({"encoder", "weights"} - set(self.encoder)):
            raise ValueError(f"encoder has no {absent[0]}")
        for protocol, ours in self.protocols.items():
            where = f"protocol {protocol}"
            if {*self.galleries.get(protocol, ())} | {MEAN} != {*ours}:
                raise ValueError(f"{where} has other categories than its galleries")
            for name, scores in self.baselines.items():
                if _shape(scores.get(protocol, {})) != _shape(ours):
                    raise ValueError(f"{where} of {name} has other metrics than the run's method")
                if protocol not in self.baseline_intervals.get(name, {}):
                    raise ValueError(f"{where} has no intervals of {name}")
            if protocol not in self.intervals:
                raise ValueError(f"{where} has no intervals")
            composed = self.composition.get(protocol, {})
            if composed and {*composed} != {*ours}:
                raise ValueError(f"{where}: the composition is of other categories")
            if any({*one.methods} != {*self.baselines, self.method} for one in composed.values()):
                raise ValueError(f"{where}: the composition is of other methods")
            if self.against and _shape(self.against.get(protocol, {})).keys() != ours.keys():
                raise ValueError(f"{where} has no differences to the deterministic head")
        if self.distractors and self.distractors.protocol not in self.protocols:
            raise ValueError("the distractors' protocol is not one of the protocols")
        if "train" not in self.training.queries:
            raise ValueError("training.queries has no number of train queries")
        head = self.headline
        if head.metric not in self.protocols.get(head.protocol, {}).get(MEAN, {}):
            raise ValueError("the headline is not one of the metrics")
        return self

    @property
    def trained_here(self) -> bool:
        """Whether the run trained a head and has a training history."""
        return self.head is None and self.training.queries["train"] > 0

    @property
    def gain(self) -> PairedDifference | None:
        """The headline's difference to the deterministic head, if any."""
        head = self.headline
        return self.against.get(head.protocol, {}).get(MEAN, {}).get(head.metric)

    @property
    def main(self) -> dict[str, float]:
        """The few values shown in tables of runs, by short names: the means over categories under
        the headline's protocol, and the headline metric of each other protocol under its name."""
        head = self.headline
        own = self.protocols[head.protocol][MEAN]
        found = short_names(own, head.metric)
        others = ((name, values[MEAN]) for name, values in self.protocols.items())
        return found | {
            name: values[head.metric]
            for name, values in others
            if name != head.protocol and head.metric in values
        }

    @property
    def cautions(self) -> list[str]:
        """Warnings on the features."""
        return cautions(self.encoder, self.dataset.built_in)

    @property
    def encoder_name(self) -> str:
        """Name of encoder and weights, for tables."""
        return f"{self.encoder['encoder']}, {self.encoder['weights']}"

    def write(self, path: Path) -> None:
        """Write as JSON, completely or not at all."""
        write_json(path, self.model_dump(mode="json", by_alias=True))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file written by `write`.

        Raises:
            UserError: when the file is missing, too large or malformed.
        """
        return cls.read_json(path, MAX_BYTES, "run `python -m pipeline.evaluate` again")


def _shape(scores: Mapping[str, Mapping[str, object]]) -> dict[str, set[str]]:
    return {category: {*metrics} for category, metrics in scores.items()}
