"""Captions of a query joined into the texts that are encoded."""

from collections.abc import Sequence
from typing import Literal

Join = Literal["forward", "both", "separate"]


def clean(caption: str) -> str:
    """A caption without the punctuation and blanks around it."""
    return caption.strip(".?, ")


def in_order(captions: Sequence[str]) -> str:
    """Captions joined in the order given: the first capitalised, an empty side kept."""
    first, *rest = (clean(caption) for caption in captions)
    return " and ".join([first.capitalize(), *rest])


def query_texts(captions: Sequence[str], join: Join) -> list[str]:
    """The texts of one query: one for `forward`, the two orders for `both` and `separate`.

    A query with one caption (CIRR's) has that caption, untouched but for blanks around it, for
    every order.
    """
    if len(captions) == 1:
        orders = [captions[0].strip()] * 2
    else:
        orders = [in_order(captions), in_order(list(captions)[::-1])]
    return orders[:1] if join == "forward" else orders


def training_texts(captions: Sequence[str]) -> list[str]:
    """The texts that training draws from: both orders and each caption that is not empty."""
    if len(captions) == 1:
        return query_texts(captions, "forward")
    both = query_texts(captions, "both")
    singles = [in_order([caption]) for caption in captions if clean(caption)]
    return both + singles


def all_texts(captions: Sequence[str]) -> list[str]:
    """Every distinct text that a protocol or the training may ask for."""
    return list(dict.fromkeys(query_texts(captions, "both") + training_texts(captions)))
