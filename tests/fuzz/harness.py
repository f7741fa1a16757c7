"""Stages on mutated inputs, each in a forked child with limits on time and memory.

Every case is made from its number and the seed alone. Outcomes:

* `fine`: the results are those of the whole inputs; `refused`: one line says what is wrong;
* `changed`: different results, from different values or from a user-provided input;
* `silent`: other results from damaged bytes of a binary file of ours, without a word;
* `traceback`, `hang`, `crash`, `unclear` (an exit code without its one line): faults.
"""

import hashlib
import os
import random
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tests.fuzz.mutations import KINDS, NotApplicable, damage
from tests.places import ROOT
from tests.project import TINY, use

# Of processor time and, where it sleeps, of waiting; the memory is beyond what is inherited.
BUSY, SECONDS, BYTES = 40, 120, 3 * 2**30
FAULTS = ("traceback", "hang", "crash", "unclear", "silent")
NAME, RAW = "garments", "data/raw"
TABLES, MODELS = f"data/tables/{NAME}", f"data/models/{NAME}"
RESULTS = {
    "download": [f"data/manifests/{NAME}.parquet"],
    "tables": [f"{TABLES}/{name}.parquet" for name in ("images", "queries", "galleries")],
    "features": [f"data/features/{NAME}/{kind}.parquet" for kind in ("images", "texts")],
    "train": [f"{MODELS}/head.safetensors", f"{MODELS}/history.csv"],
    "evaluate": ["reports/metrics.json", f"data/rankings/{NAME}.parquet"],
    "report": ["reports/index.html"],
}


@dataclass(frozen=True)
class Target:
    """Files that are mutated, the stages that then run, and how often.

    Attributes:
        own: the user makes these files, so that other values give other results.
    """

    files: str
    stages: tuple[str, ...]
    share: int
    own: bool = False


# Most cases are of stages that take a tenth of a second.
TARGETS = (
    Target("params.yaml", ("tables",), 22, own=True),
    Target("params.yaml", ("tables", "train"), 1, own=True),
    Target("data/raw/*/captions/*.json", ("tables",), 16, own=True),
    Target("data/raw/*/image_splits/*.json", ("tables",), 13, own=True),
    Target("data/raw/*/relevance.parquet", ("tables",), 8, own=True),
    Target("data/raw/*/c*/*.json", ("download", "tables"), 1, own=True),
    Target("data/raw/*/images/*", ("download",), 5, own=True),
    Target("data/raw/*/images/*", ("features",), 2, own=True),
    Target("data/manifests/*.parquet", ("tables",), 12),
    Target("data/tables/*/*.parquet", ("evaluate",), 5),
    Target("data/finetuned/*/encoder/*", ("features",), 4),
    Target("data/features/*/*.parquet", ("train",), 3),
    Target("data/models/*/head.safetensors", ("evaluate",), 4),
    Target("data/models/*/history.csv", ("evaluate",), 1),
    Target("data/rankings/*.parquet", ("report",), 1),
    Target("reports/metrics.json", ("report",), 2),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a case; `text` is the end of what it printed."""

    case: int
    kind: str
    file: str
    stages: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.case}: {self.kind}: {self.file}: {' '.join(self.stages)}\n{self.text}"


def make(folder: Path) -> Path:
    """A tiny project, whose stages have run."""
    shutil.copy(ROOT / "params.yaml", folder)
    use(folder, **TINY)
    first = ("download", "tables", "encoder", "finetune", "features")
    stages = (*first, "deterministic", "train", "evaluate", "report")
    code, text = attempt(folder, stages, 10 * SECONDS)
    if code != 0:
        raise RuntimeError(f"the whole project fails\n{text}")
    return folder


def run(project: Path, cases: Sequence[int], seed: int) -> Iterator[Outcome]:
    """Run cases on copies of a project whose stages have run."""
    whole = {name: _digest(project, [name]) for name in RESULTS}
    with tempfile.TemporaryDirectory(dir=project.parent, prefix="fuzz") as scratch:
        for case in cases:
            folder = Path(scratch) / str(case)
            rng = random.Random(f"{seed}/{case}")
            target = rng.choices(TARGETS, [t.share for t in TARGETS])[0]
            _copy(project, folder, target)
            yield _case(folder, case, target, rng, whole)
            shutil.rmtree(folder)


def _copy(project: Path, folder: Path, target: Target) -> None:
    """Links in place of copies: every writer of ours puts a new file in place."""
    folder.mkdir()
    shutil.copy(project / "params.yaml", folder)
    raw = target.files.startswith(RAW)
    for name in ("data", "reports"):
        shutil.copytree(
            project / name,
            folder / name,
            copy_function=os.link,
            ignore=None if raw else shutil.ignore_patterns("raw"),
        )
    if not raw:
        (folder / RAW).symlink_to((project / RAW).resolve())


def _case(
    folder: Path, case: int, target: Target, rng: random.Random, whole: Mapping[str, str]
) -> Outcome:
    path = rng.choice(sorted(p for p in folder.glob(target.files) if p.is_file()))
    damaged = not _mutate(path, rng)
    code, text = attempt(folder, target.stages, SECONDS)
    kind = kind_of(code, text)
    expected = "".join(whole[name] for name in target.stages)
    if kind == "fine" and _digest(folder, target.stages) != expected:
        ours = damaged and not target.own and path.suffix in (".parquet", ".safetensors")
        kind = "silent" if ours and "note:" not in text and "warning:" not in text else "changed"
    return Outcome(case, kind, str(path.relative_to(folder)), target.stages, text[-3000:])


def _mutate(path: Path, rng: random.Random) -> bool:
    """Change a file; True where its values were changed, False where its bytes were damaged."""
    data = path.read_bytes()
    path.unlink()
    if rng.random() < 0.03:
        rng.choice((lambda: None, path.mkdir, lambda: path.symlink_to("gone")))()
        return True
    if path.suffix in KINDS and rng.random() < 0.65:
        try:
            path.write_bytes(KINDS[path.suffix](data, rng))
        except NotApplicable:
            pass
        else:
            return True
    path.write_bytes(damage(data, rng))
    return False


def kind_of(code: int | None, text: str) -> str:
    if code is None or code == -signal.SIGXCPU:
        return "hang"
    if "Traceback (most recent call last)" in text:
        return "traceback"
    if code < 0:
        return "crash"
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    if code == 0:
        return "fine"
    return "refused" if code == 1 and len(errors) == 1 and len(errors[0]) < 1100 else "unclear"


def _digest(folder: Path, stages: Sequence[str]) -> str:
    total = ""
    for name in stages:
        found = [folder / path for path in RESULTS[name]]
        content = b"".join(path.read_bytes() if path.exists() else b"" for path in found)
        total += hashlib.sha256(content).hexdigest()
    return total


def attempt(folder: Path, stages: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """Run stages in a forked child, until one fails.

    Returns:
        The exit code, negative for a signal and None where time was over, and what they printed.
    """
    out = folder / "out"
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _work(folder, stages, out)
    until = time.monotonic() + seconds
    code = None
    while code is None and time.monotonic() < until:
        time.sleep(0.005)
        done, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else None
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    return code, out.read_text(errors="replace")


def _work(folder: Path, stages: Sequence[str], out: Path) -> NoReturn:
    code = 70
    try:
        os.setsid()
        written = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(written, stream)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (BUSY, BUSY + 5))
        os.chdir(folder)
        for name in stages:
            sys.argv = [name]
            try:
                runpy.run_module(f"pipeline.{name}", run_name="__main__", alter_sys=True)
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            if code:
                break
    except BaseException:
        traceback.print_exc()
        code = 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
