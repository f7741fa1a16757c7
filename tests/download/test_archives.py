"""CIRCO from its official archives, on hosts that misbehave."""

import json
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from rau.datasets import circo
from rau.datasets.locate import Located
from rau.datasets.registry import COCO
from rau.download import archives
from rau.download.acquire import acquire
from rau.download.annotation_files import Unavailable
from rau.download.http_client import Client
from rau.errors import UserError
from tests import circo_data, server
from tests.circo_data import names, packed
from tests.synthetic import picture, serve_files

IMAGES = 12
MEMBER = "annotations/image_info_unlabeled2017.json"


@pytest.fixture(name="host")
def _host(tmp_path: Path) -> Iterator[server.Server]:
    """All of CIRCO on a server, from the annotations in `official`."""
    circo_data.write_annotations(tmp_path / "official", IMAGES)
    with server.running() as host:
        made = circo_data.card(host.url, tmp_path / "official", IMAGES)
        serve_files(host, tmp_path / "official", made.annotations)
        host.files["/info.zip"] = packed({MEMBER: json.dumps(circo_data.listing(IMAGES)).encode()})
        host.files["/all.zip"] = packed(pictures())
        yield host


def pictures() -> dict[str, bytes]:
    """What the archive of images holds, by the name of its member."""
    return {f"unlabeled2017/{name}.jpg": picture(name) for name in names(IMAGES)}


def fetch(host: server.Server, tmp_path: Path, images: Path | None = None) -> dict[str, str]:
    made = circo_data.card(host.url, tmp_path / "official", IMAGES)
    with Client(2, backoff=0.01, slowest=1000, patience=0.2, timeout=10) as client:
        return dict(acquire(made, tmp_path / "store", client, HfApi(host.url), images))


def found(tmp_path: Path) -> Mapping[str, Path | None]:
    read = circo.read_annotations(tmp_path / "store")
    return Located(tmp_path / "store", read.image_ids, read.places)


@pytest.mark.parametrize("mood", ["kind", *sorted(server.PASSING)])
def test_a_whole_set(host: server.Server, tmp_path: Path, mood: str) -> None:
    host.moods |= {"/info.zip": mood, "/all.zip": mood}
    assert fetch(host, tmp_path) == dict.fromkeys(names(IMAGES), f"{host.url}/all.zip")
    for name, path in found(tmp_path).items():
        assert path == tmp_path / f"store/{COCO}/unlabeled2017/{name}.jpg"
        assert path.read_bytes() == picture(name)
    assert not list((tmp_path / "store" / archives.FOLDER).iterdir())
    asked = host.asked.copy()
    fetch(host, tmp_path)
    assert host.asked == asked, "a whole set asks for nothing"


def test_what_was_fetched_before_is_resumed(host: server.Server, tmp_path: Path) -> None:
    part = tmp_path / "store" / archives.FOLDER / "all.zip"
    part.parent.mkdir(parents=True)
    part.write_bytes(host.content("/all.zip")[:300])
    (tmp_path / f"store/{COCO}/unlabeled2017").mkdir(parents=True)
    first = names(IMAGES)[0]
    (tmp_path / f"store/{COCO}/unlabeled2017/{first}.jpg").write_bytes(picture("mine"))
    sources = fetch(host, tmp_path)
    assert set(sources) == set(names(IMAGES)) - {first}, "what is there stays"
    assert host.asked["GET", "/all.zip"] == 1


def test_own_images_need_no_archive(host: server.Server, tmp_path: Path) -> None:
    for name in names(IMAGES):
        (tmp_path / "mine/coco").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"mine/coco/{name}.jpg").write_bytes(picture(name))
    fetch(host, tmp_path, tmp_path / "mine")
    assert all(found(tmp_path).values())
    assert ("GET", "/all.zip") not in host.asked


