"""Stage `deterministic`: the same head without uncertainty, the baseline of every run."""

from pathlib import Path

from pipeline import stage
from pipeline.train import take, train, without
from rau.project import workspace


def main() -> str:
    """Write `data/models/<dataset>-deterministic/`.

    With `train.start=finetuned` it starts from the fine-tuned composer if that has its
    architecture. With `train.head` it is copied from that head's run. If there is none, the folder
    contains the reason.
    """
    from rau.models.config import without_uncertainty
    from rau.training import fit
    from rau.training.triplets import TooFew

    params = workspace.load_params()
    folder = workspace.deterministic(params.dataset.name)
    if params.train.head is not None:
        return take(params, folder, deterministic=True)
    try:
        return train(without_uncertainty(params), folder, must_start=False)
    except TooFew:
        if fit.needs_training(params):
            raise
        return without(folder, "there are too few train queries for one")


def outputs() -> list[Path]:
    """The head, or why there is none."""
    folder = workspace.deterministic(workspace.load_params().dataset.name)
    return [
        path for name in (workspace.WEIGHTS, workspace.NO_HEAD) if (path := folder / name).exists()
    ]


if __name__ == "__main__":
    stage.run(main, outputs)
