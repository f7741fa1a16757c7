"""What a garment is: attributes, the orders among them, and how garments vary."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
CATEGORIES = ("dress", "shirt", "toptee")


@dataclass(frozen=True)
class Paint:
    """A named colour with its coarse brightness (0 dark to 3 light) and chroma (0 to 2)."""

    rgb: tuple[int, int, int]
    brightness: int
    chroma: int


PAINTS: Mapping[str, Paint] = {
    "white": Paint((242, 242, 238), 3, 0),
    "grey": Paint((142, 143, 148), 2, 0),
    "black": Paint((32, 32, 36), 0, 0),
    "beige": Paint((214, 190, 150), 3, 1),
    "brown": Paint((108, 68, 40), 0, 1),
    "navy": Paint((26, 36, 92), 0, 1),
    "pink": Paint((242, 150, 184), 3, 1),
    "purple": Paint((122, 62, 156), 1, 1),
    "green": Paint((44, 138, 70), 1, 1),
    "red": Paint((204, 32, 40), 1, 2),
    "orange": Paint((240, 126, 36), 2, 2),
    "yellow": Paint((246, 212, 58), 3, 2),
    "blue": Paint((40, 96, 208), 1, 2),
}
# Attributes of a garment besides its category; values that have an order are listed in it.
VALUES: Mapping[str, tuple[str, ...]] = {
    "colour": tuple(PAINTS),
    "accent": ("white", "black", "red", "yellow", "blue", "pink", "green"),
    "pattern": ("plain", "stripes", "pinstripes", "dots", "checks", "floral", "graphic"),
    "sleeve": ("none", "short", "elbow", "long"),
    "neckline": ("round", "v", "square", "collar", "high", "boat"),
    "length": ("short", "medium", "long", "longest"),
    "fit": ("tight", "regular", "loose"),
    "detail": ("none", "belt", "buttons", "pocket", "bow", "ruffles"),
}
ATTRIBUTES = tuple(VALUES)
PLAIN_SHARE = 0.35
MIN_CONTRAST = 110.0


@dataclass(frozen=True)
class Garment:
    """One garment; `accent` colours its pattern, trim and details."""

    category: str
    colour: str
    accent: str
    pattern: str
    sleeve: str
    neckline: str
    length: str
    fit: str
    detail: str

    def value(self, attribute: str) -> str:
        """Value of one of `ATTRIBUTES`."""
        return str(getattr(self, attribute))


@dataclass(frozen=True)
class Order:
    """A comparable property: the attributes it reads, its rank (0 to `top`) for a garment."""

    attributes: tuple[str, ...]
    rank: Callable[[Garment], int]
    top: int


def _colourfulness(garment: Garment) -> int:
    shown = PAINTS[garment.accent].chroma if garment.pattern != "plain" else 0
    return PAINTS[garment.colour].chroma + shown


ORDERS: Mapping[str, Order] = {
    "sleeve": Order(("sleeve",), lambda g: VALUES["sleeve"].index(g.sleeve), 3),
    "length": Order(("length",), lambda g: VALUES["length"].index(g.length), 3),
    "fit": Order(("fit",), lambda g: VALUES["fit"].index(g.fit), 2),
    "brightness": Order(("colour",), lambda g: PAINTS[g.colour].brightness, 3),
    "colourfulness": Order(("colour", "accent", "pattern"), _colourfulness, 4),
    "ornament": Order(
        ("pattern", "detail"), lambda g: (g.pattern != "plain") + (g.detail != "none"), 2
    ),
}


def is_valid(garment: Garment) -> bool:
    """Whether the accent contrasts with the cloth."""
    cloth, accent = (np.array(PAINTS[name].rgb) for name in (garment.colour, garment.accent))
    return float(np.linalg.norm(cloth - accent)) >= MIN_CONTRAST


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of `options`, uniformly at random."""
    return options[int(rng.integers(len(options)))]


def sample(category: str, rng: np.random.Generator) -> Garment:
    """A garment at random; plain cloth and no detail are more likely than any other value."""
    values = {name: pick(rng, options) for name, options in VALUES.items()}
    for name in ("pattern", "detail"):
        if rng.random() < PLAIN_SHARE:
            values[name] = VALUES[name][0]
    garment = Garment(category=category, **values)
    while not is_valid(garment):
        garment = replace(garment, accent=pick(rng, VALUES["accent"]))
    return garment


def mutate(
    garment: Garment,
    changes: int,
    rng: np.random.Generator,
    options: Mapping[str, Sequence[str]] = VALUES,
) -> Garment:
    """`garment` with up to `changes` attributes set anew, at least one where `options` allow it.

    Args:
        garment: what to start from.
        changes: how many attributes to change.
        rng: source of the choice.
        options: the attributes that may change and the values they may take.
    """
    changed = 0
    for name in rng.permutation(list(options)):
        others = [
            variant
            for value in options[str(name)]
            if value != garment.value(name)
            and is_valid(variant := replace(garment, **{name: value}))
        ]
        if others:
            garment, changed = pick(rng, others), changed + 1
        if changed == changes:
            break
    return garment


def codes(garments: Sequence[Garment]) -> NDArray[np.uint8]:
    """Attribute values as indices into `VALUES`, shape (N, len(ATTRIBUTES))."""
    index = {name: {v: i for i, v in enumerate(options)} for name, options in VALUES.items()}
    rows = [[index[name][g.value(name)] for name in ATTRIBUTES] for g in garments]
    return np.array(rows, dtype=np.uint8).reshape(len(garments), len(ATTRIBUTES))


def ranks(garments: Sequence[Garment]) -> NDArray[np.int8]:
    """Ranks under every order, shape (N, len(ORDERS))."""
    rows = [[order.rank(g) for order in ORDERS.values()] for g in garments]
    return np.array(rows, dtype=np.int8).reshape(len(garments), len(ORDERS))
