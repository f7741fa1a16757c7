from pathlib import Path

import pytest

from rau.errors import UserError
from rau.files import atomic_path, digest, old_siblings, read_json, user_path, write_json


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


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"), atomic_path(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


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
    with pytest.raises(UserError, match=r"dataset\.root=~nobody-here/x: there is no such home"):
        user_path("~nobody-here/x", tmp_path, "dataset.root")


def test_a_temporary_file_that_vanishes_is_none(tmp_path: Path) -> None:
    (tmp_path / ".a.x.tmp").symlink_to(tmp_path / "gone")
    assert old_siblings(tmp_path / "a", ".tmp") == []
