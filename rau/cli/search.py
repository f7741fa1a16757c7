"""`rau search`: search an index by images and a caption."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rau.cli.options import Device, IndexFolder, TrustRemoteCode
from rau.console import printable
from rau.errors import UserError

if TYPE_CHECKING:
    from rau.search.searcher import Answer, Searcher


def search(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|CAPTION",
            help="reference images (ids of the index or files), then a caption that says what "
            "should be different; either can be omitted",
        ),
    ],
    *,
    index: IndexFolder,
    top_k: Annotated[int, typer.Option("-k", min=1, max=1000, help="number of results")] = 10,
    where: Annotated[
        str | None, typer.Option(help="a filter: \"category = 'dress' and price < 50\"")
    ] = None,
    image_weight: Annotated[
        float,
        typer.Option(min=0, max=1, help="1 uses only the images, 0 only the caption"),
    ] = 0.5,
    without: Annotated[str, typer.Option(help="what the image should not show")] = "",
    keep_references: Annotated[
        bool, typer.Option("--keep-references", help="include references in the results")
    ] = False,
    any_category: Annotated[
        bool,
        typer.Option("--any-category", help="search all categories, not only the references'"),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    strip: Annotated[
        Path | None, typer.Option(help="JPEG file to write the ranked images to")
    ] = None,
    device: Device = "auto",
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Print the images of an index that best match the references and the caption."""
    if strip is not None and strip.suffix.lower() not in (".jpg", ".jpeg"):
        raise UserError(f"--strip {strip}: the image is written as JPEG; use the suffix .jpg")
    from rau import devices
    from rau.search.searcher import Searcher

    opened = Searcher.open(index, devices.choose(device, "--device"), trust_remote_code)
    images, caption = _told_apart(what, opened)
    answer = opened.ask(
        images, caption, without, image_weight, top_k, where, keep_references, any_category
    )
    if as_json:
        print(_as_json(answer, sys.stdout.encoding))
    else:
        print(_as_table(answer))
    if strip is not None:
        _draw(strip, opened, images, caption, answer)


def _told_apart(what: list[str], searcher: "Searcher") -> tuple[list[str | Path], str]:
    """Split arguments into references (ids and files) and the caption, the only other argument."""
    from rau.pictures import SUFFIXES

    images: list[str | Path] = []
    captions = []
    for one in what:
        if one in searcher.index.place:
            images.append(one)
        elif one.lower().endswith(SUFFIXES):
            images.append(Path(one))
        else:
            captions.append(one)
    if len(captions) > 1:
        raise UserError(
            f"{captions[0]!r} and {captions[1]!r} are neither ids of the index nor image files "
            f"({', '.join(SUFFIXES[:3])} …), and there can be only one caption"
        )
    return images, "".join(captions).strip()


def _as_json(answer: "Answer", encoding: str | None) -> str:
    """The answer as JSON; letters that the output may not have are escaped.

    Args:
        encoding: of the output; None for one in memory, which has all letters.
    """
    plain = encoding is not None and not encoding.casefold().startswith("utf")
    return json.dumps(asdict(answer), indent=2, ensure_ascii=plain)


def _as_table(answer: "Answer") -> str:
    lines = [
        f"{place:4}  {hit.score:.4f}  {hit.id}"
        + "".join(f"  {name}={_short(value)}" for name, value in hit.attributes.items())
        for place, hit in enumerate(answer.hits, 1)
    ]
    whole = [*(lines or ["no image passes the filter"]), _searched(answer), _confidence(answer)]
    return "\n".join(map(printable, whole))


def _searched(answer: "Answer") -> str:
    """Describe in one line which images were searched."""
    own = answer.searched
    if own.category is None:
        return f"searched {own.images:,} images"
    return (
        f"searched {own.images:,} images of category {own.category}; "
        f"--any-category searches all {own.images_any_category:,}"
    )


def _confidence(answer: "Answer") -> str:
    """Describe the confidence in one line."""
    if answer.confidence is None:
        return f"confidence unavailable: {answer.confidence_unavailable}"
    at_k = answer.confidence.probability_at_k.items()
    probability = ", ".join(f"first {k}: {p:.0%}" for k, p in at_k)
    size = answer.confidence.prediction_set_size
    shortest = f"the first {size} contain it with 90 %" if size else "no short list reaches 90 %"
    return f"probability that a correct image is among the {probability}; {shortest}"


def _short(value: object) -> str:
    return "|".join(map(str, value)) if isinstance(value, list) else str(value)


def _draw(
    path: Path, searcher: "Searcher", images: list[str | Path], caption: str, answer: "Answer"
) -> None:
    from rau.files import write_bytes
    from rau.report.html import jpeg
    from rau.report.image_strips import Strip, draw

    def image(one: str | Path) -> Path | bytes:
        return one if isinstance(one, Path) else searcher.index.thumbnail(one) or b""

    ranked = [image(hit.id) for hit in answer.hits]
    reference = image(images[0]) if images else None
    write_bytes(path, jpeg(draw(Strip(reference, caption, ranked))))
