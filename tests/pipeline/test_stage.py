"""What every stage shares: an error that a user can fix is one line and exit code 1."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline import stage
from rau.errors import UserError
from rau.memory import peak_memory_bytes
from rau.params import DatasetParams


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("ua.theta: too\n  much"), "error: ua.theta: too much"),
        (OSError(errno.ENOSPC, "No space left on device", "data/x"), "no space left on the disk"),
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on the disk"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "data/x"), "error: data/x: "),
        (torch.OutOfMemoryError("CUDA out of memory"), "the GPU's memory is full; lower"),
        (UserError("x" * 9999 + "\x1b[2J; do this"), "?[2J; do this"),
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
    assert len(line) < 1100


def test_a_stage_that_is_stopped_says_so_and_exits_as_the_shell_expects(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(SystemExit) as stopped:
        stage.run(main)
    assert stopped.value.code == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stopped; ")


def test_the_built_in_encoder_is_no_encoder_of_photos(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stage.warn({"encoder": "garments-clip"}, DatasetParams())
    stage.warn({"encoder": "ViT-B-32"}, DatasetParams(name="fashioniq"))
    assert not capsys.readouterr().err
    stage.warn({"encoder": "garments-clip"}, DatasetParams(name="fashioniq"))
    assert "set encoder.name" in capsys.readouterr().err


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(ZeroDivisionError):
        stage.run(main)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_large_parent_is_not_counted() -> None:
    ballast = b"x" * 2**28
    code = "from rau.memory import peak_memory_bytes; print(peak_memory_bytes())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert peak_memory_bytes() > len(ballast) > int(child.stdout)
