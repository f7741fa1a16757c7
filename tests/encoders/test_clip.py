"""Encoders are written once and loaded offline; random weights are never taken for trained ones."""

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

from rau.encoders import small_clip
from rau.encoders.clip import CONFIG, WEIGHTS, Encoder, check_key, export, load
from rau.errors import UserError

CPU = torch.device("cpu")


def test_small_clip_is_an_open_clip_folder(encoder_folder: Path) -> None:
    assert {CONFIG, WEIGHTS} <= {path.name for path in encoder_folder.iterdir()}
    model = open_clip.create_model(f"local-dir:{encoder_folder}", require_pretrained=True)
    assert model.visual.image_size in (64, (64, 64))


def test_same_seed_same_weights(encoder: Encoder, tmp_path: Path) -> None:
    recipe = {"steps": 1, "batch_size": 8, "pairs": 8, "workers": 1}
    for seed in (0, 1):
        small_clip.train(tmp_path / str(seed), seed=seed, **recipe)
    assert load(tmp_path / "0", CPU).key == encoder.key
    assert load(tmp_path / "1", CPU).key != encoder.key


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    first, last = (
        small_clip.train(tmp_path / str(s), seed=0, steps=s, batch_size=32, pairs=32, workers=1)
        for s in (1, 25)
    )
    assert last < first - 0.5


def test_local_dir_is_exported_unchanged(encoder_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder_folder, tmp_path / "given")
    export("local-dir:given", None, tmp_path / "out", tmp_path)
    one, other = load(encoder_folder, CPU), load(tmp_path / "out", CPU)
    assert other.name == "local-dir:given"
    text = ["is red and has no sleeves"]
    assert torch.equal(one.encode_texts(text), other.encode_texts(text))
    pixels = torch.randint(256, (2, 64, 64, 3), dtype=torch.uint8)
    assert torch.equal(one.encode_images(pixels), other.encode_images(pixels))


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("ViT-Q-7", "openai", "unknown to open_clip"),
        ("ViT-B-32", None, "needs a tag"),
        ("ViT-B-32", "nonsense", "is no tag of ViT-B-32"),
        ("ViT-B-32", "openai", "use ViT-B-32-quickgelu"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "is no tag|use ViT-B-32$"),
        ("local-dir:nowhere", None, "lacks open_clip_config.json"),
        ("local-dir:nowhere", "openai", "lacks open_clip_config.json"),
    ],
)
def test_bad_names_stop_before_any_download(
    tmp_path: Path, name: str, pretrained: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        export(name, pretrained, tmp_path / "out", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"anything")
    with pytest.raises(UserError, match=r"only \.safetensors"):
        export("ViT-B-32", str(tmp_path / "weights.pt"), tmp_path / "out", tmp_path)


def test_weights_of_another_shape_are_refused(encoder_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder_folder, tmp_path / "given")
    config = json.loads((tmp_path / "given" / CONFIG).read_text())
    config["model_cfg"]["embed_dim"] = 64
    (tmp_path / "given" / CONFIG).write_text(json.dumps(config))
    with pytest.raises(UserError, match="cannot be loaded"):
        export("local-dir:given", None, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_incomplete_folder_names_the_stage(encoder_folder: Path, tmp_path: Path, name: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(encoder_folder, broken)
    (broken / name).write_bytes((broken / name).read_bytes()[:100])
    with pytest.raises(UserError, match=r"pipeline\.encoder"):
        load(broken, CPU)
    (broken / name).unlink()
    with pytest.raises(UserError, match=r"pipeline\.encoder"):
        load(broken, CPU)


def test_batch_larger_than_the_pairs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"encoder\.batch_size"):
        small_clip.train(tmp_path / "x", seed=0, steps=1, batch_size=9, pairs=8, workers=1)


def test_weights_for_the_built_in_one_are_refused() -> None:
    with pytest.raises(UserError, match=r"encoder\.pretrained must be null"):
        small_clip.check("openai")


def test_pictures_are_prepared_from_files_and_from_bytes(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.effect_noise((50, 80), 80).save(path)
    assert encoder.prepare(path).shape == (64, 64, 3)
    assert torch.equal(encoder.prepare(path), encoder.prepare(path.read_bytes()))
    (tmp_path / "no.png").write_text("no")
    with pytest.raises(UserError, match=r"no\.png cannot be read as an image"):
        encoder.prepare(tmp_path / "no.png")


def test_key_of_another_encoder(encoder: Encoder) -> None:
    check_key(encoder, {"key": encoder.key})
    with pytest.raises(UserError, match="another encoder"):
        check_key(encoder, {"key": "other"})
