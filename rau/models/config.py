"""What a head is made from: its configuration, taken from parameters in their canonical form."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from rau.methods import DETERMINISTIC, METHODS
from rau.params import (
    Fraction,
    HeadName,
    HeadParams,
    Params,
    Positive,
    Section,
    TrainParams,
    UaParams,
    Width,
)

# Of a null `head.input_dropout`, by whether the space is shared: projections overfit without it.
INPUT_DROPOUT = {True: 0.0, False: 0.2}


class HeadConfig(Section):
    """Everything needed to rebuild a head except its weights; serialisable as JSON.

    `shared_space` says that image and text features are comparable as they are (CLIP): there is
    then no projection and `dim` is ignored. `text_weight` is the caption's share in the weighted
    sum that the fusion starts from.
    """

    name: HeadName
    d_image: Width
    d_text: Width
    shared_space: bool
    dim: Width
    hidden: Width
    dropout: Fraction
    input_dropout: Fraction
    n: Annotated[int, Field(ge=0, le=16)]
    isu: bool
    samples: Annotated[int, Field(ge=1, le=64)]
    shared: bool
    sigma_init: Positive
    text_weight: Annotated[float, Field(ge=0, le=1)]
    temperature: Positive
    learn_temperature: bool

    @model_validator(mode="after")
    def _one_space_has_one_width(self) -> Self:
        if self.shared_space and self.d_image != self.d_text:
            raise ValueError(
                f"a shared space needs d_image = d_text, not {self.d_image} and {self.d_text}"
            )
        return self

    @property
    def uncertain(self) -> bool:
        """Whether the last block's variance is trained and means something."""
        return METHODS[self.name].trains_variance(self.n, self.isu)

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
        """Take over what `params.yaml` says; `canonical` before drops what has no effect.

        Raises:
            pydantic.ValidationError: when a shared space has features of two widths.
        """
        own = head.input_dropout
        return cls(
            d_image=d_image,
            d_text=d_text,
            shared_space=shared_space,
            text_weight=text_weight,
            input_dropout=INPUT_DROPOUT[shared_space] if own is None else own,
            **head.model_dump(include={"name", "dim", "hidden", "dropout"}),
            **ua.model_dump(include={"n", "isu", "samples", "shared", "sigma_init"}),
            **train.model_dump(include={"temperature", "learn_temperature"}),
        )


def canonical(params: Params) -> Params:
    """Reset parameters that have no effect on training to their defaults.

    Two configurations that become equal train the same head; of those that do, a few still differ.
    RAU with every part switched off is the deterministic head.
    """
    defaults = UaParams()
    name, ua = params.head.name, params.ua
    method = METHODS[name]
    change: dict[str, object] = {}
    n = ua.n if method.blocks else 0
    isu = method.regularised and ua.isu and n > 0
    csu_weight, dr_weight = (ua.csu_weight, ua.dr_weight) if method.regularised else (0.0, 0.0)
    if method.plain is not None and not isu and csu_weight == dr_weight == 0:
        name = method.plain
    change |= {"n": n, "isu": isu, "csu_weight": csu_weight, "dr_weight": dr_weight}
    if csu_weight == 0:
        change |= {"theta": defaults.theta, "theta_quantile": None}
    elif ua.theta_quantile is not None:
        change["theta"] = defaults.theta
    if dr_weight == 0 or n <= 1:
        change["dr_blocks"] = defaults.dr_blocks
    if dr_weight == 0 or n == 0:  # Without a Gaussian the means are all there is.
        change["dr"] = defaults.dr
    if not isu:
        change["samples"] = defaults.samples
    if n == 0 or (dr_weight == 0 and not method.trains_variance(n, isu)):
        change["sigma_init"] = defaults.sigma_init
    if n == 0:
        change["shared"] = defaults.shared
    head = params.head.model_copy(update={"name": name})
    train = params.train
    if train.patience >= train.epochs - 1:  # The first epoch improves on none.
        train = train.model_copy(update={"patience": 0})
    ua = ua.model_copy(update=change)
    return params.model_copy(update={"head": head, "ua": ua, "train": train})


def is_uncertain(params: Params) -> bool:
    """Whether the head learns a variance that something reads."""
    own = canonical(params)
    return METHODS[own.head.name].trains_variance(own.ua.n, own.ua.isu)


def without_uncertainty(params: Params) -> Params:
    """The deterministic head of the same architecture, canonical."""
    head = params.head.model_copy(update={"name": DETERMINISTIC})
    return canonical(params.model_copy(update={"head": head}))
