"""Stage `encoder`: an encoder's folder, after which no stage needs the network."""

from pathlib import Path

from pipeline import stage
from rau import cpu
from rau.project import workspace


def main() -> str:
    """Write `data/encoder/`: train the encoder, or export it from one of two libraries."""
    from rau.encoders import export, label, sentence_export, small_clip
    from rau.params import SENTENCE_TRANSFORMERS

    everything = workspace.load_params()
    params = everything.encoder
    cpu.limit_threads(0)
    if everything.features.source is not None:
        label.mark_unused(workspace.ENCODER)
    elif params.name == small_clip.NAME:
        small_clip.check(params.pretrained)
        recipe = params.model_dump(include={"seed", "steps", "batch_size", "pairs"})
        small_clip.train(workspace.ENCODER, **recipe, workers=cpu.cores())
    elif params.name.startswith(SENTENCE_TRANSFORMERS):
        sentence_export.export(params, workspace.ENCODER, workspace.main_checkout())
    else:
        export.export(params.name, params.pretrained, workspace.ENCODER, workspace.main_checkout())
    made = label.read_label(workspace.ENCODER)
    return " ".join(name for name in (made.name, made.pretrained) if name)


def outputs() -> list[Path]:
    """The label, and the weights if there are any."""
    return sorted(path for path in workspace.ENCODER.rglob("*") if path.is_file())


if __name__ == "__main__":
    stage.run(main, outputs)
