"""Parts of every page: templates, embedded images, the style sheet. A page is one HTML file."""

import base64
import io
from pathlib import Path

import jinja2
from matplotlib.figure import Figure
from PIL import Image

STYLE = Path(__file__).with_name("style.css")


def page_template(path: Path) -> jinja2.Template:
    """A page's template; values are escaped, and an undefined name is an error."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(path.read_text(encoding="utf-8"))


def png(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def jpeg(image: Image.Image) -> bytes:
    """An image as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def style() -> str:
    """The style sheet of every page."""
    return STYLE.read_text(encoding="utf-8")


def embed(data: bytes) -> str:
    """Base64 for a data URL."""
    return base64.b64encode(data).decode()


def mark(p: float) -> str:
    """The usual stars of a p-value: *** below 0.001, ** below 0.01, * below 0.05."""
    return "*" * sum(p < limit for limit in (0.05, 0.01, 0.001))
