"""`dvc repro` that prints one line per stage and all errors, but not DVC's own messages."""

import logging
import sys

from dvc.cli import main


def run() -> int:
    """Run DVC with the command line's arguments; returns its exit code."""
    for name in ("dvc", "dvc_objects", "dvc_data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    code: int = main(["repro", *sys.argv[1:]])
    return code


if __name__ == "__main__":
    sys.exit(run())