def test_paths_and_sizes_of_an_archive_are_not_trusted(
    host: server.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third, *rest = names(IMAGES)
    monkeypatch.setattr(archives, "MAX_PICTURE", 5000)
    host.files["/all.zip"] = packed(
        {
            f"../../{first}.jpg": picture(first),
            f"/etc/{second}.jpg": picture(second),
            f"{third}.jpg": picture(third) + bytes(5000),
            "../../other.jpg": picture("other"),
            f"{rest[0]}.jpg": b"no picture",
        }
        | {f"{name}.jpg": picture(name) for name in rest[1:]}
    )
    fetch(host, tmp_path)
    places = found(tmp_path)
    assert [name for name, path in places.items() if path is None] == [third, rest[0]]
    inside = set(tmp_path.rglob("*.jpg"))
    assert inside == {path for path in places.values() if path is not None}
    fetch(host, tmp_path)
    assert host.asked["GET", "/all.zip"] == 1, "what an archive cannot give is not asked for again"


def test_no_more_is_unpacked_than_is_declared(tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb.jpg", bytes(2**26))
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + 24, 1000)
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with zipfile.ZipFile(path) as file, pytest.raises(archives.Damaged):
            archives._read(file, file.getinfo("bomb.jpg"))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_damaged_image_is_fetched_again(host: server.Server, tmp_path: Path) -> None:
    whole = host.content("/all.zip")
    place = whole.index(picture(names(IMAGES)[3]))
    host.files["/all.zip"] = whole[:place] + bytes(9) + whole[place + 9 :]
    fetch(host, tmp_path)
    assert [n for n, path in found(tmp_path).items() if path is None] == [names(IMAGES)[3]]
    host.files["/all.zip"] = whole
    fetch(host, tmp_path)
    assert all(found(tmp_path).values())


def test_an_encrypted_image_is_refused_once(host: server.Server, tmp_path: Path) -> None:
    locked = bytearray(host.content("/all.zip"))
    # The first member's flags in its own header and in the list of members.
    locked[locked.index(b"PK\x03\x04") + 6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    host.files["/all.zip"] = bytes(locked)
    for _ in range(2):
        fetch(host, tmp_path)
        assert [n for n, path in found(tmp_path).items() if path is None] == [names(IMAGES)[0]]
    assert host.asked["GET", "/all.zip"] == 1


def test_no_archive_at_all(
    host: server.Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.files["/all.zip"] = b"<html>moved</html>" * 20
    fetch(host, tmp_path)
    assert "all.zip: not used: all.zip is not a complete zip file" in capsys.readouterr().out
    assert not any(found(tmp_path).values())


@pytest.mark.parametrize(
    ("archive", "error", "said"),
    [
        (packed({MEMBER: b"[]"}), UserError, "has no list 'images'"),
        (packed({"other": b"{}"}), Unavailable, r"cannot fetch .*image_info.* from .*info\.zip"),
        (b"nothing", Unavailable, "is not a complete zip file; run again to fetch it"),
        (
            packed({MEMBER: json.dumps(circo_data.listing(IMAGES + 1)).encode()}),
            UserError,
            "lists 13 images, circo has 12; remove it",
        ),
    ],
)
def test_a_wrong_list_of_images(
    host: server.Server, tmp_path: Path, archive: bytes, error: type[Exception], said: str
) -> None:
    host.files["/info.zip"] = archive
    with pytest.raises(error, match=said):
        fetch(host, tmp_path)


def test_a_list_of_members_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_DIRECTORY", 500)
    path = tmp_path / "one.zip"

    def opened(content: bytes) -> Any:
        path.write_bytes(content)
        with archives._opened(path) as file:
            return file.namelist()

    assert opened(packed({"a": b""})) == ["a"]
    with zipfile.ZipFile(path, "w", allowZip64=True) as file:
        for n in range(20):
            file.writestr(f"{n:0100}", b"")
    with pytest.raises(archives.Damaged, match=r"one\.zip is not a complete zip file"):
        opened(path.read_bytes())
    assert not path.exists()
