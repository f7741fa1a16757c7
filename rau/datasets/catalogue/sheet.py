"""Tables as spreadsheets and programs write them, CSV or Parquet, read as text cells."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from rau.errors import UserError
from rau.files import read_bytes
from rau.schemas import read_parquet, reading_parquet

MAX_BYTES = 2**28
MAX_ROWS = 10**6
MAX_COLUMNS = 1000
# Of what a Parquet file says to hold once unpacked.
MAX_UNPACKED = 2**30
SEPARATORS = ",;\t"
LIST = "|"
# Before the names of columns without one.
PADDING = "\0"
NOT_UTF8 = "is not UTF-8 and was read as Windows-1252: save it as UTF-8 if letters look wrong"
# Where a line is empty; Arrow passes over it.
EMPTY_LINES = ("\n\n", "\n\r\n", "\r\r")
# Cells that say nothing, in lower case.
UNKNOWN = ("", "nan", "na", "n/a", "#n/a", "null", "nil", "-", "?", "unknown")


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Attributes:
        path: the file, for errors.
        columns: strings by name, null where a cell is empty or says that it is unknown. Blanks
            around names and cells are cut off.
        first: what a user calls the first row: 2 in a CSV file, after the header, else 1.
        counted: what is counted so: where empty lines stand between, rows of data alone.
        comma: whether a comma is the decimal point, as where a semicolon separates cells.
        notes: what a user should know of how it was read.
        files: the files that the table is divided into, with the number of rows of each; empty if
            `path` is a file.
    """

    path: Path
    columns: Mapping[str, pa.StringArray]
    first: int = 1
    counted: str = "row"
    comma: bool = False
    notes: Sequence[str] = ()
    files: Sequence[tuple[Path, int]] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def row(self, row: int) -> str:
        """A row in words, counted from 0."""
        start = 0
        for path, rows in self.files:
            if row < start + rows:
                return f"row {row - start + self.first} of {path.name}"
            start += rows
        return f"{self.counted} {row + self.first}"

    def where(self, row: int, column: str | None = None) -> str:
        """The place of a cell in words, of a row counted from 0."""
        return f"{self.path}, {self.row(row)}" + (f", column {column!r}" if column else "")

    def find(self, name: str) -> str | None:
        """The column of a name, whatever its case; None where there is none."""
        return next((own for own in self.columns if own.casefold() == name), None)

    def need(self, name: str) -> str:
        """The column of a name.

        Raises:
            UserError: when there is none.
        """
        if (found := self.find(name)) is None:
            names = ", ".join(map(repr, [*self.columns][:8]))
            raise UserError(f"{self.path} has no column {name!r}, only {names}; add or rename one")
        return found

    def cells(self, name: str) -> list[str | None]:
        """A column's cells."""
        found: list[str | None] = self.columns[name].to_pylist()
        return found


def read(path: Path, unknown: Sequence[str] = UNKNOWN, files: Sequence[Path] = ()) -> Sheet:
    """Read a table; CSV in UTF-8, UTF-16 or Windows-1252, separated by comma, semicolon or tab.

    Args:
        files: the Parquet files that the table is divided into, in order; `path` names them all. A
            column that one of them does not have is unknown there.
        unknown: cells that say nothing, in lower case.

    Raises:
        UserError: when it is missing, damaged, too large, or a column has no name or another's.
    """
    raw = _parquet(path, files) if files or path.suffix == ".parquet" else _csv(path)
    if not len(raw):
        raise UserError(f"{path} has no rows; fill it")
    _check_rows(path, len(raw))
    columns = {}
    for name, column in raw.columns.items():
        cells = pc.utf8_trim_whitespace(column.combine_chunks())
        cells = pc.if_else(pc.is_in(pc.utf8_lower(cells), pa.array(unknown)), None, cells)
        if not name.startswith(PADDING):
            columns[name] = cells
        elif cells.null_count < len(cells):
            row = int(pc.index(pc.is_valid(cells), True).as_py())
            raise UserError(f"{raw.where(row)} has more cells than the header; fix the row")
    return replace(raw, columns=columns)


