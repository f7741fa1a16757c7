"""Stage `deterministic`: the same head without uncertainty, the baseline of every run."""

from pathlib import Path

from pipeline import stage, workspace
from pipeline.train import train


def main() -> None:
    """Write `data/models/<dataset>-deterministic/`.

    With `train.start=finetuned` it starts from the composer where that has its architecture.
    """
    from rau.models.config import without_uncertainty

    params = workspace.load_params()
    folder = workspace.deterministic(params.dataset.name)
    train(without_uncertainty(params), folder, must_start=False)


def outputs() -> list[Path]:
    """The head."""
    return [workspace.deterministic(workspace.load_params().dataset.name) / workspace.WEIGHTS]


if __name__ == "__main__":
    stage.run(main, outputs)
