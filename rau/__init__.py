"""Composed image retrieval: search by an image and a description of what should be different.

The names in `__all__` are the Python interface (docs/python.md); they are imported on first use.
Everything else may change between versions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rau import datasets
    from rau.api.evaluation import evaluate, needed_texts
    from rau.api.frames import feature_set
    from rau.api.heads import Head, fit
    from rau.api.search import Found, Search, load
    from rau.errors import UserError

__version__: str
__all__ = [
    "Found",
    "Head",
    "Search",
    "UserError",
    "datasets",
    "evaluate",
    "feature_set",
    "fit",
    "load",
    "needed_texts",
]
_MODULES = {
    "Found": "rau.api.search",
    "Head": "rau.api.heads",
    "Search": "rau.api.search",
    "UserError": "rau.errors",
    "evaluate": "rau.api.evaluation",
    "feature_set": "rau.api.frames",
    "fit": "rau.api.heads",
    "load": "rau.api.search",
    "needed_texts": "rau.api.evaluation",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("rau")
    if name == "datasets":
        return import_module("rau.datasets")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'rau' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
