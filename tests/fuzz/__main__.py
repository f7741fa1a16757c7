"""`python -m tests.fuzz --cases 10000`: counts of outcomes, and every fault."""

import argparse
import gc
import importlib
import os
import pkgutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

import pipeline
import rau
from tests.fuzz import harness


def main() -> None:
    """Run cases; exit code 1 where one is a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--project", type=Path, help="whose stages have run; else one is made")
    chosen = parser.parse_args()
    # Children inherit what is imported, and a forked torch must not have started threads.
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for package in (rau, pipeline):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    gc.freeze()

    outcomes: list[harness.Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        project = chosen.project or harness.make(Path(folder))
        cases = range(chosen.first, chosen.first + chosen.cases)
        bar = tqdm(harness.run(project, cases, chosen.seed), total=chosen.cases, unit="case")
        with suppress(KeyboardInterrupt):  # The counts of what was done are printed all the same.
            for one in bar:
                outcomes.append(one)
                if one.kind in harness.FAULTS:
                    print(f"{one}\n", flush=True)
    print(", ".join(f"{n:,} {kind}" for kind, n in Counter(o.kind for o in outcomes).most_common()))
    raise SystemExit(any(one.kind in harness.FAULTS for one in outcomes))


if __name__ == "__main__":
    main()
