"""The two files that CIRR's test server takes, and a check of them.

Format: https://cirr.cecs.anu.edu.au/test_process/ and the data set's README: for each pair
id the 50 best image names, or the 3 best of the image set; never the reference.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rau.errors import UserError
from rau.files import write_json, write_text
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.tasks import Method, build_task, run
from rau.schemas import GalleryRow, QueryRow

SPLIT = "test1"
VERSION = "rc2"
LENGTHS = {"recall": 50, "recall_subset": 3}
MAX_BYTES = 5_000_000


# Version, metric, and the image names of each pair id.
Submission = dict[str, str | list[str]]


@dataclass(frozen=True)
class Truth:
    """What a submission must cover: queries of the hidden split, and its gallery."""

    queries: Sequence[QueryRow]
    gallery: frozenset[str]


def truth(queries: Sequence[QueryRow], galleries: Sequence[GalleryRow]) -> Truth | None:
    """The hidden split of the tables; None where the data set has none."""
    own = [query for query in queries if query["split"] == SPLIT and query["members"] is not None]
    names = frozenset(row["image_id"] for row in galleries if row["gallery"] == SPLIT)
    return Truth(own, names) if own else None


def build(hidden: Truth, method: Method, features: FeatureSet) -> dict[str, Submission]:
    """Rank the hidden split; returns the documents by metric.

    Raises:
        UserError: when an image of the split has no feature: a submission without it would not
            measure the method.
    """
    absent = sorted(hidden.gallery - set(features.images.names))
    if absent:
        raise UserError(
            f"no submission: {len(absent):,} of {len(hidden.gallery):,} {SPLIT} images are "
            f"missing ({', '.join(absent[:3])}); complete the images"
        )
    task = build_task("all", hidden.queries, hidden.gallery, "forward", True, features)
    ranking = run(task, method, features, LENGTHS["recall"]).ranking
    if ranking.subset_top is None:
        raise ValueError("queries of the hidden split have no image sets")
    places = {"recall": ranking.top, "recall_subset": ranking.subset_top}
    return {
        metric: {"version": VERSION, "metric": metric}
        | {
            query_id: [task.gallery_ids[place] for place in row[: LENGTHS[metric]] if place >= 0]
            for query_id, row in zip(task.query_ids, places[metric].tolist(), strict=True)
        }
        for metric in LENGTHS
    }


def check(document: Submission, metric: str, hidden: Truth) -> None:
    """Refuse documents that the server would refuse or score wrongly.

    Raises:
        UserError: naming the pair and what is wrong with it.
    """
    head = {"version": VERSION, "metric": metric}
    if {key: document.get(key) for key in head} != head:
        raise UserError(f"a submission begins with {head}")
    pairs = {key: names for key, names in document.items() if key not in head}
    expected = {query["query_id"]: query for query in hidden.queries}
    if wrong := sorted(pairs.keys() ^ expected.keys()):
        raise UserError(
            f"{len(wrong):,} pair ids are missing or not of {SPLIT}: {', '.join(wrong[:3])}"
        )
    for pair, names in pairs.items():
        query = expected[pair]
        allowed = hidden.gallery if metric == "recall" else set(query["members"] or ())
        wanted = min(LENGTHS[metric], len(allowed - {query["reference_id"]}))
        if not isinstance(names, list) or len(names) != wanted or len(set(names)) != wanted:
            raise UserError(f"pair {pair}: not {wanted} different names")
        if query["reference_id"] in names:
            raise UserError(f"pair {pair}: its reference is among the names")
        if strange := [name for name in names if name not in allowed]:
            raise UserError(f"pair {pair}: {strange[0]!r} is not among the images to choose from")


def write(folder: Path, documents: Mapping[str, Submission], hidden: Truth) -> list[Path]:
    """Check and write `cirr_test1_<metric>.json`.

    Raises:
        UserError: when a document is invalid, or larger than the server takes.
    """
    paths = []
    for metric, document in documents.items():
        check(document, metric, hidden)
        text = json.dumps(document)
        if len(text) > MAX_BYTES:
            raise UserError(f"the submission for {metric} is larger than {MAX_BYTES:,} bytes")
        path = folder / f"cirr_{SPLIT}_{metric}.json"
        write_text(path, text)
        paths.append(path)
    return paths


def submit(
    folder: Path, hidden: Truth | None, method: Method, features: FeatureSet
) -> dict[str, Any]:
    """Write the files for the server of a hidden split, and `status.json`.

    Returns:
        The status: `files`, their names, and `reason`, why there are none.
    """
    for outdated in folder.glob("*.json"):
        outdated.unlink(missing_ok=True)
    status: dict[str, Any] = {"files": [], "reason": "the data set has no hidden image sets"}
    if hidden is not None:
        try:
            paths = write(folder, build(hidden, method, features), hidden)
            status = {"files": [path.name for path in paths], "reason": None}
        except UserError as error:
            status["reason"] = str(error)
    write_json(folder / "status.json", status)
    return status
