"""The reader of each data set."""

from pathlib import Path
from typing import Protocol

from rau.datasets import circo, cirr, fashioniq
from rau.datasets.annotations import Annotations
from rau.datasets.catalogue.reader import CatalogueReader
from rau.params import CatalogueParams


class Reader(Protocol):
    """A module that reads one layout."""

    def read_annotations(self, root: Path) -> Annotations:
        """Read a folder; raises UserError if it does not have the layout."""
        ...


def reader(dataset: str, catalogue: CatalogueParams | None = None) -> Reader:
    """The reader of a data set; the built-in garments are in FashionIQ's layout.

    Args:
        catalogue: how the queries of a catalogue are sampled.
    """
    readers: dict[str, Reader] = {
        "garments": fashioniq,
        "fashioniq": fashioniq,
        "cirr": cirr,
        "circo": circo,
        "catalogue": CatalogueReader(catalogue or CatalogueParams()),
    }
    return readers[dataset]
