"""Stage `encoder`: an open_clip `local-dir:` folder, after which no stage needs the network."""

from pathlib import Path

from pipeline import stage, workspace


def main() -> None:
    """Write `data/encoder/`, trained here or exported from open_clip."""
    from rau.encoders import clip, export, small_clip

    everything = workspace.load_params()
    params = everything.encoder
    stage.limit_threads(0)
    if everything.features.source is not None:
        clip.mark_unused(workspace.ENCODER)
    elif params.name == small_clip.NAME:
        small_clip.check(params.pretrained)
        recipe = params.model_dump(exclude={"name", "pretrained"})
        small_clip.train(workspace.ENCODER, **recipe, workers=stage.cores())
    else:
        export.export(params.name, params.pretrained, workspace.ENCODER, workspace.main_checkout())


def outputs() -> list[Path]:
    """The label, and the weights where there are any."""
    return sorted(path for path in workspace.ENCODER.glob("*") if path.is_file())


if __name__ == "__main__":
    stage.run(main, outputs)
