"""Whether a copy of a data set is the published one."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rau.datasets.registry import DatasetCard
from rau.files import digest_file


@dataclass(frozen=True)
class Comparison:
    """A folder's annotation files compared with those of the card.

    Attributes:
        copy: `official` if every required file exists and none differs, else `custom`.
        differs: paths that are missing, changed or unknown to the card.
        unverified: digest by path, of files whose published digest is unknown.
    """

    copy: str
    differs: list[str] = field(default_factory=list)
    unverified: dict[str, str] = field(default_factory=dict)


def unexpected(card: DatasetCard, queries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Query counts that differ from the card's, as text; a split without queries is skipped.

    For files whose digest is unknown: a different count is reported, not refused.
    """
    counts = Counter((query["category"], query["split"]) for query in queries)
    return [
        f"{category} {split}: {counts[category, split]:,} queries, {expected:,} expected"
        for (category, split), expected in card.queries.items()
        if counts[category, split] not in (0, expected)
    ]


def compare(
    card: DatasetCard,
    files: Mapping[str, Path],
    gallery: Mapping[str, Collection[str]] | None = None,
) -> Comparison:
    """Compare the annotation files of a folder with a card, by SHA-256.

    Args:
        files: the files read by the reader, by their path in the official layout; any file that the
            card does not list makes the copy custom.
        gallery: the val gallery `original` by category, if its size is to be compared: a list of
            images without a known digest may be incomplete.
    """
    known = card.annotations.digests
    found = {name: digest_file(path) for name, path in files.items()}
    differs = [path for path, value in found.items() if (known.get(path) or value) != value]
    differs += sorted(set(found) - set(known))
    differs += sorted(set(known) - set(found) - card.optional)
    sizes = {category: len(ids) for category, ids in (gallery or {}).items()}
    if gallery is not None and not differs and sizes != card.gallery:
        differs.append("the gallery's number of images")
    unverified = {path: found[path] for path in found if path in known and known[path] is None}
    return Comparison("custom" if differs else "official", differs, unverified)
