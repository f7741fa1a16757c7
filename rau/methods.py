"""The registry of methods: what each name stands for, and which parameters it reads.

Adding a method takes one module and one entry here (docs/extending.md). Fusions and losses are
named as `module:function` and imported when a head is made, so that parameters are checked without
importing torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rau.params import UaParams


@dataclass(frozen=True)
class Method:
    """A way to compose queries: a fusion, a loss, and the parts of the head that it uses.

    All methods read the same features and are trained and ranked by the same code.

    Attributes:
        label: its name in tables.
        fusion: makes the `nn.Module` that fuses reference and caption, from a `HeadConfig` and the
            head's `Noise`.
        loss: makes the `Criterion` that it is trained with, from a temperature.
        blocks: has `ua.n` UA blocks on both paths.
        regularised: its loss has RAU's terms ISU, CSU and DR.
        reads_variance: its distance depends on the variance, whether it is sampled or not.
        plain: the method that it equals with ISU, CSU and DR switched off.
        fixed: has nothing to train in a shared space, where no projection is needed.
        raw: fuses features without normalising them first.
        chosen: has a weight that is chosen on the holdout.
        reads_text: uses the caption; it does not affect weights, so it is not part of a digest.
        space: values that tuning may try in addition to the common ones, by parameter.
    """

    label: str
    fusion: str = "rau.models.fusion:GatedResidual"
    loss: str = "rau.losses.rau_loss:RauLoss"
    blocks: bool = False
    regularised: bool = False
    reads_variance: bool = False
    plain: str | None = None
    fixed: bool = False
    raw: bool = False
    chosen: bool = field(default=False, repr=False)
    reads_text: bool = field(default=True, repr=False)
    space: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def trains_variance(self, n: int, isu: bool) -> bool:
        """Whether the last of n blocks learns a variance: sampled, or part of the distance."""
        return n > 0 and (isu or self.reads_variance)

    def theta_and_n(self, ua: "UaParams") -> dict[str, float]:
        """θ, or the quantile in its place, and n, if the method reads them."""
        threshold = "theta" if ua.theta_quantile is None else "theta_quantile"
        found = {threshold: getattr(ua, threshold)} if self.regularised else {}
        return found | ({"n": ua.n} if self.blocks else {})

    def load_fusion(self) -> Any:
        """The function that `fusion` names."""
        return resolve_name(self.fusion)

    def load_loss(self) -> Any:
        """The function that `loss` names."""
        return resolve_name(self.loss)


SIGMAS = (0.05, 0.1, 0.3, 0.6)
DETERMINISTIC = "deterministic"
# The composer of CLIP4Cir's first stage.
RAW_SUM = "raw_sum"
# What every head starts as.
WEIGHTED_SUM = "weighted_sum"
METHODS: dict[str, Method] = {
    "image_only": Method(
        "image only", "rau.models.fusion:image_only", fixed=True, reads_text=False
    ),
    "text_only": Method("text only", "rau.models.fusion:text_only", fixed=True),
    "sum": Method("sum", "rau.models.fusion:plain_sum", fixed=True),
    RAW_SUM: Method("raw sum", "rau.models.fusion:plain_sum", fixed=True, raw=True),
    WEIGHTED_SUM: Method("weighted sum", "rau.models.fusion:weighted_sum", fixed=True, chosen=True),
    "tirg": Method("TIRG gated residual", "rau.models.fusion:Tirg"),
    "combiner": Method("CLIP4Cir Combiner", "rau.models.fusion:Combiner"),
    DETERMINISTIC: Method("deterministic head", blocks=True),
    "mur": Method("MUR augmenter", loss="rau.losses.mur:MurLoss", blocks=True),
    "pcmepp": Method(
        "PCME++ head",
        loss="rau.losses.pcmepp:PcmeppLoss",
        blocks=True,
        reads_variance=True,
        space={"ua.sigma_init": SIGMAS},
    ),
    "rau": Method(
        "RAU head",
        blocks=True,
        regularised=True,
        plain=DETERMINISTIC,
        space={
            "ua.isu": (True,),
            "ua.sigma_init": SIGMAS,
            "ua.csu_weight": (0.0, 0.1, 0.3, 1.0),
            "ua.theta_quantile": (0.98, 0.99, 0.995, 0.998),
            "ua.dr_weight": (0.0, 0.02, 0.05, 0.2),
        },
    ),
}


def known(name: str) -> str:
    """The name, if the registry contains it.

    Raises:
        ValueError: otherwise, listing the names in the registry.
    """
    if name not in METHODS:
        raise ValueError(f"choose from {', '.join(METHODS)}")
    return name
