"""Where the checkout and the shared data beside it lie."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared/data"


def needs(name: str) -> pytest.MarkDecorator:
    """A test that reads a data set of `SHARED` and is skipped without it."""
    reason = f"needs a copy of the data set in ../shared/data/{name} (CONTRIBUTING.md)"
    return pytest.mark.skipif(not (SHARED / name).is_dir(), reason=reason)
