"""`dvc repro`, which prints a line a stage and what went wrong, not what DVC does between them."""

import logging
import sys

from dvc.cli import main


def run() -> int:
    """Pass the command line on to DVC; returns its exit code."""
    for name in ("dvc", "dvc_objects", "dvc_data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    code: int = main(["repro", *sys.argv[1:]])
    return code


if __name__ == "__main__":
    sys.exit(run())
