"""Several processes: how they are started, and that all end when one fails."""

import re
import subprocess
import sys

import pytest

from rau.errors import UserError
from rau.finetuning.processes import Processes
from tests.places import ROOT
from tests.project import environment

FABRIC = (sys.executable, "-m")
TORCHRUN = (*FABRIC, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


@pytest.mark.parametrize(
    ("start", "rank", "how", "said"),
    [
        (FABRIC, "0", "busy", "error: this one failed"),
        (FABRIC, "1", "busy", "error: this one failed"),
        (TORCHRUN, "-1", "wait", "error: this one failed"),
        (FABRIC, "1", "kill", "error: process 0 of 2 lost another one, .*run it again to resume"),
    ],
    ids=["first", "other", "both", "killed"],
)
def test_all_end_with_the_line_of_the_one_that_failed(
    start: tuple[str, ...], rank: str, how: str, said: str
) -> None:
    command = [*start, "tests.finetuning.failing", rank, how]
    # Its pipe is closed once the last of the processes has ended.
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert re.fullmatch(said, line)


@pytest.mark.parametrize("device", ["mps", "cuda:1"])
def test_one_device_is_not_for_several_processes(device: str) -> None:
    with pytest.raises(UserError, match=f"train.device={device} is one device, and 2 processes"):
        Processes(device, 2)


def test_tasks_of_slurm_are_not_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    with pytest.raises(UserError, match="one torchrun a node"):
        Processes("cpu", 1)
