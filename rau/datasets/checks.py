"""Checks of a data set before anything is encoded or trained."""

from collections import Counter
from collections.abc import Collection, Set

from rau.datasets.annotations import Annotations
from rau.datasets.captions import clean
from rau.datasets.coverage import is_usable
from rau.errors import UserError
from rau.schemas import QueryRow

# Enough for a holdout and a batch of two.
MIN_TRAIN = 3
UNTRAINED = (
    "fewer than training requires; set finetune.towers=none, and train.head or a head.name that "
    "needs no training"
)


def check(found: Annotations, gaps: Set[str]) -> list[str]:
    """Refuse a data set that a later stage cannot use.

    Args:
        gaps: ids of the images that are missing or corrupt.

    Returns:
        Issues that do not stop a run but affect its results, one line each.

    Raises:
        UserError: when there are too few queries, or a category has no image to rank.
    """
    val = [query for query in found.queries if query["split"] == "val"]
    if not val:
        raise UserError("the data set has no val queries; nothing can be evaluated")
    train = [q for q in found.queries if q["split"] == "train" and is_usable(q, gaps)]
    by_category = Counter(query["category"] for query in val)
    usable = Counter(query["category"] for query in val if is_usable(query, gaps))
    notes = []
    if len(train) < MIN_TRAIN:
        notes.append(f"{len(train)} train queries have their images, {UNTRAINED}")
    for category, count in sorted(by_category.items()):
        targets = {query["target_id"] for query in val if query["category"] == category}
        for name, members in found.galleries.items():
            own = set(members.get(category, ()))
            if own & targets and own <= gaps:
                raise UserError(
                    f"no image in {category}'s gallery ({name}) can be used; complete the images"
                )
        if not usable[category]:
            notes.append(f"none of the {count:,} val queries of {category} has its images")
    return notes + _odd(found.queries)


def _odd(queries: Collection[QueryRow]) -> list[str]:
    own = sum(query["target_id"] == query["reference_id"] for query in queries)
    silent = sum(not any(map(clean, query["captions"])) for query in queries)
    notes = []
    if own:
        notes.append(
            f"{own:,} queries have their reference as target: they are misses under every protocol "
            "that removes the reference"
        )
    if silent:
        notes.append(f"{silent:,} queries have only empty captions")
    return notes
