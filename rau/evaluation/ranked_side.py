"""The rows of one method in a rankings file, one side of a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from rau.errors import UserError
from rau.methods import DETERMINISTIC, METHODS
from rau.models.baselines import IMAGE_ONLY, TEXT_ONLY, untrained
from rau.retrieval.composed import COMPOSED
from rau.schemas import RANKINGS, RankingRow, fault, read_parquet
from rau.table_metadata import RankingsMetadata

MAX_BYTES = 2 * 2**30
UNKNOWN = RankingsMetadata()
SINGLE = (IMAGE_ONLY, TEXT_ONLY)
PAIRED_BY = ["protocol", "category", "query_id", "text"]
IMAGES = ["reference_id", "target_id"]
MEASURED = ["target_rank", "subset_rank", "average_precision"]
NEEDED = ["method", *PAIRED_BY, *IMAGES, *MEASURED, "uncertainty", "top"]


@dataclass(frozen=True)
class Side:
    """The rows of one method in a rankings table, columns `NEEDED`.

    Attributes:
        name: given by the user.
        single: rows of the single modalities, those of the reference first; empty without both.
    """

    name: str
    method: str
    rows: pa.Table
    metadata: RankingsMetadata = UNKNOWN
    single: Mapping[str, pa.Table] = field(default_factory=dict)

    def row(self, place: int) -> RankingRow:
        """One row with the columns `NEEDED`; long lists are only read for rows that are shown."""
        row = cast(RankingRow, self.rows.slice(place, 1).to_pylist()[0])
        return {**row, "top": row["top"] or []}


def read_side(name: str, path: Path, method: str | None) -> Side:
    """Read the rows of one method from a rankings file, and the metadata of its run.

    Args:
        method: None for the run's own method, which is guessed if the file does not name it.

    Raises:
        UserError: when the file is missing, too large, not a rankings table or without the method.
    """
    remedy = "choose a file written by the stage evaluate"
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise UserError(f"{name}: {path} is larger than {MAX_BYTES} bytes; {remedy}")
    table = read_parquet(path, remedy)
    if missing := [column for column in NEEDED if column not in table.schema.names]:
        raise UserError(f"{name}: {path} has no columns {', '.join(missing)}; {remedy}")
    try:
        rows = table.select(NEEDED).cast(pa.schema([RANKINGS.field(column) for column in NEEDED]))
        metadata = RankingsMetadata.of(table.schema.metadata or {})
    except pa.ArrowException as error:
        raise UserError(f"{name}: {path} has columns of other types ({error}); {remedy}") from error
    except ValueError as error:
        raise UserError(f"{name}: {path} has invalid metadata ({error}); {remedy}") from error
    if wrong := fault(rows, RANKINGS):
        raise UserError(f"{name}: {path}: {wrong}; {remedy}")
    methods = rows["method"].unique().to_pylist()
    chosen = method or metadata.method or trained(name, methods)
    if chosen not in methods:
        raise UserError(f"{name} has no method '{chosen}'; choose from {', '.join(methods)}")
    labels = [next((m for m in methods if m.startswith(one)), None) for one in SINGLE]
    single = {label: _of_method(rows, label) for label in labels if label is not None}
    if len(single) < len(SINGLE):
        single = {}
    return Side(name, chosen, _of_method(rows, chosen), metadata, single)


def trained(name: str, methods: Sequence[str]) -> str:
    """The run's own method: the trained one; if there are two, not the deterministic head.

    Raises:
        UserError: when this does not determine exactly one method.
    """
    names = {*untrained(0.5, None), COMPOSED}
    left = [m for m in methods if m.removesuffix(" (ridge map)") not in names]
    if len(left) > 1:
        left = [m for m in left if m != METHODS[DETERMINISTIC].label]
    if len(left) != 1:
        raise UserError(
            f"{name} does not specify its method; choose one of {', '.join(methods)} "
            "with --method-a or --method-b"
        )
    return left[0]


def _of_method(rows: pa.Table, method: str) -> pa.Table:
    return rows.filter(pc.equal(rows["method"], method)).combine_chunks()
