"""The files for CIRCO's test server, one per protocol, and their validation.

Format: https://github.com/miccunifi/CIRCO#submission-format: the numbers of the 50 best images by
the id of each query.
"""

from rau.errors import UserError
from rau.evaluation.hidden_split import Document, HiddenSplit
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.protocols import CIRCO
from rau.retrieval.tasks import Method, asked, build_task, run_all

SPLIT, GALLERY = "test", "original"
LENGTH = 50


def build(hidden: HiddenSplit, method: Method, features: FeatureSet) -> dict[str, Document]:
    """Rank the hidden split under each protocol; returns the documents by file name."""
    tasks = [
        build_task(
            "all",
            [asked(query, protocol) for query in hidden.queries],
            hidden.gallery,
            protocol.join,
            protocol.reference == "removed",
            features,
        )
        for protocol in CIRCO
    ]
    ranked = run_all(tasks, method, features, LENGTH)
    return {
        f"{protocol.name}_{SPLIT}.json": {
            query: [int(task.gallery_ids[place]) for place in row if place >= 0]
            for query, row in zip(task.query_ids, one.ranking.top.tolist(), strict=True)
        }
        for protocol, task, one in zip(CIRCO, tasks, ranked, strict=True)
    }


def check(name: str, document: Document, hidden: HiddenSplit) -> None:
    """Raise for a document that the server would refuse or score wrongly.

    Raises:
        UserError: naming the query and what is wrong with it.
    """
    expected = {query["query_id"] for query in hidden.queries}
    if wrong := sorted(document.keys() ^ expected):
        raise UserError(
            f"{name}: {len(wrong):,} queries are missing or not of {SPLIT}: {', '.join(wrong[:3])}"
        )
    allowed = {int(image) for image in hidden.gallery}
    wanted = min(LENGTH, len(allowed))
    for query, images in document.items():
        where = f"{name}, query {query}"
        if not isinstance(images, list) or not all(type(image) is int for image in images):
            raise UserError(f"{where}: not a list of numbers of images")
        if len(images) != wanted or len(set(images)) != wanted:
            raise UserError(f"{where}: not {wanted} different images")
        if strange := [image for image in images if image not in allowed]:
            raise UserError(f"{where}: {strange[0]} is not among the images to choose from")
