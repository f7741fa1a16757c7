"""What the CPU's work takes: products' precision inside a block, memory that is kept."""

import platform
import subprocess
import sys

import pytest


FAULTS = """
import resource
import torch
from rau import devices
if {keep}:
    devices.keep_memory()
torch.set_num_threads(1)
left = torch.ones(600, 1024)
for repeat in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [left + 1 for _ in range(20)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_is_kept_is_not_taken_page_by_page_again() -> None:
    def faults(keep: bool) -> int:
        command = [sys.executable, "-c", FAULTS.format(keep=keep)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return int(done.stdout)

    assert faults(keep=True) < 0.1 * faults(keep=False)
