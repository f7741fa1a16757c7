"""Stage `encoder`: an open_clip `local-dir:` folder, after which nothing needs the network."""

from pathlib import Path

from pipeline import stage, workspace


def main() -> None:
    """Write `data/encoder/`, trained here or exported from open_clip."""
    from rau import encoder, small_clip

    params = workspace.load_params().encoder
    stage.limit_threads(0)
    if params.name == small_clip.NAME:
        small_clip.check(params.pretrained)
        recipe = params.model_dump(exclude={"name", "pretrained"})
        small_clip.train(workspace.ENCODER, **recipe, workers=stage.cores())
    else:
        encoder.export(params.name, params.pretrained, workspace.ENCODER, workspace.main_checkout())


def outputs() -> list[Path]:
    """The weights."""
    return [workspace.ENCODER / "open_clip_model.safetensors"]


if __name__ == "__main__":
    stage.run(main, outputs)
