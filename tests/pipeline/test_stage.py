"""What every stage shares: an error that a user can fix is one line and exit code 1."""

import errno
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_large_parent_is_not_counted() -> None:
    ballast = b"x" * 2**28
    code = "from pipeline.stage import peak_memory_bytes; print(peak_memory_bytes())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert stage.peak_memory_bytes() > len(ballast) > int(child.stdout)


def test_the_fullest_gpu_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(
        is_initialized=lambda: False,
        device_count=lambda: 2,
        max_memory_allocated=lambda device: 100 * (device + 1),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert stage.peak_device_bytes() is None
    cuda.is_initialized = lambda: True
    assert stage.peak_device_bytes() == 200
    monkeypatch.delitem(sys.modules, "torch")
    assert stage.peak_device_bytes() is None
