"""Feature caches encode only what is missing, and refuse what does not belong together."""

import os
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pyarrow import feather

from rau.devices import threads
from rau.encoders import clip
from rau.encoders.clip import load
from rau.encoders.encoder import Encoder
from rau.encoders.forward import Precision
from rau.errors import UserError
from rau.features import cache, parts
from rau.features.cache import Cache
from rau.features.extraction import Encoded, encode_images, encode_texts
from rau.features.item import Item
from rau.features.items import Chosen, image_items
from rau.features.table import (
    Matrix,
    check_made_for,
    read_features,
    read_pair,
    to_array,
    write_features,
)
from rau.files import digest_file
from rau.retrieval.feature_set import FeatureSet
from rau.schemas import MANIFEST
from rau.shards import Shard
from rau.table_metadata import CUT_TEXTS

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Fake:
    """Stands in for an encoder and counts what it is asked for in its own process."""

    key: str = "k"
    image_key: str = "i"
    text_key: str = "t"
    name: str = "fake"
    weights: str = "none"
    preprocessing: str = "p"
    seen: list[str] = field(default_factory=list)
    limit: int = 10**9
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    scale: int = 1

    @property
    def parallel(self) -> bool:
        return self.device.type == "cpu"

    def load_images(self, sources: Sequence[bytes]) -> torch.Tensor:
        return torch.stack([self.prepare(source) for source in sources])

    def prepare(self, source: bytes) -> torch.Tensor:
        return torch.full((2, 2, 3), int(source), dtype=torch.uint8)

    def encode_images(self, pictures: torch.Tensor) -> torch.Tensor:
        self._count([str(int(v)) for v in pictures[:, 0, 0, 0]])
        return pictures[:, 0, 0, :] * torch.tensor([1.0, 2.0, 3.0]) * self.scale

    def by_length(
        self, texts: Sequence[str]
    ) -> tuple[list[int], Callable[[slice], list[tuple[int, int]]]]:
        tokens = [(ord(text[0]), len(text)) for text in texts]
        return [*range(len(texts))], tokens.__getitem__

    def encode_tokens(self, tokens: Sequence[tuple[int, int]]) -> torch.Tensor:
        self._count([chr(first) + "y" * (length - 1) for first, length in tokens])
        return torch.tensor(tokens).flip(1).float()

    def count_cut(self, texts: Sequence[str]) -> int:
        return sum(len(text) > 30 for text in texts)

    def _count(self, names: Sequence[str]) -> None:
        if len(self.seen) + len(names) > self.limit:
            raise KeyboardInterrupt
        self.seen.extend(names)


def make(folder: Path, fake: Fake, dtype: Any = "float32") -> Cache:
    return Cache(folder / "parts", cast(Encoder, fake), dtype)


@pytest.fixture(autouse=True)
def folder_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def item(name: str, number: int) -> Item:
    """An image whose file holds a number, in the working folder."""
    path = Path(str(number))
    path.write_text(str(number))
    return Item(name, digest_file(path), path)


def items(count: int) -> list[Item]:
    return [item(f"image{i}", i) for i in range(count)]


def test_rows_and_metadata(tmp_path: Path) -> None:
    fake = Fake()
    make(tmp_path, fake).encode_images(tmp_path / "images.parquet", items(5), 2, 2)
    table = read_features(tmp_path / "images.parquet", "image_id")
    assert table.names == [f"image{i}" for i in range(5)]
    assert table.matrix.dtype == np.float32
    assert table.matrix.tolist() == [[i, 2 * i, 3 * i] for i in range(5)]
    assert (table.metadata["key"], table.metadata["encoder"]) == ("k", "fake")


def test_second_run_encodes_only_what_is_new(tmp_path: Path) -> None:
    first, second = Fake(), Fake()
    make(tmp_path, first).encode_images(tmp_path / "a.parquet", items(5), 2, 1)
    make(tmp_path, second).encode_images(tmp_path / "b.parquet", items(7), 2, 1)
    assert (len(first.seen), sorted(second.seen)) == (5, ["5", "6"])
    assert read_features(tmp_path / "b.parquet", "image_id").matrix[:, 0].tolist() == list(range(7))


