"""Answers as files that a data set can be read with."""

import csv
import os
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rau.datasets.catalogue import sheet
from rau.errors import UserError
from rau.service import feedback
from rau.service.feedback import COLUMNS, Feedback, NotKept, read_by


def rows(folder: Path) -> list[list[str]]:
    """All rows of a folder as Python reads them."""
    found: list[list[str]] = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            header, *own = csv.reader(file)
        assert header == [*COLUMNS]
        found += own
    return found


def read(folder: Path) -> list[tuple[str | None, ...]]:
    """The same as a data set reads them."""
    (path,) = folder.glob("*.csv")
    table = sheet.read(path)
    return [*zip(*(table.cells(name) for name in COLUMNS), strict=True)]


@pytest.mark.parametrize(
    ("reference", "caption", "expected"),
    [
        ("a", "is red", "is red"),
        ("a", "red,\n \"quoted\"\r\n\tand 'more'", "red, \"quoted\" and 'more'"),
        ("a", "=HYPERLINK(1)", "=HYPERLINK(1)"),
        ("-1.jpg", "- sleeves", "- sleeves"),
        ("@x", "+ a belt; and é 赤", "+ a belt; and é 赤"),
        ('b"c,d', "is\0 null\u2028 not", "is null not"),
    ],
)
def test_what_is_written_is_read(
    tmp_path: Path, reference: str, caption: str, expected: str
) -> None:
    Feedback(tmp_path).add(reference, "t", caption, True)
    assert read(tmp_path) == [(reference, "t", expected, "yes")]
    for cell in rows(tmp_path)[0]:
        assert cell[0] not in "=+-@|%\t\r"
        assert cell.isprintable() or cell[0] == "\u00a0"


@pytest.mark.parametrize("caption", [*map(str.upper, sheet.UNKNOWN), " \n", "...", " #n/a ", "__"])
def test_a_caption_that_says_nothing_is_refused(tmp_path: Path, caption: str) -> None:
    kept = Feedback(tmp_path)
    with pytest.raises(UserError, match="no words"):
        kept.add("a", "b", caption, True)
    with pytest.raises(UserError, match="itself"):
        kept.add("a", "a", "is red", True)
    assert rows(tmp_path) == []


def test_threads_and_processes_do_not_mix_their_rows(tmp_path: Path) -> None:
    kept = [Feedback(tmp_path), Feedback(tmp_path)]

    def add(thread: int) -> None:
        for number in range(25):
            kept[thread % 2].add(f"r{thread}", f"t{number}", "is red, " * 100, bool(number % 2))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    found = {(row[0], row[1]) for row in rows(tmp_path)}
    assert len(rows(tmp_path)) == len(found) == 200
    assert len([*tmp_path.glob("*.csv")]) == 2


def test_a_day_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        day = 1

        @classmethod
        def now(cls, tz: object = None) -> "Clock":
            return cls(2030, 1, cls.day, 9, 30, 5, tzinfo=UTC)

    monkeypatch.setattr(feedback, "datetime", Clock)
    kept = Feedback(tmp_path)
    for day in (1, 1, 2):
        Clock.day = day
        kept.add("a", "b", f"day {day}", True)
    names = sorted(path.name[:16] for path in tmp_path.glob("*.csv"))
    assert names == ["20300101T093005-", "20300102T093005-"]
    # One that somebody took away is begun anew.
    for path in tmp_path.glob("*.csv"):
        path.unlink()
    kept.add("a", "b", "day 2", True)
    assert len(rows(tmp_path)) == 1


def test_a_row_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Feedback(tmp_path)
    kept.add("a", "b", "is red", True)
    (path,) = tmp_path.glob("*.csv")
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, row: write(handle, row[:5]))
    with pytest.raises(NotKept, match="disk is full"):
        kept.add("a", "c", "is blue", True)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("folder", "source", "said"),
    [
        ("shop/feedback", "folder shop", "feedback is stored in shop/feedback; training reads it"),
        ("shop/feedback", "data set catalogue@01234567", "training reads it with dataset.root="),
        (
            "shop/feedback",
            "data set garments@01234567",
            "warning: .* built from data set garments@01234567",
        ),
        ("shop/answers", "folder shop", "warning: no data set reads feedback from shop/answers"),
        ("feedback", "folder shop", "warning: no data set reads feedback from feedback"),
    ],
)
def test_who_reads_the_answers_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, source: str, said: str
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/products.csv").touch()
    monkeypatch.chdir(tmp_path)
    assert re.search(said, read_by(Path(folder), source))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another"):
        Feedback(tmp_path / "file" / "feedback")
