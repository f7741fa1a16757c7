"""Heads and training states on disk: tensors and JSON in one safetensors file, never unpickled."""

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rau.errors import UserError
from rau.files import write_bytes
from rau.models.config import HeadConfig
from rau.models.head import ComposedHead
from rau.params import Section, first_error

WEIGHTS = "head.safetensors"
MAX_JSON_BYTES = 1 << 24
# The names and shapes of the tensors beside the JSON, whose quotes are escaped.
_MAX_HEADER_BYTES = 3 * MAX_JSON_BYTES
# The only key of the metadata: safetensors writes several in no fixed order.
_KEY = "meta"
# The tensor that guards the others and the JSON against damage.
_CHECKSUM = "crc32"


class _Description(Section):
    """The JSON of a head."""

    format: Literal["rau-head-2"] = "rau-head-2"
    config: HeadConfig
    extra: dict[str, Any]


def save(folder: Path, head: ComposedHead, extra: dict[str, Any]) -> None:
    """Write a head to `head.safetensors` in `folder`, whole or not at all.

    The same head and `extra` give the same bytes.

    Args:
        folder: created if missing.
        head: on any device.
        extra: JSON to keep with it, its keys in this order.

    Raises:
        TypeError: when `extra` is not JSON.
        ValueError: when `extra` is larger than `load` accepts.
        UserError: when the disk is full or the folder cannot be written.
    """
    description = _Description(config=head.config, extra=extra)
    save_state(folder / WEIGHTS, head.state_dict(), description.model_dump())


def load(folder: Path, device: str | torch.device) -> tuple[ComposedHead, dict[str, Any]]:
    """Read what `save` wrote; the head is in evaluation mode.

    Raises:
        UserError: when the file is missing, truncated, too large, or its tensors do not fit the
            configuration.
    """
    path = folder / WEIGHTS
    remedy = "train again or fetch it again"
    with _open(path, "a head in this version's format", remedy) as (tensors, meta):
        try:
            description = _Description.model_validate(meta)
        except ValidationError as error:
            key, message = first_error(error)
            raise UserError(f"{path}: {key}: {message}; {remedy}") from error
        with torch.device("meta"):
            head = ComposedHead(description.config)
        check_shapes(path, head.state_dict(), tensors, remedy)
        head.load_state_dict(_plain(tensors), assign=True)
    return head.to(device).eval(), description.extra


def save_state(path: Path, tensors: Mapping[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors of any shapes and their JSON `meta` as one file, whole or not at all.

    Raises:
        TypeError: when `meta` is not JSON.
        ValueError: when `meta` is larger than `load_state` accepts.
        UserError: when the disk is full or the folder cannot be written.
    """
    text = json.dumps(meta)
    if len(text) > MAX_JSON_BYTES:
        raise ValueError(f"the JSON beside the tensors is larger than {MAX_JSON_BYTES} bytes")
    plain = _plain(tensors)
    plain[_CHECKSUM] = torch.tensor(_checksum(plain, text))
    write_bytes(path, safetensors.torch.save(plain, metadata={_KEY: text}))


def load_state(
    path: Path, what: str = "a training state of rau", remedy: str = "remove it"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_state` wrote, tensors on the CPU.

    Raises:
        UserError: when the file is missing, truncated or not `what`; it names the `remedy`.
    """
    with _open(path, what, remedy) as (tensors, meta):
        return _plain(tensors), meta


def check_shapes(
    path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], remedy: str
) -> None:
    """Refuse tensors of other names, shapes or types than expected.

    Raises:
        UserError: naming the first of them.
    """
    for name in sorted(expected.keys() | found.keys()):
        want, have = expected.get(name), found.get(name)
        if want is None or have is None or (want.shape, want.dtype) != (have.shape, have.dtype):
            raise UserError(f"{path}: {name} does not fit its configuration; {remedy}")


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with a prefix, by the rest of the name."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU that share no memory with each other or with a file."""
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }


def _checksum(tensors: Mapping[str, Tensor], text: str) -> int:
    """CRC-32 of the JSON, and of all names and values."""
    total = zlib.crc32(text.encode())
    for name in sorted(tensors):
        total = zlib.crc32(name.encode(), total)
        value = tensors[name].contiguous().reshape(-1)
        total = zlib.crc32(value.view(torch.uint8).numpy().data, total)
    return total


@contextmanager
def _open(path: Path, what: str, remedy: str) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]]]:
    """Tensors mapped from a file, not read yet, and the JSON beside them.

    Raises:
        UserError: when the file cannot be read or is not `what`; it names the `remedy`.
    """
    try:
        with path.open("rb") as file:
            # A safetensors file begins with the size of its header.
            if int.from_bytes(file.read(8), "little") > _MAX_HEADER_BYTES:
                raise ValueError("the header is too large")
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {})[_KEY]
            meta = json.loads(text)
            if not isinstance(meta, dict):
                raise TypeError("the JSON is not an object")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        written = tensors.pop(_CHECKSUM, None)
        if written is not None and written.tolist() != _checksum(tensors, text):
            raise ValueError("damaged")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; {remedy}") from error
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not {what}; {remedy}") from error
    yield tensors, meta
