"""The two files for CIRR's test server, and their validation.

Format: https://cirr.cecs.anu.edu.au/test_process/ and the data set's README: for each pair
id the 50 best image names, or the 3 best of the image set; never the reference.
"""

from rau.errors import UserError
from rau.evaluation.hidden_split import Document, HiddenSplit
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.tasks import Method, build_task, run

SPLIT = GALLERY = "test1"
VERSION = "rc2"
LENGTHS = {"recall": 50, "recall_subset": 3}


def file_name(metric: str) -> str:
    """Name of a metric's file."""
    return f"cirr_{SPLIT}_{metric}.json"


def build(hidden: HiddenSplit, method: Method, features: FeatureSet) -> dict[str, Document]:
    """Rank the hidden split; returns the documents by file name."""
    task = build_task("all", hidden.queries, hidden.gallery, "forward", True, features)
    ranking = run(task, method, features, LENGTHS["recall"]).ranking
    if ranking.subset_top is None:
        raise ValueError("queries of the hidden split have no image sets")
    places = {"recall": ranking.top, "recall_subset": ranking.subset_top}
    return {
        file_name(metric): {"version": VERSION, "metric": metric}
        | {
            query_id: [task.gallery_ids[place] for place in row[: LENGTHS[metric]] if place >= 0]
            for query_id, row in zip(task.query_ids, places[metric].tolist(), strict=True)
        }
        for metric in LENGTHS
    }


def check(name: str, document: Document, hidden: HiddenSplit) -> None:
    """Raise for a document that the server would refuse or score wrongly.

    Raises:
        UserError: naming the pair and what is wrong with it.
    """
    version, metric = document.get("version"), document.get("metric")
    if version != VERSION or metric not in [*LENGTHS]:
        raise UserError(
            f"{name}: 'version' must be {VERSION!r} and 'metric' one of {', '.join(LENGTHS)}"
        )
    pairs = {key: names for key, names in document.items() if key not in ("version", "metric")}
    expected = {query["query_id"]: query for query in hidden.queries}
    if wrong := sorted(pairs.keys() ^ expected.keys()):
        raise UserError(
            f"{name}: {len(wrong):,} pair ids are missing or not of {SPLIT}: {', '.join(wrong[:3])}"
        )
    for pair, names in pairs.items():
        where, query = f"{name}, pair {pair}", expected[pair]
        allowed = hidden.gallery if metric == "recall" else set(query["members"] or ())
        wanted = min(LENGTHS[metric], len(allowed - {query["reference_id"]}))
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{where}: not a list of names of images")
        if len(names) != wanted or len(set(names)) != wanted:
            raise UserError(f"{where}: not {wanted} different names")
        if query["reference_id"] in names:
            raise UserError(f"{where}: its reference is among the names")
        if strange := [name for name in names if name not in allowed]:
            raise UserError(f"{where}: {strange[0]!r} is not among the images to choose from")
