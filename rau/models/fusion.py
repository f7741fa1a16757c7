"""Ways to fuse a reference image and a caption: two unit vectors (B, d) to one (B, d).

Methods differ in their fusion or their loss only.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rau.models.config import HeadConfig
from rau.nn.noise import Dropout, Noise

GATE_MARGIN = 1e-3


def zero_linear(inputs: int, outputs: int, bias: float = 0.0) -> nn.Linear:
    """A linear layer that starts as the constant `bias`."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, bias)
    return layer


def trunk(inputs: int, hidden: int, dropout: float, noise: Noise) -> nn.Sequential:
    """The hidden layer of every MLP of ours; the norm is needed because unit vectors are small."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.GELU(), Dropout(dropout, noise)
    )


class GatedResidual(nn.Module):
    """Ours: gate * r + (1 - gate) * t + MLP([r; t]), which starts as (1 - w) * r + w * t.

    A weight w nearer than GATE_MARGIN to 0 or 1 starts that far from it, so that the gate learns.
    """

    def __init__(self, config: HeadConfig, noise: Noise) -> None:
        super().__init__()
        width, hidden = config.width, config.hidden
        weight = min(max(config.text_weight, GATE_MARGIN), 1 - GATE_MARGIN)
        self.gate = zero_linear(2 * width, width, math.log((1 - weight) / weight))
        self.mlp = nn.Sequential(
            trunk(2 * width, hidden, config.dropout, noise), zero_linear(hidden, width)
        )

    def forward(self, reference: Tensor, text: Tensor) -> Tensor:
        """Two (B, d) to one (B, d)."""
        both = torch.cat([reference, text], dim=-1)
        mixed = torch.lerp(text, reference, self.gate(both).sigmoid())
        return mixed + torch.as_tensor(self.mlp(both))


class OneSide(nn.Module):
    """The reference alone or the caption alone."""

    def __init__(self, text: bool) -> None:
        super().__init__()
        self.text = text

    def forward(self, reference: Tensor, text: Tensor) -> Tensor:
        """Two (B, d) to one of them."""
        return text if self.text else reference


class FixedSum(nn.Module):
    """(1 - w) * r + w * t with a given w."""

    def __init__(self, text_weight: float) -> None:
        super().__init__()
        self.text_weight = text_weight

    def forward(self, reference: Tensor, text: Tensor) -> Tensor:
        """Two (B, d) to one (B, d)."""
        return torch.lerp(reference, text, self.text_weight)


class LearnedSum(nn.Module):
    """(1 - w) * r + w * t with one learned w, which starts at `text_weight`."""

    def __init__(self, text_weight: float) -> None:
        super().__init__()
        weight = min(max(text_weight, GATE_MARGIN), 1 - GATE_MARGIN)
        self.logit = nn.Parameter(torch.tensor(math.log(weight / (1 - weight))))

    def forward(self, reference: Tensor, text: Tensor) -> Tensor:
        """Two (B, d) to one (B, d)."""
        return torch.lerp(reference, text, self.logit.sigmoid())


class BatchNorm(nn.BatchNorm1d):
    """Batch norm that accepts a batch of one row and then uses its running statistics."""

    def forward(self, rows: Tensor) -> Tensor:
        """(B, d) to (B, d)."""
        if self.training and len(rows) == 1:
            return F.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(rows)


class Tirg(nn.Module):
    """TIRG's gated residual (Vo et al. 2019, arXiv 1812.07119, equations 1 to 3).

    w_g * sigmoid(gate([r; t])) * r + w_r * residual([r; t]); both inner maps begin with batch norm,
    w_g starts at 1 and w_r at 10 as in the authors' code. The dropout is ours, for equal means
    against overfitting.
    """

    def __init__(self, config: HeadConfig, noise: Noise) -> None:
        super().__init__()
        width, both = config.width, 2 * config.width
        self.gate = nn.Sequential(BatchNorm(both), nn.ReLU(), nn.Linear(both, width))
        self.residual = nn.Sequential(
            BatchNorm(both),
            nn.ReLU(),
            nn.Linear(both, both),
            nn.ReLU(),
            Dropout(config.dropout, noise),
            nn.Linear(both, width),
        )
        self.weights = nn.Parameter(torch.tensor([1.0, 10.0]))

    def forward(self, reference: Tensor, text: Tensor) -> Tensor:
        """Two (B, d) to one (B, d)."""
        both = torch.cat([reference, text], dim=-1)
        kept = self.gate(both).sigmoid() * reference
        added = torch.as_tensor(self.residual(both))
        return torch.as_tensor(self.weights[0] * kept + self.weights[1] * added)


class Combiner(nn.Module):
    """CLIP4Cir's Combiner (Baldrati et al. 2022, CVPR workshops).

    Two projections, their concatenation mapped to an output, to which a convex sum of text and
    image is added whose one weight per row is learned from the same concatenation. As published the
    projections are 4 d wide and the rest 8 d at d = 640; here both follow from `hidden`. It was
    made for raw features, whose entries are about 1, so unit vectors are first widened to that.
    """

    def __init__(self, config: HeadConfig, noise: Noise) -> None:
        super().__init__()
        width, hidden = config.width, config.hidden

        def layer(inputs: int, outputs: int) -> nn.Sequential:
            dropout = Dropout(config.dropout, noise)
            return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), dropout)

        self.scale = math.sqrt(width)
        self.project_text = layer(width, hidden)
        self.project_image = layer(width, hidden)
        self.combine = layer(2 * hidden, 2 * hidden)
        self.output = nn.Linear(2 * hidden, width)
        self.share = nn.Sequential(
            layer(2 * hidden, 2 * hidden), nn.Linear(2 * hidden, 1), nn.Sigmoid()
        )

    def forward(self, reference: Tensor, text: Tensor) -> Tensor:
        """Two (B, d) to one (B, d)."""
        reference, text = reference * self.scale, text * self.scale
        both = torch.cat([self.project_text(text), self.project_image(reference)], dim=-1)
        mixed = torch.lerp(reference, text, self.share(both))
        return mixed + torch.as_tensor(self.output(self.combine(both)))


def image_only(config: HeadConfig, noise: Noise) -> nn.Module:
    """The reference alone."""
    return OneSide(text=False)


def text_only(config: HeadConfig, noise: Noise) -> nn.Module:
    """The caption alone."""
    return OneSide(text=True)


def plain_sum(config: HeadConfig, noise: Noise) -> nn.Module:
    """The sum of both."""
    return FixedSum(0.5)


def weighted_sum(config: HeadConfig, noise: Noise) -> nn.Module:
    """The sum with the holdout's weight, which is final where nothing else is trained."""
    weight = config.text_weight
    return FixedSum(weight) if config.shared_space else LearnedSum(weight)
