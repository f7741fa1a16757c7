"""Captions: relative ones that state or hint at the changes, and standalone ones."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rau.datasets.garments.attributes import ATTRIBUTES, ORDERS, Garment, pick

VAGUE_SHARE = 0.45
DOUBLE_SHARE = 0.2
DESCRIBE_SHARE = 0.65
# Phrases for an attribute's value, "{}" being the value itself. All are predicates, so that any
# opening may precede them.
VALUE_PHRASES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "colour": {"": ("is {}", "is {} in color", "is colored {}", "is more {}", "comes in {}")},
    "accent": {"": ("has {} trim", "has {} accents", "is trimmed in {}", "has {} details")},
    "pattern": {
        "plain": ("is plain", "is solid colored", "has no pattern"),
        "stripes": ("is striped", "has horizontal stripes", "has wide stripes across"),
        "pinstripes": ("has pinstripes", "has thin vertical stripes", "is pinstriped"),
        "dots": ("has polka dots", "is dotted", "has a dot print"),
        "checks": ("is checked", "is plaid", "has a plaid pattern"),
        "floral": ("has a floral print", "has flowers on it", "is floral"),
        "graphic": ("has a graphic on the front", "has a logo", "has a star on the chest"),
    },
    "sleeve": {
        "none": ("is sleeveless", "has no sleeves", "is without sleeves"),
        "short": ("has short sleeves", "is short sleeved", "has cap sleeves"),
        "elbow": ("has elbow length sleeves", "has half sleeves", "has mid length sleeves"),
        "long": ("has long sleeves", "is long sleeved", "has full sleeves"),
    },
    "neckline": {
        "round": ("has a round neck", "has a crew neck", "has a scoop neck"),
        "v": ("has a v neck", "has a deep v neckline", "is v necked"),
        "square": ("has a square neck", "has a square neckline"),
        "collar": ("has a collar", "is collared", "has a folded collar"),
        "high": ("has a high neck", "has a turtleneck", "has a mock neck"),
        "boat": ("has a boat neck", "has a wide neckline", "shows the shoulders"),
    },
    "length": {
        "short": ("is short", "is very short", "is cropped"),
        "medium": ("is of medium length", "has a regular length"),
        "long": ("is long", "hangs low"),
        "longest": ("is very long", "is full length"),
    },
    "fit": {
        "tight": ("is tight", "is fitted", "is form fitting"),
        "regular": ("has a regular fit", "is neither tight nor loose"),
        "loose": ("is loose", "is baggy", "is flowy"),
    },
    "detail": {
        "none": ("has no extra details", "has nothing on it"),
        "belt": ("has a belt", "is belted", "has a belt at the waist"),
        "buttons": ("has buttons", "buttons up", "has buttons down the front"),
        "pocket": ("has a pocket", "has a chest pocket"),
        "bow": ("has a bow", "has a bow at the neck", "is tied with a bow"),
        "ruffles": ("has ruffles", "has a ruffled hem", "is ruffled at the bottom"),
    },
}
# Comparisons with the reference: downwards and upwards.
ORDER_PHRASES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sleeve": (
        ("has shorter sleeves", "shows more arm", "has less sleeve"),
        ("has longer sleeves", "covers more of the arms", "has more sleeve"),
    ),
    "length": (
        ("is shorter", "is a bit shorter", "is shorter in length"),
        ("is longer", "is a bit longer", "is longer in length"),
    ),
    "fit": (
        ("is tighter", "is more fitted", "is less baggy"),
        ("is looser", "is more flowing", "has a looser fit"),
    ),
    "brightness": (
        ("is darker", "is a darker shade", "is darker in color"),
        ("is lighter", "is a lighter shade", "is lighter in color"),
    ),
    "colourfulness": (
        ("is less colorful", "is more muted", "has a duller look"),
        ("is more colorful", "is brighter and more vivid", "has more color"),
    ),
    "ornament": (
        ("is simpler", "is plainer", "has less going on"),
        ("is fancier", "is more decorated", "has more going on"),
    ),
}
OPENINGS = ("", "", "", "", "it ", "this one ", "the new one ")
LINKS = (" and ", ", ", " but ", " and also ")


@dataclass(frozen=True)
class Constraint:
    """What a caption demands: an attribute's value, or a rank below or above the reference's.

    Exactly one of `value` (of attribute `name`) and `sign` (-1 or 1, of order `name`) is set.
    """

    name: str
    value: str | None = None
    sign: int = 0

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that it mentions."""
        return (self.name,) if self.value is not None else ORDERS[self.name].attributes


@dataclass(frozen=True)
class Caption:
    """A caption and what it demands."""

    text: str
    constraints: tuple[Constraint, ...]


def changes(reference: Garment, target: Garment) -> list[str]:
    """Attributes on which the two differ."""
    return [name for name in ATTRIBUTES if reference.value(name) != target.value(name)]


def value_phrases(name: str, value: str) -> tuple[str, ...]:
    """All ways to say an attribute's value."""
    phrases = VALUE_PHRASES[name]
    return phrases[value] if value in phrases else tuple(p.format(value) for p in phrases[""])


def _say(
    name: str, reference: Garment, target: Garment, rng: np.random.Generator
) -> tuple[str, Constraint]:
    """A phrase for one change: the new value, or only a comparison with the reference's."""
    orders = [
        (order, sign)
        for order, spec in ORDERS.items()
        if name in spec.attributes
        and (sign := int(np.sign(spec.rank(target) - spec.rank(reference))))
    ]
    if orders and rng.random() < VAGUE_SHARE:
        order, sign = pick(rng, orders)
        return pick(rng, ORDER_PHRASES[order][sign > 0]), Constraint(order, sign=sign)
    value = target.value(name)
    return pick(rng, value_phrases(name, value)), Constraint(name, value)


def _untidy(text: str, rng: np.random.Generator) -> str:
    """Capitals, full stops, trailing spaces and, rarely, two letters swapped, as people write."""
    chance = rng.random(4)
    if chance[0] < 0.15:
        text = text.capitalize()
    if chance[1] < 0.2:
        text += "."
    if chance[2] < 0.05:
        text += " "
    if chance[3] < 0.02:
        at = int(rng.integers(len(text) - 1))
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text


def relative(reference: Garment, target: Garment, rng: np.random.Generator) -> list[Caption]:
    """Two captions that ask for `target` given `reference`.

    Each names one change, sometimes two; both may name the same, and some are not mentioned.

    Raises:
        ValueError: when the two do not differ.
    """
    different = changes(reference, target)
    if not different:
        raise ValueError("nothing to say: reference and target have the same attributes")
    captions = []
    for _ in range(2):
        count = 2 if len(different) > 1 and rng.random() < DOUBLE_SHARE else 1
        names = rng.choice(different, size=count, replace=False)
        said = [_say(str(name), reference, target, rng) for name in names]
        phrases, constraints = zip(*said, strict=True)
        text = pick(rng, OPENINGS) + pick(rng, LINKS).join(phrases)
        captions.append(Caption(_untidy(text, rng), constraints))
    return captions


def describe(garment: Garment, rng: np.random.Generator) -> str:
    """A standalone caption, for training an encoder: it describes and does not compare."""
    order = [str(name) for name in rng.permutation(list(ATTRIBUTES))]
    names = [name for name in order if rng.random() < DESCRIBE_SHARE] or ["colour"]
    phrases = [pick(rng, value_phrases(name, garment.value(name))) for name in names]
    noun = "top" if garment.category == "toptee" else garment.category
    return f"{noun} " + " and ".join(phrases[i] for i in rng.permutation(len(phrases)))
