"""The reader of each data set."""

from pathlib import Path
from pkgutil import resolve_name
from typing import Protocol

from rau.datasets.annotations import Annotations
from rau.datasets.catalogue.reader import CatalogueReader
from rau.layouts import LAYOUTS
from rau.params import CatalogueParams


class Reader(Protocol):
    """A module that reads one layout."""

    def read_annotations(self, root: Path) -> Annotations:
        """Read a folder; raises UserError if it does not have the layout."""
        ...


def reader(dataset: str, catalogue: CatalogueParams | None = None) -> Reader:
    """The reader of a data set.

    Args:
        catalogue: how the queries of a catalogue are sampled.
    """
    found: Reader | type[CatalogueReader] = resolve_name(LAYOUTS[dataset])
    return found(catalogue or CatalogueParams()) if isinstance(found, type) else found
