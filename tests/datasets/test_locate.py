"""Images are found as file systems and archives spell their names."""

import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest

from rau.datasets.fashioniq import FOLDERS
from rau.datasets.locate import Located, search


def locate(root: Path, places: Mapping[str, list[str]]) -> dict[str, Path | None]:
    return dict(Located(root, places, places.__getitem__))


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("suffix", ["jpg", "JPG", "jpeg", "Jpeg", "png", "PNG", "webp", "tif"])
def test_any_suffix_in_any_case(tmp_path: Path, suffix: str) -> None:
    path = touch(tmp_path / f"images/A.{suffix}")
    touch(tmp_path / "images/A.txt")
    assert locate(tmp_path, {"A": ["images/A"], "B": ["images/B"]}) == {"A": path, "B": None}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_either_form_of_unicode(tmp_path: Path, form: str) -> None:
    path = touch(tmp_path / f"{unicodedata.normalize(form, 'rosé')}.jpg")  # type: ignore[arg-type]
    for wanted in ("NFC", "NFD"):
        name = unicodedata.normalize(wanted, "rosé")
        assert locate(tmp_path, {name: [name]}) == {name: path}


def test_case_counts_where_ids_differ_in_nothing_else(tmp_path: Path) -> None:
    path = touch(tmp_path / "abc.jpg")
    assert locate(tmp_path, {"ABC": ["ABC"]}) == {"ABC": path}
    assert locate(tmp_path, {"ABC": ["ABC"], "abc": ["abc"]}) == {"ABC": None, "abc": path}
    assert search(tmp_path, ["ABC", "abc"]) == {"abc": path}


def test_no_folder_has_such_a_name(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert locate(tmp_path, {"A": ["x" * 5000 + "/A", "loop/A", "no/A"]}) == {"A": None}


def test_a_link_to_itself_hides_no_other_file(tmp_path: Path) -> None:
    path = touch(tmp_path / "A.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "below.jpg").symlink_to("A.jpg/below")
    assert locate(tmp_path, {"A": ["A"], "loop": ["loop"]}) == {"A": path, "loop": None}
    assert search(tmp_path, ["A"]) == {"A": path}


def test_a_whole_name_comes_before_one_without_its_suffix(tmp_path: Path) -> None:
    path, longer = touch(tmp_path / "1.png"), touch(tmp_path / "1.png.jpg")
    for name, found in (("1", path), ("1.png", path), ("1.PNG", path), ("1.png.jpg", longer)):
        assert locate(tmp_path, {"a": [name]}) == {"a": found}
        assert search(tmp_path, [name]) == {name: found}


def test_an_id_may_end_in_its_suffix(tmp_path: Path) -> None:
    path = touch(tmp_path / "images/A.jpg")
    assert locate(tmp_path, {"A.jpg": ["images/A.jpg"]}) == {"A.jpg": path}


def test_the_likeliest_place_comes_first(tmp_path: Path) -> None:
    places = {"A": [f"{folder}/A" for folder in FOLDERS]}
    for folder in reversed(FOLDERS):
        path = touch(tmp_path / folder / "A.png")
        assert locate(tmp_path, places) == {"A": path}
    (tmp_path / "images/A.png").unlink()
    (tmp_path / "images/A.png").symlink_to(tmp_path / "gone")
    assert locate(tmp_path, places) == {"A": tmp_path / FOLDERS[1] / "A.png"}


def test_folders_behind_links_are_searched_once(tmp_path: Path) -> None:
    path = touch(tmp_path / "disk/deep/A.jpg")
    own = tmp_path / "own"
    own.mkdir()
    (own / "linked").symlink_to(tmp_path / "disk")
    (path.parent / "round").symlink_to(own)
    assert search(own, ["A"]) == {"A": own / "linked/deep/A.jpg"}
