"""What every method's loss is: a module, perhaps with parameters, that one loop trains by."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from rau.losses.info_nce import same_target
from rau.nn.gaussian import PathOutput
from rau.nn.noise import Noise
from rau.params import UaParams


@dataclass(frozen=True, eq=False)
class LossContext:
    """What a loss needs in addition to the outputs of both paths.

    Attributes:
        target_ids: (B,) integers, equal where the target image is the same.
        ua: canonical, so that terms which a method does not have are off.
        temperature: divides the cosines, a scalar.
        two_way: both directions of InfoNCE.
        progress: of the training, from 0 to 1.
        noise: where random numbers come from.
    """

    target_ids: Tensor
    ua: UaParams
    temperature: Tensor
    two_way: bool
    progress: float
    noise: Noise


@dataclass(frozen=True, eq=False)
class Terms:
    """The loss and its parts, scalars; parts are unweighted, and 0 where their weight is 0.

    Attributes:
        total: base + csu_weight * csu + dr_weight * dr; the one to differentiate.
        base: Base, which is ISU on samples; all of the loss where a method has no parts.
        csu: cross-sample uncertainty.
        dr: distribution regularisation.
        positives: (B, B) of 1 and 0, CSU's positives; Base's where CSU is off.
        base_positives: (B, B) of 1 and 0, rows of the same target.
    """

    total: Tensor
    base: Tensor
    csu: Tensor
    dr: Tensor
    positives: Tensor
    base_positives: Tensor

    @classmethod
    def of_one(cls, loss: Tensor, target_ids: Tensor) -> Self:
        """Of a loss without parts, a scalar."""
        zero, positives = loss.new_zeros(()), same_target(target_ids)
        return cls(loss, loss, zero, zero, positives, positives)


class Criterion(nn.Module):
    """The loss of a method, and the vectors by whose cosine it ranks."""

    def __init__(self, temperature: float) -> None:
        """Args: the temperature that the head starts from."""
        super().__init__()

    def forward(self, source: PathOutput, target: PathOutput, context: LossContext) -> Terms:
        """The loss of B queries and their B targets."""
        raise NotImplementedError

    def query_vectors(self, output: PathOutput) -> Tensor:
        """Unit vectors of queries, (B, d)."""
        return output.mean

    def gallery_vectors(self, output: PathOutput) -> Tensor:
        """Unit vectors of images, as wide as those of queries."""
        return output.mean
