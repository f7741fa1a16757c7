"""Protocols as data: a gallery, what becomes of the reference, and how captions are joined."""

from dataclasses import dataclass
from typing import Literal

from rau.errors import UserError
from rau.joins import Join
from rau.params import EvaluateParams

Gallery = Literal["original", "val-union"]
Reference = Literal["kept", "removed"]


@dataclass(frozen=True)
class Protocol:
    """One way to measure; `name` stands beside every number measured so."""

    name: str
    gallery: Gallery
    reference: Reference
    join: Join

    @property
    def choices(self) -> str:
        """The three choices in words."""
        return f"{self.gallery} / {self.reference} / {self.join}"


PRESETS = (
    Protocol("original", "original", "kept", "forward"),
    Protocol("val", "val-union", "removed", "separate"),
)


def custom(gallery: Gallery, reference: Reference, join: Join) -> Protocol:
    """The protocol of three choices: a preset where there is one, else named by its choices."""
    for preset in PRESETS:
        if (preset.gallery, preset.reference, preset.join) == (gallery, reference, join):
            return preset
    return Protocol(f"{gallery}-{reference}-{join}", gallery, reference, join)


def select(evaluate: EvaluateParams) -> list[Protocol]:
    """The presets and the custom protocol.

    Raises:
        UserError: when the headline is none of them.
    """
    chosen = list(PRESETS)
    if evaluate.custom is not None:
        choices = evaluate.custom
        own = custom(choices.gallery, choices.reference, choices.join)
        chosen += [own] if own not in chosen else []
    names = [protocol.name for protocol in chosen]
    if evaluate.headline not in names:
        raise UserError(f"evaluate.headline={evaluate.headline}: choose from {', '.join(names)}")
    return chosen
