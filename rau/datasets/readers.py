"""The reader of each data set."""

from pathlib import Path
from typing import Protocol

from rau.datasets import cirr, fashioniq
from rau.datasets.annotations import Annotations


class Reader(Protocol):
    """A module that reads one layout."""

    def read_annotations(self, root: Path) -> Annotations:
        """Read a folder; raises UserError where it is not in the layout."""
        ...


def reader(dataset: str) -> Reader:
    """The reader of a data set; the built-in garments are in FashionIQ's layout."""
    readers: dict[str, Reader] = {"garments": fashioniq, "fashioniq": fashioniq, "cirr": cirr}
    return readers[dataset]
