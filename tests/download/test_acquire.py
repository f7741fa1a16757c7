"""Whole stores from hosts that misbehave, whatever happens on the way."""

import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from multiprocessing.process import BaseProcess
from pathlib import Path

import pyarrow as pa
import pytest

from rau.datasets import coverage, fashioniq
from rau.datasets.annotations import Annotations
from rau.datasets.locate import Located
from rau.download.acquire import JOURNAL
from rau.errors import UserError
from tests import server, synthetic
from tests.manifests import built
from tests.places import SHARED, needs
from tests.project import forked

REAL = SHARED / "fashioniq"


@pytest.fixture(name="host")
def _host() -> Iterator[server.Server]:
    with server.running() as host:
        yield host


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    synthetic.write_annotations(tmp_path / "official", 120)
    return tmp_path / "official"


def verified(root: Path, sources: dict[str, str]) -> tuple[Annotations, pa.Table]:
    """The annotations of a store and its manifest."""
    annotations = fashioniq.read_annotations(root)
    return annotations, built(
        root,
        Located(root, annotations.image_ids, annotations.places),
        sources,
        2,
        placeholders=True,
    )


def scattered(ids: list[str]) -> tuple[dict[str, bytes | None], dict[str, bytes | None], list[str]]:
    """Most images in the first mirror, some of them broken there; some in the second; the rest."""
    first: dict[str, bytes | None] = {}
    second: dict[str, bytes | None] = {}
    rest = []
    for n, image_id in enumerate(ids):
        if n % 25 in (0, 1):
            second[image_id] = synthetic.picture(image_id)
        if n % 25 == 0:
            first[image_id] = synthetic.picture(image_id)[:40]
        elif n % 25 == 2:
            first[image_id] = None
        elif n % 25 > 3:
            first[image_id] = synthetic.picture(image_id)
        if n % 25 in (2, 3):
            rest.append(image_id)
    return first, second, rest


def test_a_whole_set_from_broken_hosts(host: server.Server, folder: Path, tmp_path: Path) -> None:
    annotations = fashioniq.read_annotations(folder)
    first, second, rest = scattered(annotations.image_ids)
    moods = dict(zip(rest, cycle(["kind", *server.PASSING]), strict=False))
    synthetic.serve(host, folder, annotations, first, second, moods)
    sources = synthetic.fetch(host.url, folder, tmp_path / "store")
    found, table = verified(tmp_path / "store", sources)
    text = coverage.table(found.splits, found.queries, table)
    assert text.endswith("360 of 360 images; 117 of 117 val queries usable")
    asked = host.asked.copy()
    assert synthetic.fetch(host.url, folder, tmp_path / "store") == sources
    assert host.asked == asked, "a whole set asks for nothing"


def test_gaps_are_counted_and_not_asked_for_again(
    host: server.Server, folder: Path, tmp_path: Path
) -> None:
    annotations = fashioniq.read_annotations(folder)
    ids = annotations.image_ids
    moods = dict(zip(ids[:10], cycle(server.PERMANENT), strict=False))
    first = {i: synthetic.picture(i) for i in ids[10:-1]}
    synthetic.serve(host, folder, annotations, dict(first), {}, moods)
    root = tmp_path / "store"
    sources = synthetic.fetch(host.url, folder, root)
    found, table = verified(root, sources)
    measured = coverage.of_manifest(found.splits, found.queries, table)
    assert (measured.images, measured.missing, measured.corrupt) == (349, 11, 0)
    lines = coverage.table(found.splits, found.queries, table).splitlines()
    assert lines[-1].startswith("349 of 360 images")
    assert [line.split() for line in lines if line.startswith("missing")] == [["missing", "11"]]
    pictures = {key: n for key, n in host.asked.items() if "/img/" in key[1]}
    synthetic.fetch(host.url, folder, root)
    again = {key: n for key, n in host.asked.items() if "/img/" in key[1]}
    assert again == pictures, "what was refused is not asked for again"
    gets = [n for (how, path), n in host.asked.items() if how == "GET" and "parquet" in path]
    assert max(gets) == 1, "a file read to its end is not fetched again"


def test_an_image_that_was_lost_is_fetched_again(
    host: server.Server, folder: Path, tmp_path: Path
) -> None:
    annotations = fashioniq.read_annotations(folder)
    ids = annotations.image_ids
    synthetic.serve(host, folder, annotations, {i: synthetic.picture(i) for i in ids}, {}, {})
    root = tmp_path / "store"
    synthetic.fetch(host.url, folder, root)
    (root / "images" / f"{ids[5]}.jpg").unlink()
    synthetic.fetch(host.url, folder, root)
    assert (root / "images" / f"{ids[5]}.jpg").read_bytes() == synthetic.picture(ids[5])


def test_changed_annotations_are_refused(host: server.Server, folder: Path, tmp_path: Path) -> None:
    annotations = fashioniq.read_annotations(folder)
    made = synthetic.serve(host, folder, annotations, {}, {}, {})
    name = "captions/cap.dress.val.json"
    place = f"/github/{made.annotations.repository}/{made.annotations.revisions[0]}/{name}"
    content = host.content(place)
    host.files[place] = content + b" "
    with pytest.raises(UserError, match=r"cap\.dress\.val\.json.*SHA-256.*404"):
        synthetic.fetch(host.url, folder, tmp_path / "store")
    assert not (tmp_path / "store" / name).exists()
    # The branch behind the pinned revision will do, as long as the digest is right.
    host.files[place.replace("/f71b16c/", "/master/")] = content
    synthetic.fetch(host.url, folder, tmp_path / "store")
    assert (tmp_path / "store" / name).read_bytes() == content


