"""Where results come from: the commit of the working folder and the machine."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def git_state() -> dict[str, str]:
    """The commit of the working folder, and whether tracked files differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock")
    commit = git("rev-parse", "HEAD")
    standard = {
        "mlflow.source.name": "dvc repro",
        "mlflow.source.type": "PROJECT",
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.branch": git("branch", "--show-current"),
        "mlflow.user": git("config", "user.name"),
    }
    return {name: value for name, value in standard.items() if value} | {
        "git_commit": commit or "unknown",
        "git_dirty": str(bool(changed)).lower(),
    }


def commit() -> str:
    """The commit in words."""
    state = git_state()
    return state["git_commit"] + (" with changes" if state["git_dirty"] == "true" else "")


def machine() -> str:
    """Processor, its cores, system and versions: digits differ from one processor to another."""
    return (
        f"{_processor()}, {os.cpu_count()} cores; {platform.system()} {platform.machine()}; "
        f"Python {platform.python_version()}, torch {version('torch')}"
    )


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or "unknown processor"