def _csv(path: Path) -> Sheet:
    content = read_bytes(path, MAX_BYTES, "split the table or leave columns out")
    text, notes = _decoded(path, content)
    if "\0" in text:
        raise UserError(f"{path} is not a text file; save the table as CSV, in UTF-8")
    separator = None
    written, text = text, text.strip("\r\n") + "\n"
    empty = written[:1] != text[:1] or any(lines in text for lines in EMPTY_LINES)
    if match := re.match(r"sep=([^\r\n])[\r\n]+", text):  # Excel's own hint.
        separator, text = match[1], text[match.end() :]
        if not separator.isascii():
            raise UserError(f"{path}: the separator {separator!r} is not ASCII; use , ; or a tab")
    head = text[: 2**20]
    separator = separator or max(SEPARATORS, key=re.split(r"[\r\n]", head, maxsplit=1)[0].count)
    try:
        cells = next(csv.reader(io.StringIO(head, newline=""), delimiter=separator), [])
        names = _names(path, cells)
        table = pa_csv.read_csv(
            pa.BufferReader(text.encode()),
            pa_csv.ReadOptions(column_names=names, skip_rows_after_names=1, use_threads=False),
            pa_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except (pa.ArrowInvalid, csv.Error) as error:
        reason = " ".join(str(error).split())[:200].replace("Row #", "row ")
        if "straddling" in reason:
            reason = "a row is longer than a megabyte, perhaps because a quote is not closed"
        raise UserError(f"{path} is not a table: {reason}; fix the row") from error
    counting = (1, "data row") if empty else (2, "row")
    columns = dict(zip(names, table.columns, strict=True))
    return Sheet(path, columns, *counting, separator == ";", notes)


def _decoded(path: Path, content: bytes) -> tuple[str, list[str]]:
    """Text and a note where its encoding was guessed."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace"), []
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), [f"{path.name} {NOT_UTF8}"]


def _names(path: Path, names: Sequence[str]) -> list[str]:
    """The columns' names; columns at the end that have none are spreadsheets' padding."""
    found = [" ".join(name.split()) for name in names]
    if not any(found):
        raise UserError(f"{path} has no header; its first row names the columns")
    if len(found) > MAX_COLUMNS:
        raise UserError(f"{path} has {len(found):,} columns, at most {MAX_COLUMNS:,} are allowed")
    last = max(place for place, name in enumerate(found) if name)
    found[last + 1 :] = [f"{PADDING}{place}" for place in range(last + 1, len(found))]
    if "" in found:
        raise UserError(f"{path}: column {found.index('') + 1} has no name; name or remove it")
    twice = [name for name, count in Counter(map(str.casefold, found)).items() if count > 1]
    if twice:
        raise UserError(f"{path} has a duplicate column {twice[0]!r}; rename one")
    return found


def _parquet(path: Path, files: Sequence[Path]) -> Sheet:
    remedy = "write it again"
    unpacked, rows = 0, []
    for one in files or [path]:
        with reading_parquet(one, remedy):
            about = pq.read_metadata(one)
        rows.append(about.num_rows)
        unpacked += sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups))
    if unpacked > MAX_UNPACKED:
        raise UserError(f"{path} unpacks to more than {MAX_UNPACKED} bytes; leave columns out")
    _check_rows(path, sum(rows))
    tables = [read_parquet(one, remedy) for one in files or [path]]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise UserError(f"the files of {path} have different types: {error}; {remedy}") from error
    names = _names(path, table.column_names)
    given = zip(names, table.columns, strict=True)
    columns = {name: _as_text(path, name, column) for name, column in given}
    return Sheet(path, columns, files=[*zip(files, rows, strict=False)])


def _as_text(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as strings; lists are joined by `LIST`."""
    kind = column.type
    try:
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            lists = ([str(v) for v in c or () if v is not None] for c in column.to_pylist())
            return pa.chunked_array([pa.array(map(LIST.join, lists), pa.string())])
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
        if pa.types.is_floating(column.type):
            # Arrow computes nothing in float16.
            column = column.cast(pa.float32()) if column.type == pa.float16() else column
            column = pc.if_else(pc.is_finite(column), column, None)
            # pandas turns whole numbers to floating point where a cell is empty.
            whole = pc.and_(pc.equal(pc.trunc(column), column), pc.less(pc.abs(column), 2.0**53))
            column = column.cast(pa.int64()) if pc.all(whole).as_py() else column
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise UserError(f"{path}: column {name!r} contains {kind}; use text or numbers") from error


def _check_rows(path: Path, rows: int) -> None:
    if rows > MAX_ROWS:
        raise UserError(
            f"{path} has {rows:,} rows, at most {MAX_ROWS:,} are allowed; split the catalogue"
        )
