"""Counted distractors and their file: the effect of distractors on the rankings of every method."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from numpy.typing import NDArray
from pydantic import NonNegativeInt, ValidationError

from rau.errors import UserError
from rau.params import Section
from rau.retrieval.tally import Tally
from rau.schemas import read_parquet, write_table

# By method and category.
Tallies = Mapping[tuple[str, str], Tally]
_SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("category", pa.string()),
        ("ahead", pa.list_(pa.int64())),
        ("names", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
    ]
)
_ABOUT = b"counted"


class _About(Section):
    done: list[NonNegativeInt]
    images: NonNegativeInt
    skipped: NonNegativeInt


@dataclass(frozen=True)
class Counted:
    """The counts of some units of a stream of distractors.

    Attributes:
        done: the numbers of the units.
        images: number of distractors in them.
        skipped: number of other images, which are in the gallery or a query.
        tallies: the effect of the distractors.
    """

    done: frozenset[int]
    images: int
    skipped: int
    tallies: Tallies

    def __add__(self, other: Self) -> Self:
        """Combine two disjoint sets of units."""
        return type(self)(
            self.done | other.done,
            self.images + other.images,
            self.skipped + other.skipped,
            {key: tally + other.tallies[key] for key, tally in self.tallies.items()},
        )

    def write(self, path: Path) -> None:
        """Write as Parquet, completely or not at all."""
        about = _About(done=sorted(self.done), images=self.images, skipped=self.skipped)
        columns: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
        for (method, category), tally in self.tallies.items():
            columns["method"] += [method] * len(tally.ahead)
            columns["category"] += [category] * len(tally.ahead)
            columns["ahead"] += [*tally.ahead]
            columns["names"] += tally.names.tolist()
            columns["scores"] += [*tally.scores]
        table = pa.table(columns, _SCHEMA)
        write_table(path, table, _SCHEMA, {_ABOUT: about.model_dump_json()})

    @classmethod
    def read(cls, path: Path, like: Self) -> Self:
        """Read a file written by `write`.

        Args:
            like: counts of the same methods and tasks.

        Raises:
            UserError: when the file is missing, damaged or of other methods or tasks.
        """
        remedy = "remove it"
        table = read_parquet(path, remedy)
        try:
            about = _About.model_validate_json((table.schema.metadata or {}).get(_ABOUT, b""))
            if table.schema.remove_metadata() != _SCHEMA:
                raise ValueError("other columns")
            tallies = {}
            for key, tally in like.tallies.items():
                own, table = table[: len(tally.ahead)], table[len(tally.ahead) :]
                if {*zip(*(own[name].to_pylist() for name in _SCHEMA.names[:2]), strict=True)} - {
                    key
                }:
                    raise ValueError("other methods")
                tallies[key] = Tally(
                    _matrix(own["ahead"], tally.ahead),
                    _matrix(own["names"], tally.names),
                    _matrix(own["scores"], tally.scores),
                )
        except (ValidationError, ValueError) as error:
            raise UserError(f"{path} does not contain counts of this run; {remedy}") from error
        return cls(frozenset(about.done), about.images, about.skipped, tallies)


def _matrix(column: pa.ChunkedArray, like: NDArray[Any]) -> NDArray[Any]:
    """A column of lists as an array of the shape and type of `like`; raises ValueError."""
    flat: NDArray[Any] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.astype(like.dtype).reshape(like.shape)
