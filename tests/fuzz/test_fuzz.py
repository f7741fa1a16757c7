"""A seeded share of the cases: none is a fault."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.harness import TARGETS, kind_of
from tests.fuzz.mutations import KINDS, NotApplicable, damage, in_json
from tests.places import ROOT
from tests.project import environment

CASES = 200


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_no_case_is_a_fault(built_project: Path) -> None:
    command = ["-m", "tests.fuzz", "--cases", str(CASES), "--project", str(built_project)]
    # In a process of its own: forking beside the threads of a test worker could hang.
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment() | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (\w+)", done.stdout)}
    assert sum(counts.values()) == CASES
    # Mutations that change nothing, or stop nothing, would find nothing.
    assert counts["refused"] > CASES / 3
    assert counts["changed"] > CASES / 20


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (0, "images: 9 rows", "fine"),
        (1, "note: x\nerror: no file", "refused"),
        (1, "no file", "unclear"),
        (2, "error: no file", "unclear"),
        (1, f"error: {'x' * 2000}", "unclear"),
        (70, "Traceback (most recent call last):", "traceback"),
        (-11, "", "crash"),
        (None, "", "hang"),
    ],
)
def test_outcomes(code: int | None, text: str, kind: str) -> None:
    assert kind_of(code, text) == kind


def test_mutations_repeat_and_change(built_project: Path) -> None:
    for target in TARGETS:
        path = sorted(p for p in built_project.glob(target.files) if p.is_file())[0]
        data = path.read_bytes()
        assert damage(data, random.Random(1)) == damage(data, random.Random(1))
        if path.suffix in KINDS:
            mutated = set()
            for seed in range(8):
                try:
                    mutated.add(KINDS[path.suffix](data, random.Random(seed)))
                except NotApplicable:
                    continue
            assert len(mutated) > 2, path
    with pytest.raises(NotApplicable):
        in_json(b"[", random.Random(0))
