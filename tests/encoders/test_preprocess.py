"""Preprocessing by name, as fine-tuning may change it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rau.encoders import clip
from rau.encoders.export import export
from rau.encoders.label import write_label
from rau.encoders.preprocess import Name, TargetPad

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("size", "padded"),
    [((100, 100), (100, 100)), ((125, 100), (125, 100)), ((100, 300), (240, 300))],
)
def test_target_pad_widens_to_the_ratio(size: tuple[int, int], padded: tuple[int, int]) -> None:
    picture = TargetPad(1.25)(Image.new("RGB", size, "white"))
    assert picture.size == padded
    assert np.asarray(picture).mean() == pytest.approx(
        255 * size[0] * size[1] / (padded[0] * padded[1])
    )


@pytest.mark.parametrize("name", ["stretch", "center", "targetpad"])
def test_a_changed_folder_prepares_pictures_in_the_changed_way(
    name: Name, encoder_folder: Path, tmp_path: Path
) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 30, 3), np.uint8))
    before = clip.load(encoder_folder, CPU)
    changed = clip.with_preprocess(before, name)
    clip.save_changed(tmp_path / "new", encoder_folder, changed.model, name, "more")
    written = clip.load(tmp_path / "new", CPU)
    assert torch.equal(written.crop(picture), changed.crop(picture))
    # Features that fine-tuning reads and stores are those of the folder that it writes.
    assert (changed.image_key, changed.text_key) == (written.image_key, before.text_key)
    # The encoder's own way is a crop of the centre.
    assert (changed.image_key == before.image_key) == (name == "center")
    # The folder as an encoder of one's own.
    export(f"local-dir:{tmp_path / 'new'}", None, tmp_path / "again", tmp_path)
    again = clip.load(tmp_path / "again", CPU)
    assert torch.equal(again.crop(picture), changed.crop(picture))
    seen = {
        "stretch": (picture.resize((64, 64), Image.Resampling.BICUBIC), 0),
        "center": (picture.resize((64, 192), Image.Resampling.BICUBIC).crop((0, 64, 64, 128)), 1),
    }
    if name in seen:
        wanted, tolerance = seen[name]
        far = np.abs(written.crop(picture).numpy().astype(int) - np.asarray(wanted).astype(int))
        assert far.max() <= tolerance
    else:
        assert (written.crop(picture)[:, 0] == 0).all()
        assert (written.crop(picture)[32, 32] != 0).any()


def test_towers_have_keys_of_their_own(encoder_folder: Path, tmp_path: Path) -> None:
    encoder = clip.load(encoder_folder, CPU)
    with torch.no_grad():
        encoder.model.token_embedding.weight[0, 0] += 1
    clip.save_changed(tmp_path / "text", encoder_folder, encoder.model, "own", "changed")
    with torch.no_grad():
        encoder.model.logit_scale += 1
    clip.save_changed(tmp_path / "scale", encoder_folder, encoder.model, "own", "changed")
    clip.save_changed(tmp_path / "crop", encoder_folder, encoder.model, "stretch", "changed")
    before, text, scale, crop = (
        clip.load(folder, CPU)
        for folder in (encoder_folder, *(tmp_path / name for name in ("text", "scale", "crop")))
    )
    assert text.image_key == before.image_key
    assert text.text_key != before.text_key
    assert (scale.image_key, scale.text_key) == (text.image_key, text.text_key)
    assert crop.image_key != scale.image_key
    assert crop.text_key == scale.text_key


def test_a_tokenizer_belongs_to_the_texts(encoder_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder_folder, tmp_path / "new")
    (tmp_path / "new" / "vocabulary.json").write_text(json.dumps({"a": 1}))
    write_label(tmp_path / "new", "new", None)
    before, after = clip.load(encoder_folder, CPU), clip.load(tmp_path / "new", CPU)
    assert after.text_key != before.text_key
    assert after.image_key == before.image_key
