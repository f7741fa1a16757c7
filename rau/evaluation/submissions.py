"""Files for the servers that evaluate hidden splits, checked before they are written."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rau.errors import UserError
from rau.evaluation import circo_submission, cirr_submission
from rau.evaluation.hidden_split import Document, HiddenSplit
from rau.files import read_json, write_json, write_text
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.tasks import Method
from rau.schemas import GalleryRow, QueryRow

MAX_BYTES = 5_000_000


class Format(Protocol):
    """A module that implements the files for one server.

    Attributes:
        SPLIT, GALLERY: names of the hidden split and of its gallery.
    """

    SPLIT: str
    GALLERY: str

    def build(
        self, hidden: HiddenSplit, method: Method, features: FeatureSet
    ) -> dict[str, Document]:
        """Rank the hidden split; returns the documents by file name."""
        ...

    def check(self, name: str, document: Document, hidden: HiddenSplit) -> None:
        """Raise a UserError with the reason if the server would refuse the document."""
        ...


# By data set.
FORMATS: Mapping[str, Format] = {"cirr": cirr_submission, "circo": circo_submission}


def write(
    folder: Path, documents: Mapping[str, Document], hidden: HiddenSplit, form: Format
) -> list[Path]:
    """Check all documents and write each to its file.

    Raises:
        UserError: when a document is invalid, or larger than the server accepts.
    """
    texts = {}
    for name, document in documents.items():
        form.check(name, document, hidden)
        texts[name] = json.dumps(document)
        if len(texts[name]) > MAX_BYTES:
            raise UserError(f"the submission {name} is larger than {MAX_BYTES:,} bytes")
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def check_file(path: Path, hidden: HiddenSplit, form: Format) -> None:
    """Check a file that any program has written for a server.

    Raises:
        UserError: with the reason if the server would refuse it or score it wrongly.
    """
    document = read_json(path, "submission")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise UserError(f"{path} has {size:,} bytes; the server accepts at most {MAX_BYTES:,}")
    if not isinstance(document, dict):
        raise UserError(f"{path} is not a JSON object of image lists by query")
    form.check(str(path), document, hidden)


def submit(
    folder: Path,
    dataset: str,
    queries: Sequence[QueryRow],
    galleries: Sequence[GalleryRow],
    method: Method,
    features: FeatureSet,
) -> dict[str, Any]:
    """Write the files for the server of a data set's hidden split, and `status.json`.

    Returns:
        The status: `files`, the names of the files, and `reason`, why there are none.
    """
    for outdated in folder.glob("*.json"):
        outdated.unlink(missing_ok=True)
    reason = "no server evaluates a split of this data set"
    status: dict[str, Any] = {"files": [], "reason": reason}
    if form := FORMATS.get(dataset):
        hidden = HiddenSplit.of(form.SPLIT, form.GALLERY, queries, galleries)
        status["reason"] = f"this copy has no queries of {form.SPLIT}"
        if hidden is not None:
            try:
                hidden.check_whole(features)
                paths = write(folder, form.build(hidden, method, features), hidden, form)
                status = {"files": [path.name for path in paths], "reason": None}
            except UserError as error:
                status["reason"] = str(error)
    write_json(folder / "status.json", status)
    return status
