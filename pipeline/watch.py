"""Stage `watch`: list the files of the user's folder, so that DVC detects changes."""

from pathlib import Path

from pipeline import stage
from rau.project import workspace


def main() -> str:
    """Write `data/watched/<dataset>.txt`: one line per file of `dataset.root`."""
    from rau.datasets.watched import listing
    from rau.files import write_lines

    dataset = workspace.load_params().dataset
    root = None if dataset.root is None else workspace.store(dataset)
    lines = ["no dataset.root"] if root is None else listing(root)
    count = write_lines(Path("data/watched") / f"{dataset.name}.txt", lines)
    return "no dataset.root" if root is None else f"{count:,} files in {root}"


if __name__ == "__main__":
    stage.run(main)
