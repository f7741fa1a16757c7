"""What a store takes in: the user's own files, placeholders, the journal, terms of use."""

import tracemalloc
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile
from PIL import Image

from rau.datasets import cirr
from rau.datasets.image_files import inspect
from rau.datasets.registry import CIRR, DatasetCard
from rau.download import acquire, huggingface, local_folder, url_tables
from rau.download.annotation_files import fetch_files
from rau.download.http_client import Client
from rau.download.image_store import ImageStore
from rau.download.journal import Journal
from rau.errors import UserError
from rau.pictures import MAX_BYTES
from tests import server
from tests.datasets.test_cirr import ENTRY, PATHS, write_layout
from tests.image_files import saved
from tests.places import SHARED, needs
from tests.synthetic import parquet, picture, serve_files

BROKEN = SHARED / "fashioniq/image_url/broken_links"


def intake(root: Path, ids: list[str]) -> ImageStore:
    def places(image_id: str) -> list[str]:
        return [f"images/{image_id}"]

    return ImageStore(root, ids, places, False, Journal(root / "journal"))


def test_own_files_are_linked_wherever_they_lie(tmp_path: Path) -> None:
    own = tmp_path / "mine"
    (own / "a/b").mkdir(parents=True)
    (own / "a/b/A.JPG").write_bytes(picture("A"))
    (own / "B.png").write_bytes(picture("B")[:50])
    (own / "other.jpg").write_bytes(picture("other"))
    store = intake(tmp_path / "store", ["A", "B", "C"])
    said = local_folder.link_images(own, store)
    assert said == "2 missing images found, 1 of them invalid"
    assert list(store.missing) == ["B", "C"]
    link = tmp_path / "store/images/A.jpg"
    assert link.is_symlink()
    assert link.read_bytes() == picture("A")
    with pytest.raises(UserError, match=r"dataset\.images: no folder"):
        local_folder.link_images(tmp_path / "none", store)


