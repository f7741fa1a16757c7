"""Parts of every page: templates, embedded images, the style sheet. A page is one HTML file.

A page extends `page.html` and consists of the macros of `components.html`. Its content security
policy allows its own script, its own style and embedded images, and no external resource.
"""

import base64
import hashlib
import io
from pathlib import Path

import jinja2
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from rau.report.metric_names import label
from rau.report.numbers import signed

HERE = Path(__file__).parent


def page_template(path: Path) -> jinja2.Template:
    """The template of a page; values are escaped, and an undefined name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([path.parent, HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _file("page.js")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shared = {"script": script, "allowed": allowed, "style": _file("style.css")}
    environment.globals |= shared | {"plots": _file("plots.css")}
    environment.globals |= {"mark": mark, "label": label, "signed": signed}
    return environment.get_template(path.name)


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def png(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """A figure as SVG, with text kept as text; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "rau"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def jpeg(image: Image.Image) -> bytes:
    """An image as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def embed(data: bytes) -> str:
    """Encode as base64 for a data URL."""
    return base64.b64encode(data).decode()


def mark(p: float) -> str:
    """The usual stars of a p-value: *** below 0.001, ** below 0.01, * below 0.05."""
    return "*" * sum(p < limit for limit in (0.05, 0.01, 0.001))
