"""Timings of stages: by their outputs, with the memory of the fullest GPU."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rau.errors import UserError
from rau.files import digest_files
from rau.project import timings, workspace


def test_the_fullest_gpu_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(
        is_initialized=lambda: False,
        device_count=lambda: 2,
        max_memory_allocated=lambda device: 100 * (device + 1),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert timings.peak_device_bytes() is None
    cuda.is_initialized = lambda: True
    assert timings.peak_device_bytes() == 200
    monkeypatch.delitem(sys.modules, "torch")
    assert timings.peak_device_bytes() is None


def test_a_damaged_timing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "output"
    output.touch()
    assert timings.read("train", [output]) is None
    path = workspace.timing("train", digest_files([output]))
    path.parent.mkdir(parents=True)
    path.write_text('{"seconds": 1.5, "peak_memory_bytes": 7}')
    found = timings.read("train", [output])
    assert found == timings.Timing(seconds=1.5, peak_memory_bytes=7)
    for damage in ("{", "[]", '{"seconds": NaN, "peak_memory_bytes": 7}', '{"seconds": 1}'):
        path.write_text(damage)
        with pytest.raises(UserError, match=r"train-.*\.json: .*; remove it"):
            timings.read("train", [output])
