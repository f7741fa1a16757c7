"""Encoders are written once and loaded offline; random weights are never taken for trained ones."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image

from rau.encoders import clip, small_clip
from rau.encoders.clip import CONFIG, WEIGHTS, Encoder, load
from rau.encoders.encoder import load_maker
from rau.encoders.export import export
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
        ("ViT-B-32", "nonsense", "is not a tag of ViT-B-32"),
        ("ViT-B-32", "openai", "use ViT-B-32-quickgelu"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "is not a tag|use ViT-B-32$"),
        ("local-dir:nowhere", None, "has no open_clip_config.json"),
        ("local-dir:nowhere", "openai", "has no open_clip_config.json"),
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
    with pytest.raises(UserError, match="run the stage that wrote it again"):
        load(broken, CPU)
    (broken / name).unlink()
    with pytest.raises(UserError, match="run the stage that wrote it again"):
        load(broken, CPU)


def test_a_flipped_bit_names_the_stage(encoder_folder: Path, tmp_path: Path) -> None:
    for path in sorted(encoder_folder.iterdir()):
        broken = shutil.copytree(encoder_folder, tmp_path / path.name)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        (broken / path.name).write_bytes(content)
        with pytest.raises(UserError, match="run the stage that wrote it again"):
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


def test_search_computes_as_the_features_were_made(encoder: Encoder, encoder_folder: Path) -> None:
    made = load(encoder_folder, CPU, "bfloat16")
    again = load_maker(encoder_folder, CPU, {"key": encoder.key, "arithmetic": "bfloat16"})
    assert torch.equal(again.encode_texts(["is red"]), made.encode_texts(["is red"]))
    assert not torch.equal(again.encode_texts(["is red"]), encoder.encode_texts(["is red"]))
    for metadata, said in (
        ({"key": "other"}, "another encoder"),
        ({"key": encoder.key, "arithmetic": "int8"}, "'int8' is unknown"),
    ):
        with pytest.raises(UserError, match=said):
            load_maker(encoder_folder, CPU, metadata)


def variant(folder: Path, to: Path, preprocess: dict[str, object], **text: object) -> str:
    """A copy of an encoder's folder with other preprocessing or text settings; its name."""
    shutil.copytree(folder, to)
    config = json.loads((to / CONFIG).read_text())
    config["preprocess_cfg"] |= preprocess
    config["model_cfg"]["text_cfg"] |= text
    (to / CONFIG).write_text(json.dumps(config))
    return f"local-dir:{to}"


@pytest.mark.parametrize(
    "preprocess",
    [
        {"fill_color": 255, "resize_mode": "longest"},
        {"resize_mode": "squash", "interpolation": "bilinear"},
        {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.3, 0.4], "size": 999},
    ],
)
def test_the_whole_preprocessing_is_exported(
    encoder_folder: Path, tmp_path: Path, preprocess: dict[str, object]
) -> None:
    name = variant(encoder_folder, tmp_path / "given", preprocess)
    export(name, None, tmp_path / "out", tmp_path)
    picture = Image.effect_noise((200, 90), 80).convert("RGB")
    model, _, theirs = open_clip.create_model_and_transforms(name)
    ours = load(tmp_path / "out", CPU)
    with torch.inference_mode():
        expected = model.eval().encode_image(theirs(picture)[None])
    found = ours.encode_images(ours.crop(picture)[None])
    assert torch.cosine_similarity(found, expected).item() > 0.9999


@pytest.mark.parametrize(
    "text",
    [
        {"tokenizer_kwargs": {"clean": "canonicalize"}},
        {"tokenizer_kwargs": {"clean": "whitespace"}},
        {"context_length": 32, "no_causal_mask": True},
    ],
)
def test_texts_of_a_written_folder_are_open_clips(
    encoder_folder: Path, tmp_path: Path, text: dict[str, object]
) -> None:
    export(
        variant(encoder_folder, tmp_path / "given", {}, **text), None, tmp_path / "out", tmp_path
    )
    texts = ["A red_dress,  with STRAPS", "it's", "“é” &amp; x", "very " * 50]
    model = open_clip.create_model(f"local-dir:{tmp_path / 'given'}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'given'}")
    with torch.inference_mode():
        expected = model.encode_text(tokenizer(texts))
    found = load(tmp_path / "out", CPU).encode_texts(texts)
    assert torch.cosine_similarity(found, expected).min() > 0.9999


@pytest.mark.parametrize(
    ("lost", "kind"), [("fill_color", "images"), ("clean", "texts"), ("mean", "images")]
)
def test_a_folder_with_other_features_is_not_written(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, kind: str
) -> None:
    name = variant(
        encoder_folder, tmp_path / "given", {"fill_color": 255, "resize_mode": "longest"}
    )
    whole = clip.save

    def forgetful(folder: Path, model: Any, config: Any, pad: float | None) -> None:
        whole(folder, model, config, pad)
        written = json.loads((folder / CONFIG).read_text())
        if lost == "fill_color":
            del written["preprocess_cfg"]["fill_color"]
        elif lost == "clean":
            written["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"clean": "whitespace"}
        else:
            written["preprocess_cfg"]["mean"] = [0.1, 0.9, 0.1]
        (folder / CONFIG).write_text(json.dumps(written))

    monkeypatch.setattr("rau.encoders.export.save", forgetful)
    with pytest.raises(UserError, match=rf"other features of {kind} than open_clip's own \(cosine"):
        export(name, None, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_root_logger_keeps_its_level(encoder_folder: Path, tmp_path: Path) -> None:
    root = logging.getLogger()
    before = root.level
    load(encoder_folder, CPU)
    with pytest.raises(UserError):
        load(tmp_path, CPU)
    export(f"local-dir:{encoder_folder}", None, tmp_path / "out", tmp_path)
    assert root.level == before


def test_texts_beyond_the_context_are_counted(encoder: Encoder) -> None:
    most = " ".join(["red"] * 30)  # With start and end 32 tokens, all that the context holds.
    assert encoder.tokenizer.context_length == 32
    assert encoder.count_cut([]) == encoder.count_cut(["", "is red", most]) == 0
    assert encoder.count_cut([most, f"{most} red", f"{most} and has no sleeves"]) == 2


def test_a_tokenizer_that_draws_words_at_random_is_refused(
    encoder_folder: Path, tmp_path: Path
) -> None:
    kwargs = {"reduction_mask": "random"}
    name = variant(encoder_folder, tmp_path / "given", {}, tokenizer_kwargs=kwargs)
    with pytest.raises(UserError, match="reduction_mask"):
        export(name, None, tmp_path / "out", tmp_path)
