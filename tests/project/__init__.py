"""A tiny project of its own, made by real commands."""

import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from filelock import FileLock

from tests.places import ROOT

COPIED = ("rau", "pipeline", "dvc.yaml", "params.yaml", ".dvcignore", ".gitignore")
PRELOADED = ["matplotlib.figure", "pandas", "tests.finetuning.synthetic", "tests.synthetic"]
TINY: dict[str, dict[str, Any]] = {
    "dataset": {
        "garments": {
            "seed": 0,
            "train_images": 240,
            "val_images": 120,
            "train_queries": 300,
            "val_queries": 120,
            "image_size": 48,
        }
    },
    "encoder": {"steps": 3, "batch_size": 16, "pairs": 32},
    "finetune": {"epochs": 1, "batch_size": 64},
    "train": {"epochs": 2, "batch_size": 64, "threads": 1},
    "evaluate": {"bootstrap": 50},
}


def environment() -> dict[str, str]:
    """As in a new shell, with this Python's commands first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Every process of the project would compile the library again where it may not keep bytecode.
    others = ("DVC_", "MLFLOW_", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    names = {
        f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    return kept | names | {"PATH": path}


def call(folder: Path, *command: str, code: int = 0, **extra: str) -> str:
    """Run a command and return all it printed.

    It prints to a file: a pipe would be open until whatever it leaves in the background ends.
    """
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment() | extra,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=400,
            check=False,
        )
        output.seek(0)
        printed = output.read().decode()
    assert done.returncode == code, f"{command}\n{printed}"
    return printed


def dvc(folder: Path, *commands: str) -> str:
    """Run DVC commands in one process, as its start takes longer than most; return what they print.

    Raises:
        AssertionError: when one ends with another code than 0; those after it do not run.
    """
    script = (
        "import shlex, sys; from dvc.cli import main\n"
        "for line in sys.argv[1:]:\n"
        "    assert main(shlex.split(line)) == 0, line"
    )
    return call(folder, sys.executable, "-c", script, *commands)


def stage(folder: Path, name: str, *arguments: str, code: int = 0, **extra: str) -> str:
    """Run a stage as `python -m` does and return all it printed.

    It runs in this process: a new one would import torch for seconds to work for a moment. That
    stages run as commands is what `dvc repro` shows.
    """
    return _module(folder, f"pipeline.{name}", *arguments, code=code, **extra)


def command(folder: Path, *arguments: str, code: int = 0, **extra: str) -> str:
    """Run a command of `rau` likewise and return all it printed."""
    return _module(folder, "rau", *arguments, code=code, **extra)


def _module(folder: Path, name: str, *arguments: str, code: int, **extra: str) -> str:
    printed = io.StringIO()
    with (
        chdir(folder),
        patch.dict(os.environ, environment() | extra, clear=True),
        patch.object(sys, "argv", [name, *arguments]),
        redirect_stdout(printed),
        redirect_stderr(printed),
        warnings.catch_warnings(),
    ):
        # A stage that another one has imported runs anew all the same.
        warnings.filterwarnings("ignore", ".* found in sys.modules", RuntimeWarning)
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
            ended = 0
        except SystemExit as end:
            ended = int(end.code or 0)
    assert ended == code, f"{name} {arguments}\n{printed.getvalue()}"
    return printed.getvalue()


def error_line(printed: str) -> str:
    """The one line of an error among what a command printed."""
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, printed
    assert "Traceback" not in printed
    return lines[0]


def only_line(printed: str) -> str:
    """What a command printed, which is one line."""
    lines = printed.strip().splitlines()
    assert len(lines) == 1, printed
    return lines[0]


def start(folder: Path, name: str, *arguments: str) -> BaseProcess:
    """A module's command line in a process of its own, which may be killed."""
    return forked(partial(_module, code=0), folder, name, *arguments)


def forked(work: Callable[..., object], *arguments: object) -> BaseProcess:
    """A process that works on its own, and may be killed.

    It is forked from a server that has imported what is slow to import, so that it is at work at
    once. A test worker has one server, for all of its tests.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


def fresh(folder: Path, changes: Mapping[str, Mapping[str, Any]]) -> Path:
    """A project before its first `dvc repro`, in a git repository of its own.

    Args:
        changes: of parameters, by section.
    """
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
    shutil.copy(ROOT / ".dvc/.gitignore", folder / ".dvc/.gitignore")
    use(folder, **changes)
    call(folder, "git", "init", "-q", "-b", "main")
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "start")
    return folder


def use(folder: Path, **changes: Mapping[str, Any]) -> None:
    """Change parameters of a project, by section."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for section, values in changes.items():
        params[section] |= values
    path.write_text(yaml.safe_dump(params))


def own_features(project: Path) -> str:
    """Draw the features that are needed, in `own`, images and texts of different widths.

    Returns:
        What the list of what is needed printed.
    """
    import numpy as np

    from rau.features.table import write_features

    printed = stage(project, "features", "--list", "needed")
    rng = np.random.default_rng(0)
    (project / "own").mkdir()
    for kind, column, file, width in (
        ("images", "image_id", "image_ids", 24),
        ("texts", "text", "texts", 12),
    ):
        names = json.loads((project / f"needed/{file}.json").read_text())
        matrix = rng.standard_normal((len(names), width)).astype(np.float32)
        write_features(project / f"own/{kind}.parquet", column, names, [matrix], {})
    return printed


def make(folder: Path) -> Path:
    """A tiny project after one `make repro`, which printed the file beside it."""
    fresh(folder, TINY)
    printed = call(folder, sys.executable, "-m", "pipeline.repro")
    folder.with_suffix(".printed").write_text(printed)
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "results")
    return folder


def built(folder: Path) -> Path:
    """The project in this folder, made by the first process that asks for it."""
    made = folder.with_suffix(".made")
    with FileLock(folder.with_suffix(".lock")):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


def runs(project: Path, database: str = "mlflow.db") -> dict[str, dict[str, Any]]:
    """Tracked runs by name."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / database}")
    experiment = client.get_experiment_by_name("rau")
    assert experiment is not None
    return {
        str(run.info.run_name): {
            "params": run.data.params,
            "metrics": run.data.metrics,
            "tags": run.data.tags,
            "files": {f.path for f in client.list_artifacts(run.info.run_id)},
            "seconds": (run.info.end_time - run.info.start_time) / 1000,
            "data": [one.dataset.name for one in (run.inputs.dataset_inputs if run.inputs else ())],
        }
        for run in client.search_runs([experiment.experiment_id])
    }