def test_texts_that_were_cut_are_in_the_metadata(tmp_path: Path) -> None:
    for texts, said in ((["x", "yy"], None), (["x", "y" * 31, "y" * 40], "2 of 3")):
        about = make(tmp_path, Fake()).encode_texts(tmp_path / "a.parquet", texts, 8, 1)
        assert read_features(tmp_path / "a.parquet", "text").metadata == about
        assert about.get(CUT_TEXTS) == said


def test_another_encoder_or_dtype_starts_anew(tmp_path: Path) -> None:
    make(tmp_path, Fake()).encode_texts(tmp_path / "a.parquet", ["x", "yy"], 8, 2)
    for other, dtype in ((Fake(image_key="i2", text_key="t2"), "float32"), (Fake(), "float16")):
        make(tmp_path, other, dtype).encode_texts(tmp_path / "b.parquet", ["x", "yy"], 8, 1)
        assert other.seen == ["x", "yy"]


def test_same_picture_is_encoded_once(tmp_path: Path) -> None:
    fake = Fake()
    twins = [item("a", 3), item("b", 3)]
    make(tmp_path, fake).encode_images(tmp_path / "a.parquet", twins, 8, 1)
    assert fake.seen == ["3"]
    table = read_features(tmp_path / "a.parquet", "image_id")
    assert table.matrix.tolist() == [[3, 6, 9], [3, 6, 9]]


def test_stopped_half_way_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 4)
    stopped, rest = Fake(limit=10), Fake()
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, stopped).encode_images(tmp_path / "a.parquet", items(20), 2, 1)
    assert not (tmp_path / "a.parquet").exists()
    make(tmp_path, rest).encode_images(tmp_path / "a.parquet", items(20), 2, 1)
    assert sorted(map(int, rest.seen)) == list(range(8, 20))
    whole = Fake()
    make(tmp_path / "other", whole).encode_images(tmp_path / "b.parquet", items(20), 2, 2)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def flipped(content: bytes) -> bytes:
    return content[:-700] + bytes([content[-700] ^ 1]) + content[-699:]


def all_nan(content: bytes) -> bytes:
    part = feather.read_table(pa.BufferReader(content))
    nan = to_array(np.full((len(part), 2), np.nan, np.float32))
    return written(part.set_column(1, "feature", nan))


def shuffled(content: bytes) -> bytes:
    part = feather.read_table(pa.BufferReader(content))
    return written(part.set_column(0, "key", part["key"].take([1, 0])))


def written(part: pa.Table) -> bytes:
    stream = pa.BufferOutputStream()
    feather.write_feather(part, stream, compression="uncompressed")
    return bytes(stream.getvalue())


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:50], lambda whole: b"", flipped, all_nan, shuffled]
)
def test_damaged_part_is_encoded_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    make(tmp_path, Fake()).encode_texts(tmp_path / "a.parquet", ["x", "yy"], 8, 2)
    part = next((tmp_path / "parts").rglob("*.arrow"))
    part.write_bytes(damage(part.read_bytes()))
    again = Fake()
    make(tmp_path, again).encode_texts(tmp_path / "b.parquet", ["x", "yy"], 8, 1)
    assert again.seen == ["x", "yy"]
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_an_image_that_was_swapped_is_never_another_ones_feature(tmp_path: Path) -> None:
    listed = items(3)
    Path("1").write_text("2")
    with pytest.raises(UserError, match="1 has changed since `download` verified it"):
        make(tmp_path, Fake()).encode_images(tmp_path / "a.parquet", listed, 8, 1)
    Path("1").write_text("1")
    make(tmp_path, Fake()).encode_images(tmp_path / "a.parquet", listed, 8, 1)
    table = read_features(tmp_path / "a.parquet", "image_id")
    assert table.matrix[:, 0].tolist() == [0, 1, 2]


