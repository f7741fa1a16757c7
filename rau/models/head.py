"""The composition head: reference image and caption to a query, target image to a gallery vector.

The uncertainty augmenter follows RAU (arXiv 2308.08131) as far as its public abstract and tables
go. Other methods are the same head with another fusion or another loss.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from rau.models.fusion import (
    Combiner,
    FixedSum,
    GatedResidual,
    LearnedSum,
    OneSide,
    Tirg,
    trunk,
    zero_linear,
)
from rau.models.pcmepp import Matching
from rau.nn.gaussian import Gaussian, PathOutput
from rau.nn.layers import Dropout, unit
from rau.nn.noise import Noise
from rau.params import (
    Fraction,
    HeadName,
    HeadParams,
    Positive,
    Section,
    TrainParams,
    UaParams,
    Width,
)

TEMPERATURE_MIN = 0.005
TEMPERATURE_MAX = 1.0


class HeadConfig(Section):
    """All that is needed to rebuild a head, JSON-able; the weights come beside it.

    `shared_space` says that image and text features are comparable as they are (CLIP): there is
    then no projection and `dim` is ignored. `text_weight` is the caption's share in the weighted
    sum that the fusion starts from.
    """

    name: HeadName = "rau"
    d_image: Width
    d_text: Width
    shared_space: bool
    dim: Width = 512
    hidden: Width = 512
    dropout: Fraction = 0.1
    input_dropout: Fraction = 0.0
    n: Annotated[int, Field(ge=0, le=16)] = 1
    isu: bool = True
    samples: Annotated[int, Field(ge=1, le=64)] = 1
    shared: bool = False
    sigma_init: Positive = 0.1
    text_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    temperature: Positive = 0.05
    learn_temperature: bool = False

    @model_validator(mode="after")
    def _one_space_has_one_width(self) -> Self:
        if self.shared_space and self.d_image != self.d_text:
            raise ValueError(
                f"a shared space needs d_image = d_text, not {self.d_image} and {self.d_text}"
            )
        return self

    @property
    def uncertain(self) -> bool:
        """Whether the last block's variance is trained: sampled, or part of PCME++'s distance."""
        return self.n > 0 and (self.isu or self.name == "pcmepp")

    @property
    def width(self) -> int:
        """Width d of the head's vectors."""
        return self.d_image if self.shared_space else self.dim

    @classmethod
    def from_params(
        cls,
        head: HeadParams,
        ua: UaParams,
        train: TrainParams,
        *,
        d_image: int,
        d_text: int,
        shared_space: bool,
        text_weight: float,
    ) -> Self:
        """Take over what `params.yaml` says; `methods.canonical` before drops what has no effect.

        Raises:
            pydantic.ValidationError: when a shared space has features of two widths.
        """
        return cls(
            d_image=d_image,
            d_text=d_text,
            shared_space=shared_space,
            text_weight=text_weight,
            **head.model_dump(include={"name", "dim", "hidden", "dropout", "input_dropout"}),
            **ua.model_dump(include={"n", "isu", "samples", "shared", "sigma_init"}),
            **train.model_dump(include={"temperature", "learn_temperature"}),
        )


def make_fusion(config: HeadConfig, noise: Noise) -> nn.Module:
    """The fusion of a method."""
    c, width = config, config.width
    match c.name:
        case "image_only" | "text_only":
            return OneSide(text=c.name == "text_only")
        case "sum":
            return FixedSum(0.5)
        case "weighted_sum":
            # What the holdout chose is final where nothing else is trained.
            return FixedSum(c.text_weight) if c.shared_space else LearnedSum(c.text_weight)
        case "tirg":
            return Tirg(width, c.dropout, noise)
        case "combiner":
            return Combiner(width, c.hidden, c.dropout, noise)
        case _:
            return GatedResidual(width, c.hidden, c.dropout, c.text_weight, noise)


class UncertaintyAugmenter(nn.Module):
    """One UA block: a vector to a Gaussian around it (arXiv 2308.08131).

    It starts at the normalised vector itself, with a sigma of norm `sigma_init`.
    """

    def __init__(self, config: HeadConfig, noise: Noise) -> None:
        super().__init__()
        width, hidden, sigma_init = config.width, config.hidden, config.sigma_init
        self.trunk = trunk(width, hidden, config.dropout, noise)
        self.to_shift = zero_linear(hidden, width)
        self.to_log_var = zero_linear(hidden, width, 2 * math.log(sigma_init) - math.log(width))

    def forward(self, h: Tensor) -> Gaussian:
        """From (B, d) to B Gaussians with unit means."""
        features = self.trunk(h)
        return Gaussian(unit(h + self.to_shift(features)), self.to_log_var(features))


