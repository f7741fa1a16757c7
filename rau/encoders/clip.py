"""Encoders as open_clip `local-dir:` folders: written once, then loaded offline."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.factory import LOCAL_DIR_PREFIX
from open_clip.transform import PreprocessCfg
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from rau.encoders.forward import (
    Precision,
    autocast,
    compute_dtype,
    normalise,
    text_features,
    text_lengths,
)
from rau.encoders.label import LABEL, REMEDY, files_of, loading, read_label, read_whole, write_label
from rau.encoders.preprocess import CHANGES, TARGET_PAD, Name, transform
from rau.encoders.towers import digest_tower
from rau.encoders.words import quick
from rau.errors import UserError
from rau.files import digest, digest_files
from rau.pictures import as_rgb

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
ALWAYS = ("mean", "std", "interpolation", "resize_mode")
# Raise it when preprocessing or encoding changes: it is part of the key of every feature.
RECIPE = 1


@dataclass(frozen=True)
class Encoder:
    """A loaded CLIP model with its own preprocessing and tokenizer, an `encoder.Encoder`.

    `key` identifies its features: it changes with weights, configuration or preprocessing.
    `recipes` are the digests of all that images' and texts' features depend on but the weights.
    `config` is open_clip's `model_cfg`; `dtype` is the compute dtype of its matrix products.
    """

    model: Any
    preprocess: Any
    tokenizer: Any
    device: torch.device
    name: str
    weights: str
    key: str
    recipes: tuple[str, str]
    config: dict[str, Any] = field(repr=False, compare=False)
    dtype: torch.dtype = torch.float32

    @cached_property
    def image_key(self) -> str:
        """Identifies the features of images: another text tower does not change it."""
        return digest_tower(self.model, "image", self.recipes[0])

    @cached_property
    def text_key(self) -> str:
        """Identifies the features of texts."""
        return digest_tower(self.model, "text", self.recipes[1])

    @property
    def preprocessing(self) -> str:
        """The transforms of a picture, on one line."""
        return " ".join(repr(self.preprocess).split())

    @property
    def parallel(self) -> bool:
        """On a CPU, where a thread with a core of its own needs no other."""
        return self.device.type == "cpu"

    def load_images(self, sources: Sequence[Path | bytes | Image.Image]) -> Tensor:
        """Pictures as `encode_images` takes them; errors as in `prepare`."""
        return self._pinned(torch.stack([self.prepare(source) for source in sources]))

    def prepare(self, source: Path | bytes | Image.Image) -> Tensor:
        """Decode one image, resized and cropped for the model: uint8 (height, width, 3).

        Raises:
            UserError: when `rau.pictures.open_rgb` does.
        """
        return self.crop(as_rgb(source))

    def crop(self, picture: Image.Image) -> Tensor:
        """An RGB picture, resized and cropped for the model: uint8 (height, width, 3)."""
        for step in self.preprocess.transforms[:-2]:
            picture = step(picture)
        return torch.from_numpy(np.array(picture))

    def encode_images(self, images: Tensor) -> Tensor:
        """Raw image features (B, d_image), float32 on the CPU, of uint8 (B, height, width, 3)."""
        normalize = self.preprocess.transforms[-1]
        pixels = normalise(self._to_device(images), normalize.mean, normalize.std)
        return self._forward(self.model.encode_image, pixels)

    def tokenise(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens (N, context), and how many of each text its feature depends on, (N,)."""
        tokens: Tensor = self.tokenizer(list(texts))
        return tokens, text_lengths(self.model, tokens)

    def by_length(self, texts: Sequence[str]) -> tuple[list[int], Callable[[slice], Tensor]]:
        """Rows of the texts, the longest first, and what gives the tokens of a slice of them."""
        tokens, lengths = self.tokenise(texts)
        # The longest first: workers that end apart then wait for a short batch.
        lengths, order = lengths.sort(stable=True, descending=True)
        ordered = tokens[order]

        def cut(rows: slice) -> Tensor:
            """Tokens (B, L), L no longer than the longest of them needs."""
            return self._pinned(ordered[rows, : int(lengths[rows].max())].contiguous())

        return order.tolist(), cut

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the context, so that their end is left out."""
        context = self.tokenizer.context_length
        longer = self.tokenizer([*texts, ""], context_length=context + 1)[:, context]
        return int((longer[:-1] != longer[-1]).sum())

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Raw text features (B, d_text), float32 on the CPU, of tokens (B, L)."""
        return self._forward(partial(text_features, self.model), self._to_device(tokens))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Raw text features (B, d_text), float32 on the CPU."""
        tokens, lengths = self.tokenise(texts)
        return self.encode_tokens(tokens[:, : int(lengths.max())])

    @property
    def encode_pairs(self) -> None:
        """A picture and a text never meet in CLIP's towers."""
        return None

    def _pinned(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def _to_device(self, tensor: Tensor) -> Tensor:
        # Out of pinned memory the host does not wait for the copy.
        return tensor.to(self.device, non_blocking=True)

    @torch.inference_mode()
    def _forward(self, tower: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        with autocast(self.dtype, self.device):
            return tower(inputs).float().cpu()


@contextmanager
def quiet() -> Iterator[None]:
    """Without open_clip's progress and warnings, on the root logger; what matters is raised."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


def save(folder: Path, model: Any, config: dict[str, Any], pad: float | None = None) -> None:
    """Write configuration and weights; `config` is open_clip's `model_cfg`, `pad` TargetPad's."""
    default = asdict(PreprocessCfg())
    # What open_clip's own writer keeps, and what it forgets; the size is the model's.
    preprocess = {
        key: value
        for key, value in model.visual.preprocess_cfg.items()
        if key in ALWAYS or (key != "size" and value != default[key])
    }
    if pad is not None:
        preprocess[TARGET_PAD] = pad
    (folder / CONFIG).write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
    )
    _save_weights(folder, model)


def with_preprocess(encoder: Encoder, name: Name) -> Encoder:
    """The encoder with its pictures cropped, stretched or padded as the name says, and the keys of
    such features."""
    if name == "own":
        return encoder
    changed = transform(encoder.model.visual.preprocess_cfg | CHANGES[name])
    return replace(
        encoder,
        preprocess=changed,
        key=digest([encoder.key, repr(changed)], 16),
        recipes=(_image_recipe(encoder.config, changed), encoder.recipes[1]),
    )


def _image_recipe(config: dict[str, Any], preprocess: Any) -> str:
    return digest([RECIPE, config, repr(preprocess)], 64)


def save_changed(folder: Path, base: Path, model: Any, name: Name, pretrained: str) -> None:
    """Write another encoder of the same kind: new weights, perhaps other preprocessing.

    Args:
        base: its folder; all that is not changed is taken over.
        name: of the preprocessing.
        pretrained: says where the weights are from.
    """
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns(WEIGHTS, LABEL))
    config = json.loads((folder / CONFIG).read_text())
    config["preprocess_cfg"] = config.get("preprocess_cfg", {}) | CHANGES[name]
    (folder / CONFIG).write_text(json.dumps(config, indent=2))
    _save_weights(folder, model)
    write_label(folder, read_label(base).name, pretrained)


def _save_weights(folder: Path, model: Any) -> None:
    state = model.state_dict().items()
    save_file({k: v.detach().cpu().contiguous() for k, v in state}, folder / WEIGHTS)


def load(folder: Path, device: torch.device, precision: Precision = "auto") -> Encoder:
    """Load an encoder's folder, without network.

    Raises:
        UserError: when it is missing, or any of its files differs from what was written.
    """
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} is not a complete encoder; {REMEDY}")
    label = read_whole(folder)
    source = f"{LOCAL_DIR_PREFIX}{folder.resolve()}"
    with loading(folder), quiet():
        model = open_clip.create_model(source, require_pretrained=True, device=device)
        tokenizer = open_clip.get_tokenizer(source)
    config = json.loads((folder / CONFIG).read_text())
    own = config.get("preprocess_cfg", {})
    preprocess = transform(model.visual.preprocess_cfg | {TARGET_PAD: own.get(TARGET_PAD)})
    others = digest_files(path for path in files_of(folder) if path.name not in (CONFIG, WEIGHTS))
    key = digest([RECIPE, config, label.files, repr(preprocess)], 16)
    return Encoder(
        model=model.eval().to(memory_format=torch.channels_last),
        preprocess=preprocess,
        tokenizer=quick(tokenizer),
        device=device,
        name=label.name,
        weights=label.pretrained or "own",
        key=key,
        recipes=(
            _image_recipe(config["model_cfg"], preprocess),
            digest([RECIPE, config["model_cfg"], others], 64),
        ),
        config=config["model_cfg"],
        dtype=compute_dtype(precision, device),
    )
