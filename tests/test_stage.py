"""What every stage shares: an error that a user can mend is one line and exit code 1."""

import errno
import sys

import pytest

from pipeline import stage
from rau.errors import UserError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("ua.theta: too\n  much"), "error: ua.theta: too much"),
        (OSError(errno.ENOSPC, "No space left on device", "data/x"), "no space left on the disk"),
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on the disk"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "data/x"), "error: data/x: "),
        (PermissionError(errno.EACCES, "Permission denied", "data/x"), "Permission denied"),
    ],
)
def test_one_line(
    error: Exception,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def main() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(SystemExit) as stopped:
        stage.run(main)
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(ZeroDivisionError):
        stage.run(main)
