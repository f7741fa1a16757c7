"""Heads and training states on disk, as safetensors and JSON; nothing is ever unpickled."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rau.errors import UserError
from rau.files import atomic_path, read_json, write_text
from rau.models.head import ComposedHead, HeadConfig
from rau.params import Section

WEIGHTS = "head.safetensors"
DESCRIPTION = "head.json"
MAX_JSON_BYTES = 1 << 20
_MAX_HEADER_BYTES = 1 << 20
_AGAIN = "train again or fetch it again"


class _Description(Section):
    """What `head.json` holds."""

    format: Literal["rau-head-1"] = "rau-head-1"
    config: HeadConfig
    weights_sha256: str
    extra: dict[str, Any]


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU that share no memory, as safetensors asks for."""
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }


def save(folder: Path, head: ComposedHead, extra: dict[str, Any]) -> None:
    """Write a head to `folder`, each file whole or not at all.

    Weights come first: a stop between the two files leaves a pair whose digests differ, which
    `load` refuses.

    Args:
        folder: made if missing.
        head: on any device.
        extra: free JSON to keep with it.

    Raises:
        TypeError: when `extra` is not JSON.
        ValueError: when the description is larger than `load` accepts.
        UserError: when the disk is full or the folder cannot be written.
    """
    weights = safetensors.torch.save(_plain(head.state_dict()))
    description = {
        "format": "rau-head-1",
        "config": head.config.model_dump(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "extra": extra,
    }
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    if len(text.encode()) > MAX_JSON_BYTES:
        raise ValueError(f"the description of the head is larger than {MAX_JSON_BYTES} bytes")
    with atomic_path(folder / WEIGHTS) as temporary:
        temporary.write_bytes(weights)
    write_text(folder / DESCRIPTION, text)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {_AGAIN}") from error


def _read_description(path: Path) -> _Description:
    if _size(path) > MAX_JSON_BYTES:
        raise UserError(f"{path} is larger than {MAX_JSON_BYTES} bytes; {_AGAIN}")
    try:
        return _Description.model_validate(read_json(path, "head description"))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {key}: {first['msg']}; {_AGAIN}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {type(error).__name__}; {_AGAIN}") from error


def _read_weights(path: Path, sha256: str, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Read tensors that have the names, shapes and types of `expected`, and this digest."""
    most = sum(value.numel() * value.element_size() for value in expected.values())
    if _size(path) > most + _MAX_HEADER_BYTES:
        raise UserError(f"{path} is larger than its configuration allows; {_AGAIN}")
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise UserError(f"{path} is not the file that {DESCRIPTION} describes; {_AGAIN}")
        tensors = safetensors.torch.load(data)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {_AGAIN}") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is not a safetensors file; {_AGAIN}") from error
    for name in sorted(expected.keys() | tensors.keys()):
        want, have = expected.get(name), tensors.get(name)
        if want is None or have is None or (want.shape, want.dtype) != (have.shape, have.dtype):
            raise UserError(f"{path}: {name} does not fit the sizes in {DESCRIPTION}; {_AGAIN}")
    return tensors


def load(folder: Path, device: str | torch.device) -> tuple[ComposedHead, dict[str, Any]]:
    """Read what `save` wrote; the head comes in evaluation mode.

    Raises:
        UserError: when a file is missing, cut short, too large, or does not match the other.
    """
    description = _read_description(folder / DESCRIPTION)
    with torch.device("meta"):
        head = ComposedHead(description.config)
    weights = _read_weights(folder / WEIGHTS, description.weights_sha256, head.state_dict())
    head.load_state_dict(weights, assign=True)
    return head.to(device).eval(), description.extra


def save_state(path: Path, tensors: Mapping[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors of any shapes and their JSON `meta` as one file, whole or not at all.

    Raises:
        TypeError: when `meta` is not JSON.
        UserError: when the disk is full or the folder cannot be written.
    """
    data = safetensors.torch.save(_plain(tensors), metadata={"meta": json.dumps(meta)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_state` wrote, tensors on the CPU.

    Raises:
        UserError: when the file is missing, cut short or of another kind.
    """
    _size(path)
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})["meta"])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a training state of rau; remove it") from error
    if not isinstance(meta, dict):
        raise UserError(f"{path} is not a training state of rau; remove it")
    return tensors, meta


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with a prefix, by the rest of the name."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
