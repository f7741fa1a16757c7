"""Mutations of files by kind: of their bytes, and of what they hold."""

import io
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
import yaml
from PIL import Image

from tests.image_files import saved

ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2**40, 1e308, -1e-320, float("nan"), float("inf"), "", "A", [], {}),
    *("x" * 5000, "\ud800", "a\0b", "../../etc/passwd", "~nobody/x", "é", "e\u0301", "mean", "a/b"),
    *([None], [[[[[[]]]]]], {"a": {"b": 1}}, 10**400, "1" * 5000, "NaN", " ", "\u202e", [1, "a"]),
)
OTHERS = (
    *(b"", b"\0" * 100, b"<html>404</html>", b"\x80\x04N.", b"PAR1", b"PAR1\0\0\0\0PAR1", b"null"),
    *(b"[" * 5000, b"{" * 500, b"\xff\xfe[\x00", b"\xef\xbb\xbf[]", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
    *(
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"BM" + b"\xff" * 60,
        b"a: &a [*a]",
        b"9" * 6000,
        b"[]",
        b"{}",
    ),
)


class NotApplicable(Exception):
    """A mutation that this file has no place for."""


def damage(data: bytes, rng: random.Random) -> bytes:
    """Bytes as disks, transfers and editors damage them."""
    place, size = rng.randrange(len(data) + 1), rng.choice((1, 4, 64, 4096))
    match rng.randrange(8):
        case 0 | 1:
            changed = bytearray(data or b"\0")
            changed[place % len(changed)] ^= 1 << rng.randrange(8)
            return bytes(changed)
        case 2:
            return data[:place]
        case 3:
            return data[:place] + rng.randbytes(size) + data[place:]
        case 4:
            return data[:place] + b"\0" * size + data[place + size :]
        case 5:
            return data[:place] + data[place + size :]
        case 6:
            return data[:place] + data[place - size : place] * 2 + data[place:]
        case _:
            return rng.choice(OTHERS)


def odd(value: Any, rng: random.Random) -> Any:
    """A value with one of its parts replaced, removed, repeated or nested."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        copy: Any = value.copy()
        match rng.randrange(8):
            case 0:
                del copy[key]
            case 1 if isinstance(copy, list):
                copy.insert(key, copy[key])
            case 1:
                copy[f"{key}2"] = copy[key]
            case _:
                copy[key] = odd(value[key], rng)
        return copy
    match rng.randrange(6):
        case 0 if isinstance(value, int | float) and not isinstance(value, bool):
            return rng.choice((-value, value * 10, value + 1, value / 3, str(value)))
        case 1 if isinstance(value, str):
            return rng.choice((value[:-1], value.lower(), f" {value}", value * 2, [value]))
        case 2:
            return [value]
        case _:
            return rng.choice(ODD)


def in_json(data: bytes, rng: random.Random) -> bytes:
    """JSON with an odd value, or in another encoding."""
    try:
        value = odd(json.loads(data), rng)
    except ValueError:
        raise NotApplicable from None
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.1:
        return text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32")), "replace")
    return text.encode("utf-8", "surrogatepass")


def in_yaml(data: bytes, rng: random.Random) -> bytes:
    """YAML with an odd value, a line twice, or one in place of another."""
    if rng.random() < 0.3:
        lines = data.splitlines(keepends=True)
        first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
        return b"".join([*lines[:first], lines[second], *lines[first + rng.randrange(2) :]])
    try:
        return yaml.safe_dump(odd(yaml.safe_load(data), rng), allow_unicode=True).encode(
            "utf-8", "surrogatepass"
        )
    except (yaml.YAMLError, ValueError):
        raise NotApplicable from None


def in_csv(data: bytes, rng: random.Random) -> bytes:
    """A table with an odd cell, row or column."""
    rows = [line.split(",") for line in data.decode().splitlines()]
    row = rng.choice(rows)
    match rng.randrange(4):
        case 0:
            row[rng.randrange(len(row))] = str(rng.choice(ODD))
        case 1:
            rows.remove(row)
        case 2:
            rows.append(row)
        case _:
            column = rng.randrange(len(row))
            rows = [one[:column] + one[column + 1 :] for one in rows]
    return "\n".join(map(",".join, rows)).encode("utf-8", "surrogatepass")


def in_parquet(data: bytes, rng: random.Random) -> bytes:
    """A table with an odd cell, row, column, type or metadata."""
    table = pq.read_table(pa.BufferReader(data))
    name = rng.choice(table.column_names)
    place = table.column_names.index(name)
    rows = len(table)
    match rng.randrange(9):
        case 0:
            table = table.drop_columns([name])
        case 1:
            table = table.append_column("more", pa.array([1] * rows))
        case 2:
            table = table.slice(0, rng.randrange(rows + 1))
        case 3:
            table = pa.concat_tables([table, table.slice(0, 1)])
        case 4:
            table = table.take(pa.array(rng.sample(range(rows), rows)))
        case 5:
            about = {k: rng.choice((b"", b"{", b"\xff", v[:-1])) for k, v in _about(table).items()}
            table = table.replace_schema_metadata(about if rng.random() < 0.7 else None)
        case 6:
            text = pa.array([rng.choice(("a", None, "1")) for _ in range(rows)])
            table = table.set_column(place, name, text)
        case _:
            table = table.set_column(place, name, _odd_column(table[name], rng))
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _about(table: pa.Table) -> dict[bytes, bytes]:
    return dict(table.schema.metadata or {})


def _odd_column(column: pa.ChunkedArray, rng: random.Random) -> pa.Array:
    kind, values = column.type, column.to_pylist()
    place = rng.randrange(len(values)) if values else 0
    if pa.types.is_fixed_size_list(kind):
        wrong = rng.choice((None, np.nan, np.inf, 0.0))
        new: Any = None if wrong is None else [wrong] * kind.list_size
    elif pa.types.is_list(kind):
        new = rng.choice((None, [], [None], [*(values[place] or []), *(values[0] or [])]))
    elif pa.types.is_string(kind):
        new = rng.choice((None, "", values[0], "x" * 5000, "a\0b", "../x", "é", "no such id"))
    else:
        new = rng.choice((None, 0, -1, 10**6, values[0]))
    try:
        return pa.array([*values[:place], new, *values[place + 1 :]], kind)
    except (pa.ArrowException, TypeError, ValueError):
        raise NotApplicable from None


def in_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Weights with an odd tensor, or odd JSON beside them."""
    tensors = safetensors.torch.load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about = header.get("__metadata__")
    tensors.pop("crc32", None)
    name = rng.choice(list(tensors))
    match rng.randrange(6):
        case 0:
            del tensors[name]
        case 1:
            tensors[f"{name}2"] = tensors[name].clone()
        case 2:
            tensors[name] = tensors[name].half()
        case 3:
            tensors[name] = tensors[name][None].contiguous()
        case 4:
            tensors[name] = torch.full_like(tensors[name], torch.nan)
        case _ if about:
            about["meta"] = in_json(about["meta"].encode(), rng).decode("utf-8", "replace")
        case _:
            raise NotApplicable
    return safetensors.torch.save(tensors, about)


def in_image(data: bytes, rng: random.Random) -> bytes:
    """The picture in another mode, format or size."""
    modes = (("L", "PNG"), ("1", "PNG"), ("I;16", "PNG"), ("I;16", "TIFF"), ("F", "TIFF"))
    more = (("RGBA", "PNG"), ("P", "GIF"), ("CMYK", "JPEG"), ("LAB", "TIFF"), ("RGB", "WEBP"))
    mode, kind = rng.choice((*modes, *more))
    size = rng.choice(((1, 1), (3, 90), (48, 48), (9000, 9000) if mode == "1" else (200, 7)))
    return saved(Image.new(mode, size, rng.choice((0, 1))), kind)


KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".yaml": in_yaml,
    ".json": in_json,
    ".csv": in_csv,
    ".parquet": in_parquet,
    ".safetensors": in_safetensors,
    ".jpg": in_image,
    ".png": in_image,
}
