"""Whether a copy of a data set is the published one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rau.datasets.records import Record
from rau.files import digest_file


@dataclass(frozen=True)
class Comparison:
    """A folder's annotation files beside the record's.

    Attributes:
        copy: `official` where all that is needed is there and nothing differs, else `custom`.
        differs: paths that are lacking, changed or unknown to the record.
        unverified: digest by path, of files whose published digest is not known.
    """

    copy: str
    differs: list[str] = field(default_factory=list)
    unverified: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For a JSON document."""
        return asdict(self)


def compare(record: Record, root: Path, files: Sequence[Path]) -> Comparison:
    """Compare the annotation files of a folder with a record, by SHA-256.

    Args:
        files: those that the reader reads; any that the record lacks makes the copy custom.
    """
    known = record.annotations.digests
    found = {path.relative_to(root).as_posix(): digest_file(path) for path in files}
    differs = [path for path, value in found.items() if (known.get(path) or value) != value]
    differs += sorted(set(found) - set(known))
    differs += sorted(set(known) - set(found) - record.optional)
    unverified = {path: found[path] for path in found if path in known and known[path] is None}
    return Comparison("custom" if differs else "official", differs, unverified)
