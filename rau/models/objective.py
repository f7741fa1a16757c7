"""The training loss of each method."""

from torch import Tensor

from rau.losses import mur
from rau.losses.info_nce import same_target
from rau.losses.rau_loss import Terms, total_loss
from rau.models.head import ComposedHead
from rau.nn.gaussian import PathOutput
from rau.params import UaParams


def loss_terms(
    head: ComposedHead,
    source: PathOutput,
    target: PathOutput,
    target_ids: Tensor,
    ua: UaParams,
    two_way: bool,
    progress: float,
) -> Terms:
    """The loss of a batch, by the head's method.

    RAU is `total_loss`; what is left of it with ISU, CSU and DR off trains all the others but MUR
    and PCME++, whose losses stand as `base`.

    Args:
        head: which made both outputs.
        source, target: of B queries and their B targets.
        target_ids: (B,) integers, equal where the target image is the same.
        ua: canonical, so that terms which a method does not have are off.
        two_way: both directions of InfoNCE.
        progress: of the training, from 0 to 1.
    """
    if head.matching is not None:
        base = head.matching.loss(source, target, same_target(target_ids))
    elif head.config.name == "mur":
        base = mur.loss(
            source.mean,
            target.mean,
            target_ids,
            head.temperature,
            two_way,
            progress,
            head.noise,
        )
    else:
        return total_loss(
            source,
            target,
            target_ids,
            ua,
            head.temperature,
            two_way,
        )
    zero, positives = base.new_zeros(()), same_target(target_ids)
    return Terms(base, base, zero, zero, positives, positives)
