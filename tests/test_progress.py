"""Bars show on a terminal and nowhere else."""

import io

import pytest

from rau.progress import tqdm


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "disable", "shown"),
    [(Terminal(), False, True), (Terminal(), True, False), (io.StringIO(), False, False)],
)
def test_bars_show_on_a_terminal_alone(stream: io.StringIO, disable: bool, shown: bool) -> None:
    assert list(tqdm(range(3), "verify", file=stream, disable=disable)) == [0, 1, 2]
    assert ("verify" in stream.getvalue()) == shown