class Projection(nn.Module):
    """Raw features (B, inputs) to unit vectors (B, d): normalise, drop out, project if need be."""

    def __init__(self, inputs: int, config: HeadConfig, noise: Noise) -> None:
        super().__init__()
        self.inputs = inputs
        self.dropout = Dropout(config.input_dropout, noise)
        self.linear = None if config.shared_space else nn.Linear(inputs, config.width, bias=False)

    def forward(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """Project.

        Raises:
            ValueError: when the features have another width.
        """
        if features.ndim < 2 or features.shape[-1] != self.inputs:
            raise ValueError(f"features are {tuple(features.shape)}, not (B, {self.inputs})")
        rows: Tensor = self.dropout(unit(features.to(dtype)))
        return rows if self.linear is None else unit(self.linear(rows))


class ComposedHead(nn.Module):
    """Source path (reference and caption) and target path (image), n UA blocks on each.

    Features are raw, of any float type: (B, d_image) images, (B, d_text) captions.
    In training mode with ISU each block but the last is sampled once and the last one
    `config.samples` times; otherwise only means are used and every output is deterministic,
    dropout aside. `noise` draws all that is random.
    """

    log_temperature: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.noise = Noise()
        c = config
        self.project_image = Projection(c.d_image, c, self.noise)
        self.project_text = Projection(c.d_text, c, self.noise)
        self.fusion = make_fusion(c, self.noise)
        self.matching = Matching(c.temperature) if c.name == "pcmepp" else None
        self.source_blocks = self._stack()
        self.target_blocks = None if c.shared else self._stack()
        self._start_temperature()

    def _stack(self) -> nn.ModuleList:
        blocks = range(self.config.n)
        return nn.ModuleList(UncertaintyAugmenter(self.config, self.noise) for _ in blocks)

    def _start_temperature(self) -> None:
        value = torch.tensor(math.log(self.config.temperature))
        if self.config.learn_temperature:
            self.log_temperature = nn.Parameter(value)
        else:
            self.register_buffer("log_temperature", value)

    @property
    def temperature(self) -> Tensor:
        """A scalar; a learned one stays in [TEMPERATURE_MIN, TEMPERATURE_MAX].

        The bound passes gradients on, so that a temperature that reaches it can come back.
        """
        value = self.log_temperature
        if self.config.learn_temperature:
            bounded = value.detach().clamp(math.log(TEMPERATURE_MIN), math.log(TEMPERATURE_MAX))
            value = value + (bounded - value.detach())
        return value.exp()

    def _path(self, h: Tensor, blocks: nn.ModuleList) -> PathOutput:
        sampling = self.training and self.config.isu

        def draw(gaussian: Gaussian) -> Tensor:
            return gaussian.at(self.noise.normal(gaussian.mean)) if sampling else gaussian.mean

        gaussians: list[Gaussian] = []
        z = h
        for block in blocks:
            if gaussians:
                z = draw(gaussians[-1])
            gaussians.append(block(z))
        mean = gaussians[-1].mean if gaussians else unit(h)
        draws: tuple[Tensor, ...] = (mean,)
        if gaussians and sampling:
            draws = tuple(draw(gaussians[-1]) for _ in range(self.config.samples))
        return PathOutput(tuple(gaussians), mean, draws)

    def forward_source(self, reference: Tensor, text: Tensor) -> PathOutput:
        """Compose B queries from (B, d_image) and (B, d_text).

        Raises:
            ValueError: when features have other widths than the head was made for.
        """
        dtype = self.log_temperature.dtype
        h = self.fusion(self.project_image(reference, dtype), self.project_text(text, dtype))
        return self._path(h, self.source_blocks)

    def forward_target(self, target: Tensor) -> PathOutput:
        """Embed B target images, (B, d_image).

        Raises:
            ValueError: when features have another width than the head was made for.
        """
        blocks = self.source_blocks if self.target_blocks is None else self.target_blocks
        h = self.project_image(target, self.log_temperature.dtype)
        return self._path(h, blocks)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode without gradients; the mode comes back after."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(training)

    def encode_query(self, reference: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Deterministic query vectors, unit (B, d), and their uncertainty, norm of sigma, (B,).

        PCME++'s vectors are two wider: their cosine ranks by its distance.
        """
        with self.evaluating():
            output = self.forward_source(reference, text)
            vectors = output.mean if self.matching is None else self.matching.as_queries(output)
            return vectors, self._uncertainty(output)

    def encode_gallery(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Deterministic image vectors, unit (B, d), and their uncertainty, norm of sigma, (B,)."""
        with self.evaluating():
            output = self.forward_target(image)
            vectors = output.mean if self.matching is None else self.matching.as_gallery(output)
            return vectors, self._uncertainty(output)

    def _uncertainty(self, output: PathOutput) -> Tensor:
        """Norm of sigma, (B,); 0 where the variance is not trained and means nothing."""
        return output.uncertainty if self.config.uncertain else output.uncertainty * 0