def test_a_file_too_large_for_an_image_is_not_read(tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    with (own / "A.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    store = intake(tmp_path / "store", ["A"])
    tracemalloc.start()
    try:
        said = local_folder.link_images(own, store)
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    finally:
        tracemalloc.stop()
    assert said == "1 missing images found, 1 of them invalid"
    assert list(store.missing) == ["A"]


def test_a_link_is_not_made_to_the_picture_of_another_id(tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    (own / "B1.jpg").write_bytes(picture("B1"))
    store = intake(tmp_path / "store", ["B1", "b1"])
    for said in ("1 missing images found", "0 missing images found"):
        assert local_folder.link_images(own, store) == said
    assert list(store.missing) == ["b1"]


def test_a_link_that_a_killed_run_left_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "A.jpg"
    own.write_bytes(picture("A"))

    def killed(image_id: str, source: str) -> None:
        raise KeyboardInterrupt

    stopped = intake(tmp_path / "store", ["A"])
    monkeypatch.setattr(stopped.journal, "record", killed)
    with pytest.raises(KeyboardInterrupt):
        stopped.link("A", own, "the user")
    store = intake(tmp_path / "store", ["A"])
    assert store.take("A", picture("of a mirror"), "a mirror") is None
    assert own.read_bytes() == picture("A")
    added = tmp_path / "store/images/A.jpg"
    assert added.read_bytes() == picture("of a mirror")
    assert not added.is_symlink()


def test_a_png_is_named_so(tmp_path: Path) -> None:
    store = intake(tmp_path, ["A"])
    assert store.take("A", saved(Image.new("RGB", (4, 4)), "PNG"), "a mirror") is None
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["A.png"]


@pytest.mark.parametrize("image_id", ["../A", "a/b", ".hidden", ""])
def test_ids_stay_in_the_store(tmp_path: Path, image_id: str) -> None:
    with pytest.raises(UserError, match="not a plain file name"):
        intake(tmp_path, [image_id])


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    store = intake(tmp_path, ["A"])
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"cannot write A to .*No space left"):
        store.take("A", picture("A"), "a mirror")


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with closing(Journal(path)) as journal:
        journal.record("A", "here")
        journal.refuse("B", "here", "status 404")
        journal.finish("here", "file", ["A", "B"])
    path.write_text(path.read_text() + '{"image": "C", "sou')
    with closing(Journal(path)) as journal:
        assert journal.origin == {"A": "here"}
        journal.record("D", "there")
    with closing(Journal(path)) as journal:
        assert journal.origin == {"A": "here", "D": "there"}
        assert journal.refused == {("B", "here"): "status 404"}
        assert journal.finished == {("here", "file"): frozenset({"A", "B"})}


def test_tables_of_urls(tmp_path: Path) -> None:
    table = tmp_path / "table.txt"
    table.write_text("A \t http://x/a.jpg\nA\thttp://x/late.jpg\nB\tfile:///etc/passwd\n\nC\n")
    assert url_tables.read_tables([table]) == {"A": "http://x/a.jpg"}


def test_a_network_that_is_gone_stops_the_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(url_tables, "GIVE_UP", 3)
    ids = [f"A{n}" for n in range(40)]
    store = intake(tmp_path, ids)
    table = {i: f"http://127.0.0.1:9/{i}.jpg" for i in ids}
    with Client(2, attempts=1, backoff=0.01) as client:
        said = url_tables.fetch_images(table, store, client)
    assert "no server answered" in said
    assert not store.journal.refused, "they are asked for by the next run"


@pytest.mark.parametrize("between", ["kind", "dead"])
def test_an_answer_between_sets_the_count_of_images_not_reached_back_to_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    asked: list[Future[str | None]] = []

    class InOrder(ThreadPoolExecutor):
        def submit(self, *args: Any, **named: Any) -> Any:
            asked.append(super().submit(*args, **named))
            return asked[-1]

    monkeypatch.setattr(url_tables, "ThreadPoolExecutor", InOrder)
    monkeypatch.setattr(url_tables, "as_completed", lambda _: asked)
    monkeypatch.setattr(url_tables, "GIVE_UP", 3)
    ids = [f"A{n}" for n in range(12)]
    store = intake(tmp_path, ids)
    with server.running() as host, Client(1, attempts=1, backoff=0.01) as client:
        answered = ids[2::3]
        table = {i: f"http://127.0.0.1:9/{i}.jpg" for i in ids}
        for image_id in answered:
            table[image_id] = f"{host.url}/{image_id}.jpg"
            host.files[f"/{image_id}.jpg"] = picture(image_id)
            host.moods[f"/{image_id}.jpg"] = between
        said = url_tables.fetch_images(table, store, client)
    came = len(answered) if between == "kind" else 0
    assert said == f"{came} images; {len(answered) - came} dead, 8 unreachable"


def test_halves_of_two_files_are_fetched_once_more(tmp_path: Path) -> None:
    with server.running() as host, Client(1) as client:
        host.files["/A.jpg"] = picture("A")
        store = intake(tmp_path, ["A"])
        store.part("A").write_bytes(b"x" * 100)
        url_tables.fetch_images({"A": f"{host.url}/A.jpg"}, store, client)
    assert (tmp_path / "images/A.jpg").read_bytes() == picture("A")


@needs("fashioniq/image_url/broken_links")
def test_placeholders_are_known_also_when_drawn_anew() -> None:
    paths = sorted(BROKEN.glob("*.jpg"))
    assert len(paths) == 13
    for path in paths:
        assert inspect(path.read_bytes(), placeholders=True).status == "missing"
        assert inspect(path.read_bytes(), placeholders=False).status == "ok"
        for size, quality in (((150, 160), 60), ((224, 224), 40), ((400, 400), 90)):
            again = Image.open(path).convert("RGB").resize(size)
            content = saved(again, "JPEG", quality=quality)
            assert inspect(content, placeholders=True).status == "missing"


@pytest.mark.parametrize("kind", ["GIF", "JPEG"])
def test_a_single_pixel_is_no_photo(kind: str) -> None:
    content = saved(Image.new("RGB", (1, 1)), kind)
    assert inspect(content, placeholders=True).status == "missing"


@needs("realphotos")
def test_products_are_no_placeholders() -> None:
    photos = sorted((SHARED / "realphotos/images").glob("*.jpg"))[::5]
    assert {inspect(path.read_bytes(), placeholders=True).status for path in photos} == {"ok"}


def cirr_hosts(host: server.Server, folder: Path) -> DatasetCard:
    """CIRR's card with a small annotation folder, whose digest is not known, and one mirror."""
    write_layout(folder, [ENTRY])
    names = cirr.read_annotations(folder).files
    files = replace(CIRR.annotations, digests=dict.fromkeys(names), host=f"{host.url}/github")
    serve_files(host, folder, files)
    mirror = CIRR.mirrors[1]
    held: dict[str, bytes | None] = {image_id: picture(image_id) for image_id in PATHS}
    place = f"/datasets/{mirror.repository}/resolve/main/data/val-00000-of-00001.parquet"
    host.files[place] = parquet(held, "id", "img")
    return replace(CIRR, annotations=files, mirrors=(mirror,))


def test_terms_are_asked_for_before_any_image(tmp_path: Path) -> None:
    folder, mine, store = (tmp_path / name for name in ("official", "mine", "store"))
    folder.mkdir()
    mine.mkdir()
    with server.running() as host, Client(2, backoff=0.01) as client:
        card = cirr_hosts(host, folder)

        def fill(**options: Any) -> dict[str, str]:
            return dict(acquire.acquire(card, store, client, HfApi(host.url), **options))

        with pytest.raises(UserError, match=r"lil\.nlp\.cornell\.edu.*dataset\.accept_terms=true"):
            fill()
        with pytest.raises(UserError, match=r"dataset\.images"):
            fill(images=mine)
        (mine / "dev-1-0-img0.png").write_bytes(picture("dev-1-0-img0"))
        assert fill(images=mine) == {"dev-1-0-img0": "dataset.images"}
        assert not any("datasets" in path for _, path in host.asked)
        sources = fill(images=mine, accept_terms=True)
        assert Counter(sources.values()) == {"dataset.images": 1, "royokong/cirr_imgs": 2}
        assert (store / "img_raw/dev/dev-1-0-img1.jpg").read_bytes() == picture("dev-1-0-img1")


def test_a_file_of_unknown_digest_is_held_to_its_first_sight(tmp_path: Path) -> None:
    folder = tmp_path / "official"
    folder.mkdir()
    with server.running() as host, Client(2, backoff=0.01) as client:
        files = cirr_hosts(host, folder).annotations
        fetch_files(files, tmp_path / "store", client)
        (place,) = (path for path in host.files if path.endswith("cap.rc2.val.json"))
        host.files[place] = host.content(place) + b" "
        fetch_files(files, tmp_path / "store", client)
        assert host.asked["GET", place] == 1
        (tmp_path / "store/captions/cap.rc2.val.json").unlink()
        with pytest.raises(UserError, match="SHA-256"):
            fetch_files(files, tmp_path / "store", client)


def test_a_file_of_unknown_digest_may_be_put_there(tmp_path: Path) -> None:
    folder, store = tmp_path / "official", tmp_path / "store"
    folder.mkdir()
    path = "captions/cap.rc2.val.json"
    with server.running() as host, Client(2, backoff=0.01) as client:
        files = cirr_hosts(host, folder).annotations
        (place,) = (one for one in host.files if one.endswith("cap.rc2.val.json"))
        del host.files[place]
        with pytest.raises(UserError, match=f"put the file at {store / path}"):
            fetch_files(files, store, client)
        (store / path).write_text("[]")
        for _ in range(2):
            fetch_files(files, store, client)
        assert (store / path).read_text() == "[]"


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([picture("A")], pa.binary()), None),
        (pa.array([{"bytes": picture("A")}]), None),
        (pa.array([{"bytes": picture("A")}], pa.struct([("bytes", pa.large_binary())])), None),
        (pa.array([{"path": "A.jpg"}]), r"image is struct<path: string>, not files of images"),
        (pa.array(["A.jpg"]), "image is string, not files of images"),
        (pa.array([[1, 2, 3]]), "image is list<.*>, not files of images"),
    ],
)
def test_columns_of_images_in_a_mirror(tmp_path: Path, column: pa.Array, said: str | None) -> None:
    class Hub:
        def list_repo_tree(self, *_: object, **__: object) -> list[RepoFile]:
            return [RepoFile(path="corpus.parquet", size=1, oid="x")]  # type: ignore[no-untyped-call]

        def hf_hub_download(self, *_: object, **__: object) -> str:
            pq.write_table(pa.table({"id": ["A"], "image": column}), tmp_path / "corpus.parquet")
            return str(tmp_path / "corpus.parquet")

    store = intake(tmp_path / "store", ["A"])
    mirror = replace(CIRR.mirrors[1], id_column="id", image_column="image", pool=None)
    hub = cast(HfApi, Hub())
    if said is None:
        assert huggingface.fetch_images(mirror, store, hub) == "1 images"
        assert (tmp_path / "store/images/A.jpg").read_bytes() == picture("A")
    else:
        with pytest.raises(huggingface.Unusable, match=said):
            huggingface.fetch_images(mirror, store, hub)


@pytest.mark.parametrize("line", ["[" * 100_000, "9" * 9999, "[]", '{"image": []}', '"x"'])
def test_odd_lines_of_a_journal_are_skipped(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal"
    path.write_text(f'{line}\n{{"image": "A", "source": "here"}}\n')
    with closing(Journal(path)) as journal:
        assert journal.origin == {"A": "here"}


def test_a_damaged_list_of_digests_is_named(tmp_path: Path) -> None:
    (tmp_path / ".first_seen.json").write_text("[]")
    with Client(1) as client, pytest.raises(UserError, match="is not a list of digests; remove it"):
        fetch_files(CIRR.annotations, tmp_path, client)
