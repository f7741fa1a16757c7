"""DVC notices by itself what changes in the user's own folder."""

import os
import re
from pathlib import Path

from PIL import Image

from rau.datasets import watched
from rau.schemas import read_manifest, read_queries
from tests import catalogue, circo_data
from tests.project import dvc, fresh, stage

TABLES = Path("data/tables/catalogue/queries.parquet")


def listing(folder: Path) -> list[str]:
    return [*watched.listing(folder)]


def ran(printed: str) -> list[str]:
    return re.findall("Running stage '(\\w+)'", printed)


def test_answers_reach_the_tables_by_a_plain_repro(tmp_path: Path) -> None:
    folder = fresh(tmp_path, {"dataset": {"name": "catalogue", "root": "shop"}})
    rows = catalogue.write(folder / "shop", 40)
    every = ["watch", "download", "tables"]
    # Where nothing has changed the listing alone is written again.
    assert ran(dvc(folder, "repro tables", "repro tables")) == [*every, "watch"]
    before = (folder / TABLES).read_bytes()
    one, other = [row["id"] for row in rows if row["category"] == "sign"][:2]
    answer = {"reference": one, "target": other, "caption": "nicer", "accepted": "no"}
    catalogue.write_table(folder / "shop/feedback", [answer], "1.csv")
    assert ran(dvc(folder, "repro tables")) == every
    # A refusal says nothing new: what follows is not run again.
    assert (folder / TABLES).read_bytes() == before
    catalogue.write_table(folder / "shop/feedback", [answer | {"accepted": "yes"}], "2.csv")
    assert ran(dvc(folder, "repro tables")) == every
    assert ["nicer"] in [query["captions"] for query in read_queries(folder / TABLES)]


def test_a_picture_that_changed_is_verified_without_the_others(tmp_path: Path) -> None:
    folder = fresh(tmp_path, {"dataset": {"name": "catalogue", "root": "shop"}})
    one, other = (row for row in catalogue.write(folder / "shop", 40)[:2])
    dvc(folder, "repro tables")
    manifest = folder / "data/manifests/catalogue.parquet"
    before = read_manifest(manifest)
    Image.new("RGB", (9, 7)).save(folder / "shop" / one["image"])
    (folder / "shop" / other["image"]).write_text("not looked at")
    stage(folder, "watch")
    printed = stage(folder, "download", "--again", one["id"])
    assert "1 images verified again; now `dvc commit" in printed
    assert ran(dvc(folder, "commit --force watch download", "repro tables")) == ["watch", "tables"]
    after = read_manifest(manifest)
    changed = [new["image_id"] for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [one["id"]]


def test_listing_names_tables_by_content_and_pictures_by_size(tmp_path: Path) -> None:
    rows = catalogue.write(tmp_path, 3)
    (tmp_path / "notes.txt").write_text("not read")
    (tmp_path / os.fsdecode(b"b\xff.jpg")).write_bytes(b"x")
    before = listing(tmp_path)
    assert len(before) == 5
    assert r"b\xff.jpg 1" in before
    (tmp_path / "products.csv").touch()
    assert listing(tmp_path) == before
    (tmp_path / rows[0]["image"]).write_bytes(b"other")
    assert len(set(listing(tmp_path)) - set(before)) == 1


def test_listing_names_the_tables_of_every_layout(tmp_path: Path) -> None:
    circo_data.write_annotations(tmp_path)
    (tmp_path / "queries.jsonl").write_text("{}")
    places = {line.partition(" ")[0] for line in listing(tmp_path)}
    assert places == {
        *("annotations/val.json", "annotations/test.json", circo_data.LIST, "queries.jsonl")
    }
    before = listing(tmp_path)
    (tmp_path / "annotations/val.json").write_text("[]")
    assert len(set(listing(tmp_path)) - set(before)) == 1


def test_listing_follows_links_and_passes_over_those_that_lead_nowhere(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "shop", tmp_path / "disk"
    catalogue.write(elsewhere, 3)
    folder.mkdir()
    (elsewhere / "products.csv").rename(folder / "products.csv")
    (folder / "pictures").symlink_to(elsewhere)
    (elsewhere / "round").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(tmp_path / "gone")
    (folder / "itself.jpg").symlink_to("itself.jpg")
    before = listing(folder)
    assert len(before) == 4
    next(elsewhere.glob("*/*.png")).write_bytes(b"other")
    assert len(set(listing(folder)) - set(before)) == 1
