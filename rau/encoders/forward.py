"""Forward passes of an open_clip model's two towers, without work that cannot change the result.

Pictures come as bytes and are normalised on the device, whole batches at a time, with the very
operations of torchvision's ToTensor and Normalize. Texts are cut to the longest of their batch
where the text tower is causal and reads its feature at the end of the text.
"""

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import TextTransformer
from torch import Tensor

Precision = Literal["auto", "float32", "float16", "bfloat16"]


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What matrix products are computed in; `auto` is float16 on CUDA, float32 elsewhere.

    Features in float16 keep a cosine of 0.9999 and more with float32's, in bfloat16 of 0.999.
    """
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def autocast(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """Weights stay in float32, products are in `dtype`; what is delicate stays in float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


@cache
def _row(values: tuple[float, ...], width: int, device: torch.device) -> Tensor:
    """The values repeated for every pixel; cached, as creating them would synchronise a GPU."""
    return torch.tensor(values, device=device).repeat(width)


def normalise(pictures: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Model input (B, 3, height, width) float32, channels last, of bytes (B, height, width, 3)."""
    count, height, width, channels = pictures.shape
    # Whole picture rows against rows of repeated means: a last axis of 3 would not vectorise.
    rows = pictures.reshape(count * height, width * channels).float().div_(255)
    rows.sub_(_row(tuple(mean), width, rows.device)).div_(_row(tuple(std), width, rows.device))
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)


def _causal(model: Any) -> tuple[Any, str, int] | None:
    """The text tower, how it finds a text's end and the end's token, if no later token matters."""
    if type(model) is CLIP:
        tower, pool, end = model, model.text_pool_type, model.text_eos_id
    elif type(model) is CustomTextCLIP and type(model.text) is TextTransformer:
        tower, pool, end = model.text, model.text.pool_type, model.text.eos_id
        if tower.cls_emb is not None:
            return None
    else:
        return None
    return (tower, pool, end) if tower.attn_mask is not None and pool in ("argmax", "eos") else None


def text_lengths(model: Any, tokens: Tensor) -> Tensor:
    """How many leading tokens of each text (N, context) its feature depends on, (N,)."""
    found = _causal(model)
    if found is None:
        return torch.full((len(tokens),), tokens.shape[1])
    _, pool, end = found
    marked = tokens if pool == "argmax" else (tokens == end).int()
    return marked.argmax(dim=1) + 1


def text_features(model: Any, tokens: Tensor) -> Tensor:
    """Features (B, d_text) of tokens (B, L), where L may be shorter than the model's context."""
    found = _causal(model)
    if found is None or tokens.shape[1] == found[0].positional_embedding.shape[0]:
        features: Tensor = model.encode_text(tokens)
        return features
    tower, length = found[0], tokens.shape[1]
    short = copy.copy(tower)
    # Instance attributes come before a module's parameters: the tower itself stays as it is.
    short.__dict__.update(
        positional_embedding=tower.positional_embedding[:length],
        attn_mask=tower.attn_mask[:length, :length],
    )
    features = short.encode_text(tokens) if tower is model else short(tokens)
    return features
