import errno
import os
from pathlib import Path
from typing import Any

import pytest

from rau.errors import UserError
from rau.files import (
    atomic_path,
    digest,
    new_folder,
    old_siblings,
    read_bytes,
    read_json,
    user_path,
    write_bytes,
    write_json,
)


def test_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"old": 1})

    def fail_half_way() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    assert read_json(path, "value") == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_a_file_in_a_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    for name in ("a/b", "a/b/c", "gone/b"):
        blocking = tmp_path / name.split("/")[0]
        with pytest.raises(UserError, match=rf"^{blocking} is a file, not a folder; choose"):
            write_json(tmp_path / name, {})
        with (
            pytest.raises(UserError, match=rf"^{blocking} is a file"),
            new_folder(tmp_path / name),
        ):
            pass
    assert (tmp_path / "a").read_text() == "mine"


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"), atomic_path(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_read_is_not_said_to_be_the_one_to_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="other"), atomic_path(tmp_path / "a"):
        (tmp_path / "other").read_bytes()
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="cannot write"), atomic_path(tmp_path / "a") as temporary:
        temporary.rename(tmp_path / "a")


def test_what_killed_runs_left_is_removed(tmp_path: Path) -> None:
    old, young = tmp_path / ".a.old.tmp", tmp_path / ".a.young.tmp"
    for path in (old, young):
        path.touch()
    os.utime(old, (0, 0))
    write_bytes(tmp_path / "a", b"1", tidy=False)
    assert old.exists()
    write_bytes(tmp_path / "a", b"2")
    assert {path.name for path in tmp_path.iterdir()} == {"a", young.name}


@pytest.mark.parametrize("fails", [0, 2, 3, 4])
def test_a_store_that_throttles_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    path, waits, own = tmp_path / "a", list[float](), Path.open
    path.write_bytes(b"content")
    left = iter(range(fails))

    def throttled(self: Path, mode: str) -> Any:
        if next(left, None) is not None:
            raise OSError(errno.EIO, "Input/output error", str(self))
        return own(self, mode)

    monkeypatch.setattr(Path, "open", throttled)
    monkeypatch.setattr("time.sleep", waits.append)
    if fails > 3:
        with pytest.raises(UserError, match=r"cannot read .*/a: Input/output error; look"):
            read_bytes(path, 10, "look")
    else:
        assert read_bytes(path, 10, "look") == b"content"
    assert waits == [1, 4, 25][:fails]


@pytest.mark.parametrize("fails", [3, 4])
def test_a_write_to_a_store_that_throttles_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    path, waits, own = tmp_path / "a", list[float](), Path.write_bytes
    left = iter(range(fails))

    def throttled(self: Path, data: bytes) -> int:
        if next(left, None) is not None:
            own(self, data[:1])
            raise OSError(errno.EIO, "Input/output error", str(self))
        return own(self, data)

    monkeypatch.setattr(Path, "write_bytes", throttled)
    monkeypatch.setattr("time.sleep", waits.append)
    if fails > 3:
        with pytest.raises(UserError, match=r"cannot write .*/a: Input/output error"):
            write_bytes(path, b"content")
        assert not list(tmp_path.iterdir())
    else:
        write_bytes(path, b"content")
        assert path.read_bytes() == b"content"
    assert waits == [1, 4, 25]


def test_what_does_not_pass_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", None)
    with pytest.raises(UserError, match="is missing; look"):
        read_bytes(tmp_path / "a", 10, "look")
    with pytest.raises(UserError, match="Is a directory; look"):
        read_bytes(tmp_path, 10**9, "look")


def test_what_may_have_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(b"content")
    for name in ("pipe.jpg", "zero.jpg"):
        with pytest.raises(UserError, match=rf"{name}: not a regular file; look"):
            read_bytes(tmp_path / name, 10, "look")
    assert read_bytes(tmp_path / "link.jpg", 7, "look") == b"content"
    with pytest.raises(UserError, match=r"a\.jpg is larger than 6 bytes; look"):
        read_bytes(tmp_path / "a.jpg", 6, "look")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_a_file_that_does_not_say_its_size_is_read_up_to_the_limit() -> None:
    path = Path("/proc/self/maps")
    assert path.stat().st_size == 0
    assert read_bytes(path, 10**7, "look")
    with pytest.raises(UserError, match="larger than 100 bytes; look"):
        read_bytes(path, 100, "look")


def test_truncated_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_text('[{"a": 1')
    with pytest.raises(UserError, match=r"cut\.json is not valid JSON"):
        read_json(path, "captions file")


def test_digest_ignores_key_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_home_of_nobody_is_one_line(tmp_path: Path) -> None:
    assert user_path("a", tmp_path, "dataset.root") == tmp_path / "a"
    with pytest.raises(UserError, match=r"dataset\.root=~nobody-here/x: no such home"):
        user_path("~nobody-here/x", tmp_path, "dataset.root")


def test_a_temporary_file_that_vanishes_is_none(tmp_path: Path) -> None:
    (tmp_path / ".a.x.tmp").symlink_to(tmp_path / "gone")
    assert old_siblings(tmp_path / "a", ".tmp") == []
