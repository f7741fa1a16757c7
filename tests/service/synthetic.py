"""A catalogue of squares of a few colours, its index, and the service that searches it."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from PIL import Image

from rau.evaluation.calibration import FILE, Calibration
from rau.search.index import read_manifest
from rau.service import server
from rau.service.app import create
from rau.service.live import Live
from tests.image_files import saved
from tests.search.synthetic import CPU, load_model, make_index

COLOURS = {"red": (200, 40, 40), "green": (40, 160, 70), "blue": (50, 80, 200)}
# An id that a page must not take for its own text.
HOSTILE = "<img src=x onerror=alert(1)>.png"


def square(colour: str, size: int = 40) -> bytes:
    """A PNG of one colour."""
    return saved(Image.new("RGB", (size, size), COLOURS[colour]), "PNG")


def make_catalogue(root: Path, count: int = 40) -> Path:
    """A folder of pictures with a product table; the first has an odd id."""
    root.mkdir(parents=True, exist_ok=True)
    lines = ["image,id,colour,price,new,tags"]
    for number in range(count):
        colour = [*COLOURS][number % 3]
        shade = Image.open(io.BytesIO(square(colour)))
        shade.paste((number * 6, 255 - number * 6, 90), (8, 8, 24, 10 + number % 25))
        shade.save(root / f"{number}.png")
        name = HOSTILE if number == 0 else f"shop/{number:02}"
        tags = "plain|small" if number % 2 else "plain"
        lines.append(f'{number}.png,"{name}",{colour},{number + 0.5},{number % 4 == 0},{tags}')
    (root / "products.csv").write_text("\n".join(lines) + "\n")
    return root


def make_synthetic(folder: Path, encoder_folder: Path) -> Path:
    """A catalogue and its index, which is returned; of every answer it is 72 % sure."""
    model = load_model(folder / "head", encoder_folder)
    index = make_index(folder / "index", make_catalogue(folder / "catalogue"), model)
    calibrate(index, 0.72)
    return index


def calibrate(index: Path, probability: float) -> None:
    """Say how sure every answer of an index is."""
    manifest = read_manifest(index)
    flat = {"share": [0.0, 1.0], "probability": [probability] * 2}
    made = Calibration.model_validate(
        {
            "head": manifest.model,
            "source": manifest.source,
            "queries": 100,
            "gallery": manifest.count,
            "temperature": 1,
            "maps": {"1": flat, "5": flat, "10": flat, "50": flat},
            "threshold": 0.5,
        }
    )
    made.write(index / FILE)


@contextmanager
def served(index: Path | Live, patience: float = server.PATIENCE, **options: Any) -> Iterator[str]:
    """The address of a real server for the length of a block."""
    live = index if isinstance(index, Live) else Live(index, CPU)
    app = create(live, server.names("127.0.0.1", ()), **options)
    listening = server.listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    running = server.configured(app)
    with patch.object(server, "PATIENCE", patience):
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            running.should_exit = True
            thread.join()
