"""An index equals its catalogue, whatever happened before, and nothing is encoded twice."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from PIL import Image

from rau.errors import UserError
from rau.files import write_json
from rau.search import index as indexing
from rau.search.build import build
from rau.search.catalogue import of_folder
from rau.search.difference import Changes
from rau.search.index import EngineName, Index, writing
from rau.search.model import Model, Query
from rau.search.parts import Parts
from rau.search.recall import recall
from rau.search.searcher import Searcher
from tests.search.synthetic import CPU, draw, draw_folder, load_model


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Model:
    return load_model(tmp_path_factory.mktemp("head"), encoder_folder)


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    draw_folder(tmp_path / "pictures", 12)
    return tmp_path / "pictures"


def run(
    root: Path, model: Model, renew: bool = False, engine: Any = "exact"
) -> tuple[Index, Changes]:
    return build(root.parent / "index", of_folder(root), model, engine, 4, 2, renew)


def contents(index: Index) -> dict[str, tuple[Any, ...]]:
    """All that an index says of each picture."""
    found = {}
    for name, (number, row) in index.place.items():
        segment = index.segments[number]
        found[name] = (
            index.path(name),
            index.attributes(name),
            segment.vectors[row].tobytes(),
            segment.features[row].tobytes(),
            index.thumbnail(name),
        )
    return found


def fresh(root: Path, model: Model, tmp_path: Path) -> dict[str, tuple[Any, ...]]:
    """What an index that is made anew has."""
    shutil.rmtree(tmp_path / "anew", ignore_errors=True)
    return contents(build(tmp_path / "anew", of_folder(root), model, "exact", 4, 2)[0])


def products(root: Path, lines: Sequence[str]) -> None:
    (root / "products.csv").write_text("\n".join(["id,image,category,price,tags", *lines]) + "\n")


def test_every_picture_once(root: Path, model: Model) -> None:
    index, changes = run(root, model)
    assert (changes.added, changes.encoded, len(index)) == (12, 12, 12)
    assert str(changes).startswith("12 added, 0 changed, 0 removed, 0 unchanged; 12 encoded")
    for name in index.place:
        feature = model.image_feature(root / name)
        assert np.allclose(index.feature(name), feature, atol=1e-2)
        picture = index.thumbnail(name)
        assert picture is not None
        assert picture.startswith(b"\xff\xd8")
    assert index.thumbnail("nowhere") is None
    features = np.stack([index.feature(name) for name in index.place])
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert np.allclose(index.centre, unit.mean(0), atol=1e-5)


def test_changes_alone_are_encoded(root: Path, model: Model, tmp_path: Path) -> None:
    run(root, model)
    draw(root / "new.png", 100)
    draw(root / "a/000.png", 101)
    (root / "a/002.png").unlink()
    os.utime(root / "a/004.png", (1, 1))
    shutil.copy(root / "a/006.png", root / "copy.png")
    index, changes = run(root, model)
    expected = Changes(added=2, changed=1, removed=1, kept=10, encoded=2)
    assert changes == expected
    assert contents(index) == fresh(root, model, tmp_path)
    again, changes = run(root, model)
    assert changes == Changes(kept=13)
    assert again.manifest == index.manifest


def test_another_picture_of_a_product_is_read_whatever_its_size_and_time(
    root: Path, model: Model, tmp_path: Path
) -> None:
    for name in ("one.png", "two.png"):
        shutil.copy(root / "a/000.png", root / name)
    draw(root / "two.png", 100)
    size = max((root / name).stat().st_size for name in ("one.png", "two.png"))
    for name in ("one.png", "two.png"):
        content = (root / name).read_bytes()
        (root / name).write_bytes(content + b"\0" * (size - len(content)))
        os.utime(root / name, (1, 1))
    products(root, ["one,one.png,dress,1,"])
    run(root, model)
    products(root, ["one,two.png,dress,1,"])
    index, changes = run(root, model)
    assert (changes.changed, changes.encoded) == (1, 1)
    assert contents(index) == fresh(root, model, tmp_path)


def test_a_picture_that_is_replaced_while_it_is_read_is_read_again(
    root: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(path: Path, limit: int, remedy: str) -> bytes:
        content = path.read_bytes()
        if path.name == "000.png":
            draw(path, 100)
        return content

    with monkeypatch.context() as patched:
        patched.setattr("rau.search.build.read_bytes", replaced)
        run(root, model)
    index, changes = run(root, model)
    assert (changes.changed, changes.encoded) == (1, 1)
    assert contents(index) == fresh(root, model, tmp_path)


def test_attributes_change_without_encoding(root: Path, model: Model, tmp_path: Path) -> None:
    products(root, ["one,a/000.png,dress,10,red|blue", "two,a/002.png,shirt,,red"])
    index, changes = run(root, model)
    assert (changes.added, changes.encoded) == (2, 2)
    own = {"category": "dress", "product": "one", "price": 10, "tags": ["red", "blue"]}
    assert index.attributes("one") == own
    assert index.attributes("two") == {"category": "shirt", "product": "two", "tags": ["red"]}
    products(root, ["one,a/000.png,dress,12,red|blue", "two,a/002.png,shirt,,red"])
    index, changes = run(root, model)
    assert changes == Changes(changed=1, kept=1)
    assert contents(index) == fresh(root, model, tmp_path)
    (root / "products.csv").write_text("id,image,size\none,a/000.png,3\nnew,a/002.png,4\n")
    index, changes = run(root, model)
    assert (changes.encoded, changes.removed, index.schema.names[2:]) == (0, 1, ["size"])
    assert contents(index) == fresh(root, model, tmp_path)


def test_pictures_that_cannot_be_read_are_left_out(root: Path, model: Model) -> None:
    (root / "a/000.png").write_bytes(b"no picture")
    (root / "a/002.png").write_bytes((root / "a/002.png").read_bytes()[:60])
    os.mkfifo(root / "pipe.jpg")
    (root / "zero.jpg").symlink_to("/dev/zero")
    Image.new("RGB", (1, 400)).save(root / "line.png")
    index, changes = run(root, model)
    assert len(index) == 10
    left_out = {"a/000.png", "a/002.png", "line.png", "pipe.jpg", "zero.jpg"}
    assert {*changes.unreadable} == left_out
    assert "not a regular file" in changes.unreadable["pipe.jpg"]
    for name in ("line.png", "pipe.jpg", "zero.jpg"):
        (root / name).unlink()
    listed = (root.parent / "index/unreadable.csv").read_text().splitlines()
    assert listed[0] == "path,reason"
    assert listed[1].startswith("a/000.png,")
    draw(root / "a/000.png", 0)
    (root / "a/002.png").unlink()
    index, changes = run(root, model)
    assert (changes.added, changes.encoded, len(index)) == (1, 1, 11)
    assert not (root.parent / "index/unreadable.csv").exists()
    for path in root.rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="no image can be read"):
        run(root, model)
    assert len(Index.open(root.parent / "index")) == 11


def test_a_name_that_is_not_unicode_is_left_out(root: Path, model: Model) -> None:
    bad = Path(os.fsdecode(os.fsencode(root) + b"/b\xff.png"))
    draw(bad, 100)
    index, changes = run(root, model)
    assert len(index) == 12
    assert changes.unreadable == {r"b\xff.png": "its name is not UTF-8; rename it"}
    assert r"b\xff.png,its name" in (root.parent / "index/unreadable.csv").read_text()
    assert run(root, model)[1].kept == 12
    with (
        pytest.raises(UserError, match=r"index .*/i\\xff is not UTF-8"),
        writing(root.parent / "i\udcff"),
    ):
        pass
    shutil.rmtree(root.parent / "index")
    for path in root.rglob("*.png"):
        if path != bad:
            path.unlink()
    with pytest.raises(UserError, match=r"no image can be read; b\\xff.png: its name"):
        run(root, model)


@pytest.mark.parametrize("at", ["write_segment", "write_json"])
def test_a_build_that_breaks_leaves_the_old_index_and_resumes(
    root: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    before, _ = run(root, model)
    draw(root / "new.png", 100)
    (root / "a/000.png").unlink()
    plain: Callable[..., Any] = getattr(indexing, at)

    def breaks(*arguments: Any) -> None:
        if at == "write_segment":
            plain(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(indexing, at, breaks)
    with pytest.raises(KeyboardInterrupt):
        run(root, model)
    monkeypatch.undo()
    assert contents(Index.open(root.parent / "index")) == contents(before)
    index, changes = run(root, model)
    assert (changes.added, changes.removed, changes.encoded) == (1, 1, 0)
    assert contents(index) == fresh(root, model, tmp_path)
    # The next writer removes what was replaced, and what never counted.
    run(root, model)
    left = {path.name for path in (root.parent / "index/segments").iterdir()}
    assert left == {one.name for one in index.manifest.segments}


def test_a_build_that_breaks_leaves_lancedb_its_version_however_old(
    root: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rau.search.engines import lance

    monkeypatch.setattr(lance, "KEPT", timedelta(milliseconds=1))
    before, _ = run(root, model, engine="lancedb")
    draw(root / "new.png", 100)

    def breaks(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(indexing, "write_json", breaks)
        with pytest.raises(KeyboardInterrupt):
            run(root, model, engine="lancedb")
    query = np.asarray(before.segments[0].vectors[:1], np.float32)
    (found,) = Index.open(root.parent / "index").engine.search(query, 20)
    assert {*found.ids} == {*before.place}
    after, _ = run(root, model, engine="lancedb")
    assert len(after.engine.search(query, 20)[0].ids) == 13
    with pytest.raises(UserError, match="lancedb is damaged"):
        assert before.engine  # Its version was old, and has been removed.


def test_what_was_encoded_before_a_stop_is_kept(
    root: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rau.search.parts.ROWS", 4)
    add = Parts.add
    calls = 0

    def stops(self: Parts, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        add(self, *arguments)

    monkeypatch.setattr(Parts, "add", stops)
    with pytest.raises(KeyboardInterrupt):
        run(root, model)
    monkeypatch.setattr(Parts, "add", add)
    part = sorted((root.parent / "index/parts").rglob("*.arrow"))[0]
    part.write_bytes(part.read_bytes()[:-3] + b"xyz")
    _, changes = run(root, model)
    # Eight were kept; four of them were damaged.
    assert changes.encoded == 8


@pytest.mark.parametrize("engine", ["exact", "lancedb"])
def test_another_model_is_refused_or_takes_over(
    root: Path, model: Model, tmp_path: Path, encoder_folder: Path, engine: EngineName
) -> None:
    index, _ = run(root, model, engine=engine)
    # Its vectors are wider by two.
    other = load_model(tmp_path / "other", encoder_folder, name="pcmepp")
    assert other.dim != model.dim
    with pytest.raises(UserError, match=r"another model.*--renew"):
        run(root, other, engine=engine)
    assert Index.open(root.parent / "index").manifest == index.manifest
    renewed, changes = run(root, other, renew=True, engine=engine)
    assert (changes.encoded, renewed.manifest.model) == (0, other.key)
    assert recall(renewed) == 1
    assert contents(renewed) == fresh(root, other, tmp_path)
    assert Searcher.open(root.parent / "index", CPU).model.key == other.key


def test_another_catalogue_is_refused(root: Path, model: Model, tmp_path: Path) -> None:
    run(root, model)
    draw(tmp_path / "others/x.png", 5)
    with pytest.raises(UserError, match="none of the 12 images"):
        build(root.parent / "index", of_folder(tmp_path / "others"), model, "exact", 4, 2)


def test_one_writes_at_a_time(root: Path, model: Model) -> None:
    run(root, model)
    with FileLock(root.parent / "index/.lock"), pytest.raises(UserError, match="another process"):
        run(root, model)
    with writing(root.parent / "index"):
        assert len(Index.open(root.parent / "index")) == 12


def test_segments_stay_few_and_full(root: Path, model: Model, tmp_path: Path) -> None:
    for number in range(20):
        draw(root / f"new/{number}.png", 200 + number)
        index, changes = run(root, model)
        assert changes.encoded <= 13
    assert len(index.segments) <= 5
    for path in sorted(root.rglob("*.png"))[::2]:
        path.unlink()
    index, _ = run(root, model)
    assert all(2 * one.dead <= one.rows for one in index.manifest.segments)
    # Encoded one by one, an image has other last digits on some processors than in a batch.
    ours, anew = contents(index), fresh(root, model, tmp_path)
    assert ours.keys() == anew.keys()
    for name, own in ours.items():
        assert own[:2] + own[4:] == anew[name][:2] + anew[name][4:]
        for one, other in zip(own[2:4], anew[name][2:4], strict=True):
            left, right = (np.frombuffer(data, np.float16).astype(float) for data in (one, other))
            np.testing.assert_allclose(left, right, rtol=0.01, atol=2e-3)


@pytest.mark.parametrize("file", ["vectors.f16", "features.f16", "thumbnails.bin", "items.parquet"])
def test_a_damaged_file_is_one_line(root: Path, model: Model, file: str) -> None:
    run(root, model)
    (path,) = (root.parent / "index/segments").glob(f"*/{file}")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{file}.*run `rau index` again"):
        Index.open(root.parent / "index")


def test_strings_of_a_segment_have_no_limit_nor_those_of_an_earlier_version(
    root: Path, model: Model, tmp_path: Path
) -> None:
    """Arrow takes no rows of a column of `pa.string` of more than 2 GiB, nor joins its chunks."""
    run(root, model)
    (path,) = (root.parent / "index/segments").glob("*/items.parquet")
    table = pq.read_table(path)
    for name in ("id", "path", "sha256"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table[name].cast(pa.string()))
    pq.write_table(table, path, write_page_checksum=True)
    (root / "a/000.png").unlink()
    draw(root / "new.png", 100)
    index, changes = run(root, model)
    assert (changes.added, changes.removed, changes.kept) == (1, 1, 11)
    assert contents(index) == fresh(root, model, tmp_path)
    assert {one.ids.type for one in index.segments} == {pa.large_string()}


def test_a_manifest_without_segments_is_damaged(root: Path, model: Model) -> None:
    run(root, model)
    path = root.parent / "index/index.json"
    write_json(path, json.loads(path.read_text()) | {"segments": []})
    with pytest.raises(UserError, match=r"index\.json: segments"):
        Index.open(root.parent / "index")


def test_a_snapshot_goes_on_answering(root: Path, model: Model) -> None:
    run(root, model)
    searcher = Searcher.open(root.parent / "index", CPU)
    before = searcher.search(Query([searcher.reference("a/000.png")]), 3)
    for path in sorted((root / "b").iterdir()):
        path.unlink()
    run(root, model)
    draw(root / "new.png", 100)
    run(root, model)
    assert searcher.index.stale
    assert searcher.search(Query([searcher.reference("a/000.png")]), 3) == before
    assert not Searcher.open(root.parent / "index", CPU).index.stale


def test_lancedb_follows_every_change(root: Path, model: Model) -> None:
    run(root, model)
    index, changes = run(root, model, engine="lancedb")
    assert changes == Changes(kept=12)
    assert recall(index) == 1
    draw(root / "new.png", 100)
    (root / "a/000.png").unlink()
    draw(root / "a/002.png", 102)
    index, _ = run(root, model, engine="lancedb")
    query = np.asarray(index.segments[-1].vectors[:1], np.float32)
    (found,) = index.engine.search(query, 20)
    assert {*found.ids} == {*index.place}
    (exact,) = index.exact.search(query, 20)
    assert np.allclose(found.scores, exact.scores, atol=2e-3)
    index, _ = run(root, model, engine="exact")
    assert index.engine.exact
