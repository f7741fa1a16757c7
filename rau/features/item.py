"""One thing to encode, and the bytes of an image that are those which were verified."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rau.errors import UserError
from rau.files import read_bytes
from rau.pictures import MAX_BYTES


class Item(NamedTuple):
    """One thing to encode: its name in the table, the key of its content, and itself.

    An image's key is the SHA-256 of its file, a text's the text.
    """

    name: str
    key: str
    content: Path | str


def text_items(texts: Sequence[str]) -> list[Item]:
    """Distinct texts as items."""
    return [Item(text, text, text) for text in texts]


def verified(item: Item) -> bytes:
    """The bytes of an image, those whose SHA-256 is the item's key and no others."""
    remedy = "run `dvc repro --force --single-item download`"
    content = read_bytes(Path(item.content), MAX_BYTES, remedy)
    if hashlib.sha256(content).hexdigest() != item.key:
        raise UserError(f"{item.content} has changed since `download` verified it; {remedy}")
    return content
