"""Any open_clip model written as an encoder's folder, with the features of open_clip's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.factory import HF_HUB_PREFIX, LOCAL_DIR_PREFIX
from open_clip.tokenizer import HFTokenizer, SigLipTokenizer
from PIL import Image
from torch import Tensor

from rau.encoders.clip import CONFIG, load, quiet, save
from rau.encoders.label import write_label
from rau.encoders.preprocess import TARGET_PAD, transform
from rau.errors import UserError
from rau.files import new_folder, user_path

PICKLED = (".bin", ".pt", ".pth")
LEAST_COSINE = 0.9999


def _check_tag(name: str, pretrained: str | None) -> None:
    """Refuse what open_clip only warns of, before anything is fetched."""
    if name not in open_clip.list_models():
        raise UserError(f"encoder.name={name} is unknown to open_clip; see open_clip.list_models()")
    if pretrained is None:
        raise UserError(f"encoder.pretrained: {name} needs a tag or a .safetensors file")
    if Path(pretrained).is_file():
        if Path(pretrained).suffix != ".safetensors":
            raise UserError(f"encoder.pretrained={pretrained}: only .safetensors files are read")
        return
    tag = open_clip.get_pretrained_cfg(name, pretrained)
    if not tag:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise UserError(f"encoder.pretrained={pretrained} is not a tag of {name}; it has: {known}")
    model_quick = bool(open_clip.get_model_config(name).get("quick_gelu", False))
    if bool(tag.get("quick_gelu", False)) != model_quick:
        other = name.removesuffix("-quickgelu") if model_quick else f"{name}-quickgelu"
        raise UserError(
            f"encoder.name={name} uses another activation than the weights {pretrained} were "
            f"trained with; use {other}"
        )


def _resolve(name: str, root: Path) -> str:
    """Make a `local-dir:` path absolute; check that the folder holds whole safetensors."""
    if not name.startswith(LOCAL_DIR_PREFIX):
        return name
    folder = user_path(name.removeprefix(LOCAL_DIR_PREFIX), root, "encoder.name")
    if not (folder / CONFIG).is_file() or not list(folder.glob("*.safetensors")):
        raise UserError(f"encoder.name: {folder} has no {CONFIG} or no .safetensors file")
    if pickled := [path.name for path in folder.iterdir() if path.suffix in PICKLED]:
        raise UserError(
            f"encoder.name: {folder} holds {pickled[0]}, which open_clip would unpickle; keep the "
            ".safetensors only"
        )
    return f"{LOCAL_DIR_PREFIX}{folder}"


def _target_pad(source: str) -> float | None:
    """The ratio that a folder of ours pads to, which open_clip passes over."""
    if not source.startswith(LOCAL_DIR_PREFIX):
        return None
    config = json.loads((Path(source.removeprefix(LOCAL_DIR_PREFIX)) / CONFIG).read_text())
    ratio: float | None = config.get("preprocess_cfg", {}).get(TARGET_PAD)
    return ratio


def export(name: str, pretrained: str | None, folder: Path, root: Path) -> None:
    """Write any open_clip model as a `local-dir:` folder with the features of open_clip's own.

    Args:
        name: a model's name, an `hf-hub:` or a `local-dir:` path (relative to `root`).
        pretrained: tag or .safetensors file; only for plain names.

    Raises:
        UserError: unknown names, mismatched activations, weights that cannot be loaded, a folder
            that gives other features.
    """
    source = _resolve(name, root)
    if not source.startswith((HF_HUB_PREFIX, LOCAL_DIR_PREFIX)):
        if pretrained is not None and (root / pretrained).is_file():
            pretrained = str(root / pretrained)
        _check_tag(source, pretrained)
    elif pretrained is not None:
        raise UserError(f"encoder.pretrained must be null: {name} brings its own weights")
    try:
        with quiet():
            model = open_clip.create_model(source, pretrained, require_pretrained=True).eval()
            tokenizer = open_clip.get_tokenizer(source)
            pad = _target_pad(source)
            expected = _own_features(model, tokenizer, pad)
    except Exception as error:
        # Hub, network, file and shape errors share no class; each is one that the user can fix.
        raise UserError(
            f"encoder.name={name}, encoder.pretrained={pretrained} cannot be loaded: {error}"
        ) from error
    if isinstance(tokenizer, SigLipTokenizer):
        raise UserError(f"encoder.name={name}: its tokenizer cannot be saved; use its hf-hub: name")
    if getattr(tokenizer, "reduction_fn", None) is not None:
        raise UserError(
            f"encoder.name={name}: its tokenizer picks words of long texts at random; remove "
            f"reduction_mask from its {CONFIG}"
        )
    config = open_clip.get_model_config(source)
    config = config.get("model_cfg", config)
    with new_folder(folder) as temporary:
        save(temporary, model, config, pad)
        if isinstance(tokenizer, HFTokenizer):
            tokenizer.save_pretrained(str(temporary))
        write_label(temporary, name, pretrained)
        del model
        _check_written(temporary, expected, name)


def samples() -> tuple[list[Image.Image], list[str]]:
    """A wide and a high picture, and texts in which tokenizers and contexts differ."""
    grain = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    picture = Image.fromarray(grain)
    texts = ["is Darker, and it's  longer", "“Café” &amp; 2 straps_or_so", "very " * 200 + "long"]
    return [picture.resize((700, 300)), picture.resize((250, 600))], texts


@torch.inference_mode()
def _own_features(model: Any, tokenizer: Any, pad: float | None) -> tuple[Tensor, Tensor]:
    """Features of the samples, (2, d_image) and (3, d_text), as open_clip computes them."""
    preprocess = transform(model.visual.preprocess_cfg | {TARGET_PAD: pad})
    pictures, texts = samples()
    pixels = torch.stack([preprocess(picture) for picture in pictures])
    return model.encode_image(pixels), model.encode_text(tokenizer(texts))


def _check_written(folder: Path, expected: tuple[Tensor, Tensor], name: str) -> None:
    """Refuse a folder whose features differ from open_clip's own.

    Raises:
        UserError: with the lowest cosine.
    """
    written = load(folder, torch.device("cpu"))
    pictures, texts = samples()
    images = torch.stack([written.crop(picture) for picture in pictures])
    found = written.encode_images(images), written.encode_texts(texts)
    for kind, ours, theirs in zip(("images", "texts"), found, expected, strict=True):
        cosine = float(torch.cosine_similarity(ours, theirs.float()).min())
        if not cosine >= LEAST_COSINE:
            raise UserError(
                f"encoder.name={name}: written as a local-dir: folder it gives other features of "
                f"{kind} than open_clip's own (cosine {cosine:.4f}); bring them by features.source"
            )