def test_mirrors_that_are_gone_are_said_so(
    host: server.Server, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = fashioniq.read_annotations(folder)
    ids = annotations.image_ids
    synthetic.serve(host, folder, annotations, {}, {}, dict.fromkeys(ids, "kind"))
    for path in [path for path in host.files if path.startswith("/datasets/")]:
        del host.files[path]
    sources = synthetic.fetch(host.url, folder, tmp_path / "store")
    assert set(sources.values()) == {"URL tables"}
    printed = capsys.readouterr().out
    assert "mteb/mbeir_fashioniq_task7: not used: " in printed
    assert f"URL tables: {len(ids):,} images; 0 dead, 0 unreachable" in printed


def test_two_at_once_fetch_everything_once(
    host: server.Server, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = fashioniq.read_annotations(folder)
    ids = annotations.image_ids
    synthetic.serve(host, folder, annotations, {}, {}, dict.fromkeys(ids, "kind"))
    root = tmp_path / "store"
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(synthetic.fetch, host.url, folder, root) for _ in range(2)]
        first, second = (run.result() for run in runs)
    assert first == second == dict.fromkeys(ids, "URL tables")
    assert {n for (_, path), n in host.asked.items() if "/img/" in path} == {1}
    assert "another process fetches fashioniq; waiting for it" in capsys.readouterr().out


def test_a_store_that_cannot_be_written_is_one_line(
    host: server.Server, folder: Path, tmp_path: Path
) -> None:
    annotations = fashioniq.read_annotations(folder)
    synthetic.serve(host, folder, annotations, {}, {}, {})
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/store"):
        synthetic.fetch(host.url, folder, tmp_path / "file/store")


def test_killed_twenty_times(host: server.Server, tmp_path: Path) -> None:
    folder = tmp_path / "official"
    synthetic.write_annotations(folder, 500)
    annotations = fashioniq.read_annotations(folder)
    ids = annotations.image_ids
    first = {i: synthetic.picture(i) for i in ids[: len(ids) // 2]}
    by_url = dict.fromkeys(ids[len(ids) // 2 :], "kind")
    synthetic.serve(host, folder, annotations, dict(first), {}, by_url)
    straight, root = tmp_path / "straight", tmp_path / "store"
    expected = verified(straight, synthetic.fetch(host.url, folder, straight))[1]
    host.asked.clear()
    draw = random.Random(0)
    kills = 0
    for _ in range(20):
        process = forked(synthetic.fetch, host.url, folder, root, 4)
        kills += _killed(process, root / JOURNAL, draw)
    assert kills == 20, "the set was whole before the last kill: draw more of it"
    sources = synthetic.fetch(host.url, folder, root, 4)
    assert verified(root, sources)[1].equals(expected)
    images = [n for (how, path), n in host.asked.items() if how == "GET" and "/img/" in path]
    # Each kill may lose what was on its four connections, and nothing else.
    assert sum(images) <= len(by_url) + 20 * 4


def _killed(process: BaseProcess, journal: Path, draw: random.Random) -> bool:
    """Kill at a random moment of the start or of the work; False where it ended before."""
    before = journal.stat().st_size if journal.exists() else 0
    size = before + draw.randrange(1, 4000)
    deadline = time.monotonic() + (draw.uniform(0, 0.2) if draw.random() < 0.2 else 60)
    while process.is_alive() and time.monotonic() < deadline:
        if journal.exists() and journal.stat().st_size >= size:
            break
        time.sleep(0.002)
    ended = not process.is_alive()
    process.kill()
    process.join()
    return not ended


def copy_queries(folder: Path, most: int) -> None:
    """The real queries of val, the first `most` of the others, and the images they name."""
    for path in sorted(REAL.glob("captions/cap.*.json")):
        split = f"image_splits/{path.name.replace('cap', 'split', 1)}"
        queries = json.loads(path.read_text())[: None if ".val." in path.name else most]
        named = {query[end] for query in queries for end in ("candidate", "target") if end in query}
        ids = [image_id for image_id in json.loads((REAL / split).read_text()) if image_id in named]
        for place, rows in ((f"captions/{path.name}", queries), (split, ids)):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_text(json.dumps(rows))


@needs("fashioniq")
def test_every_val_query_of_fashioniq(host: server.Server, tmp_path: Path) -> None:
    folder = tmp_path / "official"
    copy_queries(folder, most=100)
    annotations = fashioniq.read_annotations(folder)
    ids = annotations.image_ids
    assert len(ids) > 9000
    rest = ids[::100]
    moods = dict(zip(rest, cycle(["kind", *server.PASSING]), strict=False))
    broken: dict[str, bytes | None] = {i: synthetic.picture(i)[:30] for i in rest[::2]}
    held = set(ids) - set(rest)
    first = {i: synthetic.picture(i) for i in ids if i in held} | broken
    synthetic.serve(host, folder, annotations, first, {}, moods)
    sources = synthetic.fetch(host.url, folder, tmp_path / "store")
    found, table = verified(tmp_path / "store", sources)
    text = coverage.table(found.splits, found.queries, table)
    images = f"{len(ids):,} of {len(ids):,} images"
    assert text.endswith(f"{images}; 6,016 of 6,016 val queries usable")
    digest = {i: synthetic.picture(i) for i in ids[::97]}
    for image_id, content in digest.items():
        assert (tmp_path / "store/images" / f"{image_id}.jpg").read_bytes() == content
