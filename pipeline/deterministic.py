"""Stage `deterministic`: the same head without uncertainty, the baseline of every run."""

from pathlib import Path

from pipeline import stage, workspace
from pipeline.train import train


def main() -> None:
    """Write `data/models/<dataset>-deterministic/`."""
    from rau.models.config import without_uncertainty

    params = workspace.load_params()
    train(without_uncertainty(params), workspace.deterministic(params.dataset.name))


def outputs() -> list[Path]:
    """The head."""
    return [workspace.deterministic(workspace.load_params().dataset.name) / workspace.WEIGHTS]


if __name__ == "__main__":
    stage.run(main, outputs)