def test_parts_that_interleave_and_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 3)
    monkeypatch.setattr(cache, "GROUP_ROWS", 5)
    made = make(tmp_path, Fake())
    order = np.random.default_rng(0).permutation(23).tolist()
    made.encode_images(tmp_path / "a.parquet", [items(23)[i] for i in order[:11]], 2, 1)
    twins = [item(f"twin{i}", i) for i in order]
    made.encode_images(tmp_path / "b.parquet", items(23) + twins, 2, 1)
    table = read_features(tmp_path / "b.parquet", "image_id")
    assert table.matrix[:, 0].tolist() == [*range(23), *order]


def test_feature_too_large_for_half_precision(tmp_path: Path) -> None:
    large = [item("a", 200)]
    with pytest.raises(UserError, match="float16 cannot hold"):
        make(tmp_path, Fake(scale=1000), "float16").encode_images(
            tmp_path / "a.parquet", large, 1, 1
        )


def test_real_encoder_gives_the_same_alone_and_in_a_batch(encoder: Encoder, tmp_path: Path) -> None:
    texts = ["is red", "has no sleeves and is longer", "x"]
    Cache(tmp_path, encoder, "float32").encode_texts(tmp_path / "t.parquet", texts, 2, 2)
    table = read_features(tmp_path / "t.parquet", "text")
    for row, text in enumerate(texts):
        alone = encoder.encode_texts([text])[0].numpy()
        np.testing.assert_allclose(table.matrix[row], alone, atol=1e-5)


