"""The methods that can be compared: which parts of the head each name has.

All read the same features, are trained by the same loop and ranked by the same code.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rau.params import HeadName, Params, UaParams


@dataclass(frozen=True)
class Method:
    """What a name stands for.

    Attributes:
        label: as tables print it.
        blocks: has UA blocks on both paths, `ua.n` of them.
        uncertain: learns a variance.
    """

    label: str
    blocks: bool = False
    uncertain: bool = False


METHODS: Mapping[HeadName, Method] = {
    "image_only": Method("image only"),
    "text_only": Method("text only"),
    "sum": Method("sum"),
    "weighted_sum": Method("weighted sum"),
    "tirg": Method("TIRG gated residual"),
    "combiner": Method("CLIP4Cir Combiner"),
    "deterministic": Method("deterministic head", blocks=True),
    "mur": Method("MUR augmenter", blocks=True),
    "pcmepp": Method("PCME++ head", blocks=True, uncertain=True),
    "rau": Method("RAU head", blocks=True, uncertain=True),
}


def canonical(params: Params) -> Params:
    """The same run in the fewest words: what has no effect on training is at its default.

    Two configurations that train the same head become equal. RAU with every part switched off is
    the deterministic head.
    """
    defaults = UaParams()
    name, ua = params.head.name, params.ua
    method = METHODS[name]
    change: dict[str, object] = {}
    n = ua.n if method.blocks else 0
    isu = name == "rau" and ua.isu and n > 0
    csu_weight, dr_weight = (ua.csu_weight, ua.dr_weight) if name == "rau" else (0.0, 0.0)
    if name == "rau" and not isu and csu_weight == dr_weight == 0:
        name = "deterministic"
    change |= {"n": n, "isu": isu, "csu_weight": csu_weight, "dr_weight": dr_weight}
    if csu_weight == 0:
        change |= {"theta": defaults.theta, "theta_quantile": None}
    elif ua.theta_quantile is not None:
        change["theta"] = defaults.theta
    if dr_weight == 0 or n <= 1:
        change["dr_blocks"] = defaults.dr_blocks
    if not isu:
        change["samples"] = defaults.samples
    if n == 0 or (not isu and dr_weight == 0 and name != "pcmepp"):
        change["sigma_init"] = defaults.sigma_init
    if n == 0:
        change["shared"] = defaults.shared
    head = params.head.model_copy(update={"name": name})
    return params.model_copy(update={"head": head, "ua": ua.model_copy(update=change)})


def is_uncertain(params: Params) -> bool:
    """Whether the head learns a variance that something reads."""
    own = canonical(params)
    return own.ua.n > 0 and (own.ua.isu or own.head.name == "pcmepp")


def without_uncertainty(params: Params) -> Params:
    """The deterministic head of the same architecture, canonical."""
    head = params.head.model_copy(update={"name": "deterministic"})
    return canonical(params.model_copy(update={"head": head}))
