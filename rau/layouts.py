"""The registry of data sets: the reader of the layout that each name stands for.

Adding a data set takes one module and one entry here (docs/extending.md). Readers are named as
`module` or `module:class` and imported when a data set is read.
"""

# A class is created with `dataset.catalogue`.
LAYOUTS: dict[str, str] = {
    "garments": "rau.datasets.fashioniq",
    "fashioniq": "rau.datasets.fashioniq",
    "cirr": "rau.datasets.cirr",
    "circo": "rau.datasets.circo",
    "catalogue": "rau.datasets.catalogue.reader:CatalogueReader",
}


def known(name: str) -> str:
    """The name, if the registry contains it.

    Raises:
        ValueError: otherwise, listing the names in the registry.
    """
    if name not in LAYOUTS:
        raise ValueError(f"choose from {', '.join(LAYOUTS)}")
    return name