def things_to_encode(folder: Path, count: int) -> tuple[list[Item], list[Item]]:
    """Pictures on disk, and texts of several lengths."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), np.uint8)).save(path)
    texts = [f"{'very ' * (i % 7)}red {i}" for i in range(count)]
    return [Item(p.name, digest_file(p), p) for p in paths], [Item(t, t, t) for t in texts]


def by_name(batches: Encoded[Item]) -> dict[str, Matrix]:
    """The features of items, by their names."""
    return {item.name: row for own, rows in batches for item, row in zip(own, rows, strict=True)}


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_every_item_in_order_with_its_own_features(device: str) -> None:
    # The fake computes on the CPU whatever it says: "meta" takes the path of other devices.
    fake = cast(Encoder, Fake(device=torch.device(device)))
    texts = [Item(t, t, t) for t in ("a" + "y" * (i * 7 % 23) for i in range(23))]
    for many, things in ((encode_images, items(23)), (encode_texts, texts)):
        for batch, workers in ((1, 1), (5, 2), (50, 2)):
            pairs = list(many(fake, things, batch, workers))
            found = [item for part, _ in pairs for item in part]
            rows = np.concatenate([rows for _, rows in pairs])
            assert max(len(part) for part, _ in pairs) <= batch
            if many is encode_images:
                assert found == things
                assert rows[:, 0].tolist() == list(range(23))
            else:
                assert sorted(found) == sorted(things)
                assert rows[:, 0].tolist() == [len(str(item.content)) for item in found]


def test_workers_give_what_one_process_gives(encoder: Encoder, tmp_path: Path) -> None:
    pictures, texts = things_to_encode(tmp_path, 23)
    for many, things in ((encode_images, pictures), (encode_texts, texts)):
        alone, beside = (by_name(many(encoder, things, 8, workers)) for workers in (1, 2))
        for name, row in alone.items():
            np.testing.assert_allclose(row, beside[name], atol=1e-5)


def test_texts_are_encoded_the_longest_first(encoder: clip.Encoder) -> None:
    texts = [Item(t, t, t) for t in (f"{'very ' * (i % 7)}red {i}" for i in range(23))]
    found = [item.name for part, _ in encode_texts(encoder, texts, 8, 1) for item in part]
    _, lengths = encoder.tokenise(found)
    assert lengths.tolist() == sorted(lengths.tolist(), reverse=True)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("workers", [1, 2])
def test_damaged_image_is_one_line(tmp_path: Path, device: str, workers: int) -> None:
    class Strict(Fake):
        def prepare(self, source: bytes) -> torch.Tensor:
            if source == b"7":
                raise UserError("7 cannot be read as an image; check the file")
            return super().prepare(source)

    fake = Strict(device=torch.device(device))
    with pytest.raises(UserError) as caught:
        make(tmp_path, fake).encode_images(tmp_path / "a.parquet", items(20), 2, workers)
    assert str(caught.value) == "7 cannot be read as an image; check the file"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_no_thread_is_left_and_none_ran_far_ahead_when_encoding_stops(device: str) -> None:
    prepared = []

    class Noting(Fake):
        def prepare(self, source: bytes) -> torch.Tensor:
            prepared.append(source)
            return super().prepare(source)

    before = threading.active_count()
    fake = cast(Encoder, Noting(device=torch.device(device)))
    with closing(encode_images(fake, items(200), 2, 2)) as batches:
        next(batches)
        assert threading.active_count() == before + 2
    assert threading.active_count() == before
    assert len(prepared) <= 10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees_with_the_cpu(encoder: Encoder, encoder_folder: Path, tmp_path: Path) -> None:
    pictures, texts = things_to_encode(tmp_path, 41)
    for precision, least in (("float32", 0.99999), ("float16", 0.9999), ("bfloat16", 0.999)):
        other = load(encoder_folder, torch.device("cuda"), cast(Precision, precision))
        for many, things in ((encode_images, pictures), (encode_texts, texts)):
            expected, found = (by_name(many(e, things, 8, 2)) for e in (encoder, other))
            for name, row in expected.items():
                cosine = row @ found[name] / np.linalg.norm(row) / np.linalg.norm(found[name])
                assert cosine > least


def test_workers_compute_on_one_core_each() -> None:
    class Counting(Fake):
        def encode_images(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.full((len(pictures), 1), float(torch.get_num_threads()))

    with threads(2):
        found = encode_images(cast(Encoder, Counting()), items(9), 4, 2)
        assert {float(value) for _, rows in found for value in rows.flat} == {1.0}
        assert torch.get_num_threads() == 2


def test_any_layout_of_the_users_own(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).random((5000, 300)).astype(np.float32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), 300)
    table = pa.table({"text": [str(i) for i in range(5000)], "feature": flat})
    path = tmp_path / "x.parquet"
    for rows, compression in ((5000, "zstd"), (7, "snappy"), (1024, "none")):
        pq.write_table(table, path, row_group_size=rows, compression=compression)
        read = read_features(path, "text")
        assert read.names == table["text"].to_pylist()
        assert (read.matrix == matrix).all()
    pq.write_table(table.slice(0, 0), path)
    assert read_features(path, "text").matrix.shape == (0, 300)


def test_rows_without_a_name_or_a_value(tmp_path: Path) -> None:
    feature = pa.array([[1.0, 2.0], [None, 1.0]], pa.list_(pa.float32(), 2))
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "feature": feature}), path)
    read = read_features(path, "text")
    assert np.isnan(read.matrix).tolist() == [[False, False], [True, False]]
    pq.write_table(pa.table({"text": ["a", None], "feature": feature}), path)
    with pytest.raises(UserError, match="or a row without one"):
        read_features(path, "text")


@pytest.mark.filterwarnings("error")
def test_a_feature_set_on_the_cpu_is_no_copy(tmp_path: Path) -> None:
    pair = (
        read_features(table_of(tmp_path / "i.parquet"), "image_id"),
        read_features(table_of(tmp_path / "t.parquet", "text"), "text"),
    )
    together = FeatureSet.on(CPU, *pair)
    assert together.image_matrix.data_ptr() == pair[0].matrix.ctypes.data
    assert together.text_matrix.data_ptr() == pair[1].matrix.ctypes.data


def table_of(
    path: Path, column: str = "image_id", key: str = "k", width: int = 3, space: str = "shared"
) -> Path:
    matrix = np.arange(2 * width, dtype=np.float16).reshape(2, width)
    made = {"key": key, "encoder": "e", "weights": "w", "preprocess": "p", "space": space}
    write_features(path, column, ["a", "b"], [matrix], made)
    return path


def test_many_row_groups_keep_their_order(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).random((10, 4)).astype(np.float32)
    names = [str(i) for i in range(10)]
    write_features(tmp_path / "x.parquet", "text", names, np.split(matrix, [3, 6, 9]), {})
    table = read_features(tmp_path / "x.parquet", "text")
    assert table.names == names
    assert (table.matrix == matrix).all()
    assert pq.ParquetFile(tmp_path / "x.parquet").num_row_groups == 4


def test_missing_and_truncated(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is missing; run `python -m pipeline\.features`"):
        read_features(tmp_path / "no.parquet", "text")
    path = table_of(tmp_path / "cut.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="not a complete Parquet file"):
        read_features(path, "image_id")


def test_other_columns_and_types(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"has image_id \(string\), feature .*, not text \(string\)"
    ):
        read_features(table_of(tmp_path / "x.parquet"), "text")
    pq.write_table(pa.table({"text": [1], "feature": [[1.0]]}), tmp_path / "z.parquet")
    with pytest.raises(UserError, match=r"has text \(int64\)"):
        read_features(tmp_path / "z.parquet", "text")
    pq.write_table(pa.table({"text": ["a"], "feature": [[1.0, 2.0]]}), tmp_path / "y.parquet")
    with pytest.raises(UserError, match="not fixed-size lists"):
        read_features(tmp_path / "y.parquet", "text")


def test_tables_of_two_encoders_are_not_mixed(tmp_path: Path) -> None:
    images = table_of(tmp_path / "i.parquet")
    texts = table_of(tmp_path / "t.parquet", "text", key="other")
    with pytest.raises(UserError, match="made by different encoders"):
        read_pair(images, texts)
    with pytest.raises(UserError, match="do not belong together"):
        read_pair(images, table_of(tmp_path / "t.parquet", "text", width=2))


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    path = table_of(tmp_path / "x.parquet", "text")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"\1\0\0\0a", b"\1\0\0\0\xff"))
    named = table_of(tmp_path / "y.parquet", "text")
    pq.write_table(pq.read_table(named).replace_schema_metadata({b"key": b"\xff"}), named)
    for damaged in (path, named):
        with pytest.raises(UserError, match="not a complete Parquet file"):
            read_features(damaged, "text")


def test_features_of_unknown_make_or_twice_are_refused(tmp_path: Path) -> None:
    unknown = tmp_path / "u.parquet"
    write_features(unknown, "image_id", ["a"], [np.ones((1, 3), np.float16)], {})
    with pytest.raises(UserError, match="does not say its encoder"):
        read_pair(unknown, table_of(tmp_path / "t.parquet", "text"))
    write_features(unknown, "image_id", ["a", "a"], [np.ones((2, 3), np.float16)], {})
    with pytest.raises(UserError, match="image_id twice"):
        read_features(unknown, "image_id")


def test_head_of_other_features_is_refused(tmp_path: Path) -> None:
    pair = read_pair(
        table_of(tmp_path / "i.parquet", space="separate"),
        table_of(tmp_path / "t.parquet", "text", width=2, space="separate"),
    )
    check_made_for(pair, {"key": "k"}, 3, 2, "train again")
    for metadata, widths in (({"key": "z"}, (3, 2)), ({"key": "k"}, (3, 3))):
        with pytest.raises(UserError, match="the head was trained on"):
            check_made_for(pair, metadata, *widths, "train again")


def test_absent_names_are_counted(tmp_path: Path) -> None:
    table = read_features(table_of(tmp_path / "i.parquet"), "image_id")
    assert table.rows(["b", "a", "b"], "images").tolist() == [1, 0, 1]
    with pytest.raises(UserError, match=r"2 images have no feature: 'x', 'y'"):
        replace(table).rows(["x", "a", "y", "x"], "images")


def test_images_of_a_manifest_are_items_in_its_order(tmp_path: Path) -> None:
    rows = [
        {"image_id": "a", "sha256": "0", "path": "images/a.jpg", "status": "ok"},
        {"image_id": "b", "status": "missing"},
        {"image_id": "c", "sha256": "1", "path": "/elsewhere/c.jpg", "status": "ok"},
    ]
    found = image_items(pa.Table.from_pylist(rows, schema=MANIFEST), tmp_path)
    expected = [
        Item("a", "0", f"{tmp_path}/images/a.jpg"),
        Item("c", "1", "/elsewhere/c.jpg"),
    ]
    assert list(found) == [found[0], found[1]] == found[:] == expected
    assert found[5:] == []
    chosen = Chosen(found, np.array([1, 1, 0]))
    assert chosen[1:] == [expected[1], expected[0]]
    assert chosen[2] == expected[0]


def test_shares_fill_one_folder_and_a_plain_run_makes_the_table(tmp_path: Path) -> None:
    things = items(40)
    shares = [Fake() for _ in range(3)]
    for index, fake in enumerate(shares[:2], 1):
        made = make(tmp_path, fake)
        made.fill("images", things, 4, 1, Shard(index, 3))
        # Whatever others have done meanwhile a share stays what it is.
        again = Fake()
        make(tmp_path, again).fill("images", things, 4, 1, Shard(index, 3))
        assert again.seen == []
    own = [{*fake.seen} for fake in shares[:2]]
    assert all(own)
    assert not own[0] & own[1]
    rest = Fake()
    make(tmp_path, rest).encode_images(tmp_path / "a.parquet", things, 4, 1)
    assert {*rest.seen} == {str(i) for i in range(40)} - own[0] - own[1]
    assert read_features(tmp_path / "a.parquet", "image_id").matrix[:, 0].tolist() == [*range(40)]


def test_rows_that_are_in_two_parts_count_once(tmp_path: Path) -> None:
    things = items(9)
    made = make(tmp_path, Fake())
    for some in (things[:6], things[3:]):
        made.parts["images"].write(
            encode_images(cast(Encoder, Fake()), some, 2, 1), lambda count: None
        )
    again = Fake()
    make(tmp_path, again).encode_images(tmp_path / "a.parquet", things, 2, 1)
    assert again.seen == []
    assert read_features(tmp_path / "a.parquet", "image_id").matrix[:, 0].tolist() == [*range(9)]


def test_a_part_is_written_without_a_look_at_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To list 49,000 parts, of 100 million images, at every write takes 20 minutes."""
    own = make(tmp_path, Fake()).parts["images"]
    own.folder.mkdir(parents=True)
    (left := own.folder / ".images-0.arrow.x.tmp").touch()
    os.utime(left, (0, 0))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "glob", None)
        written = own.write(encode_images(cast(Encoder, Fake()), items(9), 2, 1), lambda n: None)
    assert own.names() == written
    assert not left.exists()


def test_images_are_merged_without_an_object_for_each(tmp_path: Path) -> None:
    count = 60_000
    keys = [f"{number:064x}" for number in range(count)]
    made = make(tmp_path, Fake())
    rows = ([Item("", key, "") for key in keys[own : own + 2048]] for own in range(0, count, 2048))
    batches = ((chunk, np.ones((len(chunk), 3), np.float32)) for chunk in rows)
    made.parts["images"].write(batches, lambda count: None)
    columns: dict[str, Any] = dict.fromkeys(MANIFEST.names, pa.nulls(count))
    columns |= {"image_id": keys, "sha256": keys, "path": keys, "status": ["ok"] * count}
    manifest = pa.table(columns)
    del keys, columns
    tracemalloc.start()
    listed = image_items(manifest, tmp_path)
    made.encode_images(tmp_path / "a.parquet", listed, 256, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # An item alone would take 400 bytes.
    assert peak / count < 250
