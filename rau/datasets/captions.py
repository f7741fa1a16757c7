"""Captions of a query joined into the texts that are encoded."""

from collections.abc import Iterable, Sequence
from typing import Literal

Join = Literal["forward", "both", "separate"]


def clean(caption: str) -> str:
    """A caption without the punctuation and blanks around it."""
    return caption.strip(".?, ")


def in_order(captions: Sequence[str]) -> str:
    """Captions joined in the order given: the first capitalised, an empty side kept."""
    first, *rest = (clean(caption) for caption in captions)
    return " and ".join([first.capitalize(), *rest])


def single_text(caption: str, joins: bool) -> str:
    """One caption by itself, the same in training, evaluation and search.

    Args:
        joins: whether the data set's queries have several captions, as FashionIQ's; where they have
            one, as CIRR's, it is kept as written, without surrounding blanks.
    """
    return in_order([caption]) if joins else caption.strip()


def joins_captions(captions: Iterable[Sequence[str]]) -> bool:
    """Whether any of a data set's queries has several captions."""
    return any(len(own) > 1 for own in captions)


def query_texts(captions: Sequence[str], join: Join) -> list[str]:
    """The texts of one query: one for `forward`, the two orders for `both` and `separate`.

    A query with one caption has `single_text` for every order.
    """
    if len(captions) == 1:
        orders = [single_text(captions[0], joins=False)] * 2
    else:
        orders = [in_order(captions), in_order(list(captions)[::-1])]
    return orders[:1] if join == "forward" else orders


def training_texts(captions: Sequence[str]) -> list[str]:
    """The texts that training draws from: both orders and each caption that is not empty."""
    if len(captions) == 1:
        return query_texts(captions, "forward")
    both = query_texts(captions, "both")
    singles = [single_text(caption, joins=True) for caption in captions if clean(caption)]
    return both + singles


def with_concept(captions: Sequence[str], concept: str) -> list[str]:
    """CIRCO's captions with what they are said of: "a double bed" and "is in a room with wooden
    walls" are one sentence."""
    return [f"{concept.strip()} {caption.strip()}" for caption in captions]


def asked_texts(captions: Sequence[str], concept: str | None = None) -> list[str]:
    """Every distinct text that a protocol may ask for."""
    texts = query_texts(captions, "both")
    if concept is not None:
        texts += query_texts(with_concept(captions, concept), "both")
    return list(dict.fromkeys(texts))


def all_texts(captions: Sequence[str], concept: str | None = None) -> list[str]:
    """Every distinct text that a protocol or the training may ask for."""
    return list(dict.fromkeys(asked_texts(captions, concept) + training_texts(captions)))
