"""The preview of a catalogue's queries, as the command makes it."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from rau.cli.app import app
from rau.datasets.catalogue.reader import CatalogueReader
from rau.errors import UserError
from rau.params import CatalogueParams
from tests import catalogue


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["triplets", *arguments])


class Images(HTMLParser):
    """Sources and texts of a page's pictures, and every address that it names."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        if tag == "img":
            self.found.append((own["src"] or "", own["alt"] or ""))
        self.addresses += [own[name] or "" for name in ("href", "src") if name in own]


def test_a_page_shows_some_of_every_kind(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    rows = catalogue.write(shop, 120)
    # A picture that is missing is no reason to show nothing, nor is a name that looks like markup.
    (shop / rows[0]["image"]).unlink()
    page = tmp_path / "page.html"
    done = run(str(shop), "-o", str(page), "--count", "4")
    assert done.exit_code == 0, done.output
    assert "note: column price: numeric" in done.output
    html = page.read_text(encoding="utf-8")
    images = Images()
    images.feed(html)
    assert all(address.startswith("data:image/jpeg;base64,") for address in images.addresses)
    kinds = CatalogueReader().read(shop).kinds()
    assert len(images.found) == sum(min(4, len(queries)) for queries in kinds.values())
    captions = {q["captions"][0] for queries in kinds.values() for q in queries}
    assert {alt for _, alt in images.found} <= captions
    for kind, queries in kinds.items():
        assert f"{kind.capitalize()} <small>{min(4, len(queries))} of" in html
    for source, _ in images.found:
        with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as picture:
            assert picture.width > 500


def test_values_are_escaped(tmp_path: Path) -> None:
    rows = catalogue.rows(60)
    for row in rows:
        row["colour"] = f"<script>{row['colour']}"
    catalogue.write_table(tmp_path, rows)
    assert run(str(tmp_path), "-o", str(tmp_path / "page.html")).exit_code == 0
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count("<script") == 1
    assert "&lt;script&gt;" in html


def test_parameters_name_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue.write(tmp_path / "shop", 60)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no catalogue is given"):
        raise run().exception or AssertionError
    own = {"name": "catalogue", "root": "shop", "catalogue": {"val_queries": 7}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"dataset": own}))
    done = run()
    assert done.exit_code == 0, done.output
    asked = CatalogueReader(CatalogueParams(val_queries=7)).read(tmp_path / "shop")
    total = sum(int(n.replace(",", "")) for n in re.findall(r": ([\d,]+) queries", done.output))
    assert total == len(asked.annotations().queries)
    assert (tmp_path / "triplets.html").exists()
