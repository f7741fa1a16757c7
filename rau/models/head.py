"""The composition head: reference image and caption to a query, target image to a gallery vector.

The uncertainty augmenter follows RAU (arXiv 2308.08131) as far as its public abstract and tables
describe it. Other methods are the same head with another fusion or another loss.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rau.losses.criterion import Criterion, LossContext, Terms
from rau.methods import METHODS
from rau.models.config import HeadConfig
from rau.models.fusion import trunk, zero_linear
from rau.nn.gaussian import Gaussian, PathOutput
from rau.nn.noise import Dropout, Noise
from rau.params import UaParams

TEMPERATURE_MIN = 0.005
TEMPERATURE_MAX = 1.0


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
        return Gaussian(F.normalize(h + self.to_shift(features), dim=-1), self.to_log_var(features))


class Projection(nn.Module):
    """Raw features (B, inputs) to unit vectors (B, d): normalise, dropout, projection.

    A method that reads raw features has them as they are, where it needs no projection.
    """

    def __init__(self, inputs: int, config: HeadConfig, noise: Noise) -> None:
        super().__init__()
        self.inputs, self.raw = inputs, METHODS[config.name].raw
        self.dropout = Dropout(config.input_dropout, noise)
        self.linear = None if config.shared_space else nn.Linear(inputs, config.width, bias=False)

    def forward(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """Project.

        Raises:
            ValueError: when the features have another width.
        """
        if features.ndim < 2 or features.shape[-1] != self.inputs:
            raise ValueError(f"features are {tuple(features.shape)}, not (B, {self.inputs})")
        features = features.to(dtype)
        rows: Tensor = self.dropout(features if self.raw else F.normalize(features, dim=-1))
        return rows if self.linear is None else F.normalize(self.linear(rows), dim=-1)


class ComposedHead(nn.Module):
    """Source path (reference and caption) and target path (image), n UA blocks on each.

    Features are raw, of any float type: (B, d_image) images, (B, d_text) captions.
    In training mode with ISU each block but the last is sampled once and the last one
    `config.samples` times; otherwise only means are used and every output is deterministic,
    except for dropout. All random numbers come from `noise`.
    """

    log_temperature: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.noise = Noise()
        c = config
        self.project_image = Projection(c.d_image, c, self.noise)
        self.project_text = Projection(c.d_text, c, self.noise)
        method = METHODS[c.name]
        self.fusion: nn.Module = method.load_fusion()(c, self.noise)
        self.criterion: Criterion = method.load_loss()(c.temperature)
        self.source_blocks = self._stack()
        self.target_blocks = None if c.shared else self._stack()
        temperature = torch.tensor(math.log(c.temperature))
        if c.learn_temperature:
            self.log_temperature = nn.Parameter(temperature)
        else:
            self.register_buffer("log_temperature", temperature)

    def _stack(self) -> nn.ModuleList:
        blocks = range(self.config.n)
        return nn.ModuleList(UncertaintyAugmenter(self.config, self.noise) for _ in blocks)

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
        for block in blocks:
            gaussians.append(block(draw(gaussians[-1]) if gaussians else h))
        if not gaussians:
            mean = F.normalize(h, dim=-1)
            return PathOutput((), mean, (mean,))
        count = self.config.samples if sampling else 1
        samples = tuple(draw(gaussians[-1]) for _ in range(count))
        return PathOutput(tuple(gaussians), gaussians[-1].mean, samples)

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

    def loss(
        self,
        source: PathOutput,
        target: PathOutput,
        target_ids: Tensor,
        ua: UaParams,
        two_way: bool,
        progress: float,
    ) -> Terms:
        """The loss of a batch, by the head's method.

        Args:
            source, target: of B queries and their B targets, both by this head.
            target_ids: (B,) integers, equal where the target image is the same.
            ua: canonical, so that terms which the method does not have are off.
            two_way: both directions of InfoNCE.
            progress: of the training, from 0 to 1.
        """
        context = LossContext(target_ids, ua, self.temperature, two_way, progress, self.noise)
        return cast(Terms, self.criterion(source, target, context))

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
            return self.criterion.query_vectors(output), self._uncertainty(output)

    def encode_gallery(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Deterministic image vectors, unit (B, d), and their uncertainty, norm of sigma, (B,)."""
        with self.evaluating():
            output = self.forward_target(image)
            return self.criterion.gallery_vectors(output), self._uncertainty(output)

    def _uncertainty(self, output: PathOutput) -> Tensor:
        """Norm of sigma, (B,); 0 where the variance is not trained and means nothing."""
        return output.uncertainty if self.config.uncertain else output.uncertainty * 0
