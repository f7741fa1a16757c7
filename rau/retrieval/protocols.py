"""Protocols as data: a gallery, what becomes of the reference, and how captions are joined."""

from dataclasses import dataclass, replace
from typing import Literal, Self

from rau.datasets.captions import Join
from rau.errors import UserError
from rau.params import EvaluateParams

Gallery = Literal["original", "val-union"]
Reference = Literal["kept", "removed"]
Metric = Literal["mean_of_r10_r50", "mean_of_r5_rs1", "map_at_5"]


@dataclass(frozen=True)
class Protocol:
    """One way to evaluate; `name` is shown with every number, `metric` is the headline.

    `concept` puts what reference and target have in common before the caption (CIRCO);
    `distractors` puts the images of `evaluate.distractors` into the gallery besides.
    """

    name: str
    gallery: Gallery
    reference: Reference
    join: Join
    metric: Metric = "mean_of_r10_r50"
    concept: bool = False
    distractors: bool = False

    @property
    def choices(self) -> str:
        """The choices in words."""
        words = f"{self.gallery} / {self.reference} / {self.join}"
        words += " / concept and caption" if self.concept else ""
        return words + " / distractors" if self.distractors else words

    def with_distractors(self) -> Self:
        """The same in a larger gallery."""
        return replace(self, name=f"{self.name}-distractors", distractors=True)


FASHIONIQ = (
    Protocol("original", "original", "kept", "forward"),
    Protocol("val", "val-union", "removed", "separate"),
)
CIRR = (Protocol("cirr", "original", "removed", "forward", "mean_of_r5_rs1"),)
# A search does not answer with what it was asked about.
CATALOGUE = (Protocol("catalogue", "original", "removed", "forward"),)
# CIRCO's own evaluation ranks the reference like any other image.
CIRCO = (
    Protocol("circo", "original", "kept", "forward", "map_at_5"),
    Protocol("circo-concept", "original", "kept", "forward", "map_at_5", concept=True),
)
PRESETS = {"cirr": CIRR, "circo": CIRCO, "catalogue": CATALOGUE}


def weight_key(reference: Reference, join: Join) -> str:
    """Name of the choices of a protocol that a weight depends on."""
    return f"{reference}-{join}"


def presets(dataset: str) -> tuple[Protocol, ...]:
    """The protocols that a data set is published under, the usual one first."""
    return PRESETS.get(dataset, FASHIONIQ)


def named(name: str) -> Protocol:
    """The published protocol of this name.

    Raises:
        UserError: listing the names that there are.
    """
    known = {one.name: one for own in (FASHIONIQ, *PRESETS.values()) for one in own}
    if name not in known:
        raise UserError(f"no protocol is called {name!r}; choose from {', '.join(known)}")
    return known[name]


def custom(dataset: str, gallery: Gallery, reference: Reference, join: Join) -> Protocol:
    """The protocol of three choices: a preset where there is one, else named by its choices.

    Raises:
        UserError: when the data set has no such gallery.
    """
    known = presets(dataset)
    if gallery not in {preset.gallery for preset in known}:
        raise UserError(f"evaluate.custom.gallery={gallery}: {dataset} has only the original one")
    for preset in known:
        if (preset.gallery, preset.reference, preset.join) == (gallery, reference, join):
            return preset
    name = f"{gallery}-{reference}-{join}"
    return Protocol(name, gallery, reference, join, known[0].metric)


def select(dataset: str, evaluate: EvaluateParams) -> list[Protocol]:
    """The presets and the custom protocol; the headline's comes first.

    Raises:
        UserError: when the headline is none of them.
    """
    chosen = list(presets(dataset))
    if evaluate.custom is not None:
        choices = evaluate.custom
        own = custom(dataset, choices.gallery, choices.reference, choices.join)
        chosen += [own] if own not in chosen else []
    names = [protocol.name for protocol in chosen]
    if evaluate.headline is not None and evaluate.headline not in names:
        raise UserError(f"evaluate.headline={evaluate.headline}: choose from {', '.join(names)}")
    return sorted(chosen, key=lambda protocol: protocol.name != evaluate.headline)
