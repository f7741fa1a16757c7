"""Filters of an index: the values or the range of each attribute."""

import pyarrow as pa
import pyarrow.compute as pc

from rau.search.index import Index
from rau.search.segments import taken
from rau.service.messages import Choices, Filter, Flag, Range

# There is no filter for more values than this, nor for values that are mostly unique to an image.
MAX_VALUES = 200


def of_index(index: Index) -> list[Filter]:
    """The filters of all attributes that have one, in column order."""
    tables = [
        taken(segment.attributes, index.alive(number))
        for number, segment in enumerate(index.segments)
    ]
    rows = pa.concat_tables(tables)
    found = (_filter(name, rows[name]) for name in rows.column_names)
    return [one for one in found if one is not None]


def _filter(name: str, column: pa.ChunkedArray) -> Filter | None:
    kind = column.type
    if pa.types.is_boolean(kind):
        return Flag(attribute=name)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        ends = pc.min_max(column.filter(pc.is_finite(column))).as_py()
        if ends["min"] is None or ends["min"] == ends["max"]:
            return None
        return Range(attribute=name, low=ends["min"], high=ends["max"])
    several = pa.types.is_list(kind)
    known = (pc.list_flatten(column) if several else column).drop_null()
    values = known.unique()
    if not 2 <= len(values) <= min(MAX_VALUES, len(known) / 2):
        return None
    names = sorted(map(str, values.to_pylist()), key=str.casefold)
    return Choices(kind="list" if several else "text", attribute=name, values=names)
