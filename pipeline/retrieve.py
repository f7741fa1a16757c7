"""Search with the trained head from the command line."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import stage, workspace
from rau.errors import UserError

if TYPE_CHECKING:
    from rau.schemas import GalleryRow


def main(
    image: Annotated[str, typer.Argument(help="an image id of the data set, or an image file")],
    caption: Annotated[str, typer.Argument(help="what should be different")],
    top_k: Annotated[int, typer.Option("-k", min=1, max=1000, help="how many to print")] = 10,
    category: Annotated[
        str | None, typer.Option(help="search this category's gallery only")
    ] = None,
    keep_reference: Annotated[bool, typer.Option(help="let the reference be an answer")] = False,
    strip: Annotated[Path | None, typer.Option(help="write the ranked images here")] = None,
) -> None:
    """Print the images of the val gallery that best match IMAGE and CAPTION."""
    import torch

    from rau import devices
    from rau.datasets.captions import joins_captions, single_text
    from rau.encoders import encoder
    from rau.evaluation.run import TrainedHead
    from rau.features import table
    from rau.files import write_bytes
    from rau.report.examples import image_paths
    from rau.report.html import jpeg
    from rau.report.image_strips import Strip, draw
    from rau.retrieval.feature_set import FeatureSet
    from rau.schemas import read_galleries, read_images, read_queries
    from rau.search import query

    if strip is not None and strip.suffix.lower() not in (".jpg", ".jpeg"):
        raise UserError(f"--strip {strip}: the strip is written as JPEG; name it .jpg")
    params = workspace.load_params()
    if params.features.source is not None:
        raise UserError("features.source names features, not an encoder: a caption has no feature")
    name = params.dataset.name
    device = devices.choose(params.train.device)
    pair = table.read_pair(*(workspace.features(name, kind) for kind in ("images", "texts")))
    head = TrainedHead.load(workspace.model(name), FeatureSet.on(device, *pair)).head
    trusted = params.encoder.trust_remote_code
    loaded = encoder.load_maker(workspace.encoder(name), device, pair[0].metadata, trusted)
    galleries = read_galleries(workspace.table(name, "galleries"))
    ids = _gallery(galleries, category, set(pair[0].names))
    gallery = torch.tensor(pair[0].matrix[pair[0].rows(ids, "images")], device=device)
    images = read_images(workspace.table(name, "images"))
    paths = image_paths(workspace.store(params.dataset), images)
    reference = _reference(image, paths)
    queries = read_queries(workspace.table(name, "queries"))
    text = single_text(caption, joins_captions(query["captions"] for query in queries))
    hits, uncertainty = query.search(
        head,
        loaded.encode_images(loaded.load_images([reference]))[0].to(device),
        loaded.encode_texts([text])[0].to(device),
        query.encode_gallery(head, gallery),
        ids,
        top_k,
        ids.index(image) if image in ids and not keep_reference else -1,
    )
    for place, hit in enumerate(hits, 1):
        print(f"{place:4}  {hit.score:.4g}  {hit.image_id}  {paths[hit.image_id]}")
    print(f"uncertainty of the query: {uncertainty:.4f}")
    if strip is not None:
        picture = draw(Strip(reference, caption, [paths[hit.image_id] for hit in hits]))
        write_bytes(strip, jpeg(picture))
        print(f"strip: {strip}")


def _gallery(rows: "list[GalleryRow]", category: str | None, present: set[str]) -> list[str]:
    known = sorted({row["category"] for row in rows})
    if category is not None and category not in known:
        raise UserError(f"--category {category}: choose from {', '.join(known)}")
    return sorted(
        {
            row["image_id"]
            for row in rows
            if row["gallery"] == "original"
            and category in (None, row["category"])
            and row["image_id"] in present
        }
    )


def _reference(image: str, paths: dict[str, Path]) -> Path:
    if image in paths:
        return paths[image]
    if Path(image).is_file():
        return Path(image)
    raise UserError(f"{image} is neither an image id of the data set nor a file")


if __name__ == "__main__":
    stage.run(main)
