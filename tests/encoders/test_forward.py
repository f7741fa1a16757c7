"""What the towers leave out cannot change a feature."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from rau.encoders.clip import Encoder
from rau.encoders.forward import autocast, compute_dtype, normalise, text_features, text_lengths

CPU = torch.device("cpu")
TEXTS = [
    "red",
    "has no sleeves",
    "is longer and has a collar, two pockets and a darker blue",
    "x y",
]
VISION = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}


def model_of(kind: str, **text: object) -> torch.nn.Module:
    torch.manual_seed(0)
    make = getattr(open_clip, kind)
    model: torch.nn.Module = make(embed_dim=16, vision_cfg=VISION, text_cfg=TEXT | text)
    return model.eval()


def tokens_of(texts: list[str]) -> torch.Tensor:
    tokens: torch.Tensor = open_clip.SimpleTokenizer(context_length=20)(texts)
    return tokens


@pytest.mark.parametrize("kind", ["CLIP", "CustomTextCLIP"])
@pytest.mark.parametrize("pool", [{}, {"pool_type": "eos", "eos_id": 49407}])
def test_causal_texts_are_cut_without_a_trace(kind: str, pool: dict[str, object]) -> None:
    model = model_of(kind, **pool)
    tokens = tokens_of(TEXTS)
    lengths = text_lengths(model, tokens)
    assert lengths.tolist() == [(row != 0).sum().item() for row in tokens]
    with torch.inference_mode():
        whole = model.encode_text(tokens)  # type: ignore[operator]
        for row, length in enumerate(lengths.tolist()):
            cut = text_features(model, tokens[row : row + 1, :length])
            torch.testing.assert_close(cut, whole[row : row + 1], atol=1e-5, rtol=0)
        assert torch.equal(model.encode_text(tokens), whole)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("CLIP", {"no_causal_mask": True}),
        ("CLIP", {"pool_type": "last"}),
        ("CustomTextCLIP", {"embed_cls": True}),
        ("CustomTextCLIP", {"pool_type": "first", "no_causal_mask": True}),
    ],
)
def test_other_text_towers_keep_their_padding(kind: str, text: dict[str, object]) -> None:
    assert text_lengths(model_of(kind, **text), tokens_of(TEXTS)).tolist() == [20] * len(TEXTS)


def test_pictures_are_prepared_as_open_clip_does(encoder: Encoder, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number, (width, height, mode) in enumerate(
        [(97, 131, "RGB"), (64, 64, "L"), (33, 20, "P")]
    ):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).convert(mode).save(path)
        with Image.open(path) as image:
            plain = encoder.preprocess(image.convert("RGB"))
        last = encoder.preprocess.transforms[-1]
        fast = normalise(encoder.prepare(path)[None], last.mean, last.std)
        assert torch.equal(fast[0], plain)
        assert fast.is_contiguous(memory_format=torch.channels_last)


def test_channels_last_is_the_plain_forward_pass(encoder: Encoder, encoder_folder: Path) -> None:
    plain = open_clip.create_model(f"local-dir:{encoder_folder}").eval()
    pictures = torch.randint(256, (5, 64, 64, 3), dtype=torch.uint8)
    last = encoder.preprocess.transforms[-1]
    with torch.inference_mode():
        expected = plain.encode_image(normalise(pictures, last.mean, last.std).contiguous())
    torch.testing.assert_close(encoder.encode_images(pictures), expected, atol=1e-5, rtol=1e-5)


def test_precision() -> None:
    assert compute_dtype("auto", CPU) == torch.float32
    assert compute_dtype("auto", torch.device("cuda")) == torch.float16
    assert compute_dtype("bfloat16", CPU) == torch.bfloat16


@pytest.mark.parametrize(("dtype", "least"), [(torch.float16, 0.9999), (torch.bfloat16, 0.999)])
def test_half_precision_keeps_the_direction(dtype: torch.dtype, least: float) -> None:
    model = model_of("CLIP")
    pixels, tokens = torch.randn(7, 3, 32, 32), tokens_of(TEXTS)
    with torch.inference_mode():
        exact = [model.encode_image(pixels), model.encode_text(tokens)]  # type: ignore[operator]
        with autocast(dtype, CPU):
            near = [model.encode_image(pixels), model.encode_text(tokens)]  # type: ignore[operator]
    for one, other in zip(exact, near, strict=True):
        assert torch.cosine_similarity(one, other.float()).min() > least
