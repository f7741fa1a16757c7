"""Search from Python: an index, or the val gallery of a data set with a trained run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL.Image import Image

from rau import devices
from rau.evaluation.calibration import Confidence
from rau.pictures import to_rgb
from rau.project import galleries, named_models, workspace
from rau.report.image_strips import Strip, draw
from rau.search.index import MANIFEST
from rau.search.model import NEUTRAL
from rau.search.scope import Searched
from rau.search.searcher import Hit, Searcher

# An id of the index, a file, or an image.
Reference = str | Path | Image


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        hits: best first, each with `id`, `score` (a cosine), `path` and `attributes`.
        confidence: the probability that the target is among the first k (`probability_at_k`), and
            the length of the shortest list that contains it with 90 % (`prediction_set_size`);
            None if it was not validated for such a query and gallery.
        confidence_unavailable: why `confidence` is None.
        searched: the searched images: their `category`, None for any, and their number, `images`,
            of the `images_any_category` that pass the filter.
        strip: an image of the reference, its caption and the hits.
    """

    hits: list[Hit]
    confidence: Confidence | None
    confidence_unavailable: str | None
    searched: Searched
    strip: Image

    @property
    def frame(self) -> pd.DataFrame:
        """One row per hit: rank, id, score and attributes.

        An attribute with the name of one of the first three is renamed to `attribute.<name>`.
        """
        rows = []
        for rank, hit in enumerate(self.hits, 1):
            own = {"rank": rank, "id": hit.id, "score": hit.score}
            rows.append(
                own | {f"attribute.{k}" if k in own else k: v for k, v in hit.attributes.items()}
            )
        return pd.DataFrame(rows).set_index("rank") if rows else pd.DataFrame()

    def show(self) -> None:
        """Open the strip in the system's image viewer."""
        self.strip.show()

    def _repr_png_(self) -> bytes | None:
        """Show the strip in a notebook."""
        return self.strip._repr_png_()


@dataclass(frozen=True)
class Search:
    """An index and its model, loaded once; thread-safe."""

    searcher: Searcher

    def __len__(self) -> int:
        return len(self.searcher.index)

    def search(
        self,
        image: Reference | Sequence[Reference] | None = None,
        text: str = "",
        k: int = 10,
        *,
        where: str | None = None,
        without: str = "",
        image_weight: float = NEUTRAL,
        keep_references: bool = False,
        any_category: bool = False,
    ) -> Found:
        """Find the k images that best match the references and the caption.

        Args:
            image: one reference or several (an id of the index, a file or an image), or None.
            text: what should be different, or a description if there is no reference.
            where: a filter by attributes, such as `category = 'dress' and price < 50`
                (docs/catalogue.md).
            without: what should not be in the image.
            image_weight: from only the text (0) to only the references (1); 0.5 is the head.
            keep_references: include references that are in the index in the result.
            any_category: search all categories. By default, only the references' category is
                searched if they are in the index and share it, and `where` names no category.

        Raises:
            UserError: when the query is empty, an image cannot be decoded, or the filter is
                malformed.

        >>> search = rau.load(index)
        >>> found = search.search("a/000.png", "is red", k=3)
        >>> len(found.hits), "a/000.png" in {hit.id for hit in found.hits}
        (3, False)
        """
        given = [] if image is None else [image] if isinstance(image, Reference) else list(image)
        given = [to_rgb(one) if isinstance(one, Image) else one for one in given]
        known = self.searcher.index.place
        named = [Path(one) if isinstance(one, str) and one not in known else one for one in given]
        answer = self.searcher.ask(
            named, text, without, image_weight, k, where, keep_references, any_category
        )
        ranked = [self._image(hit.id) for hit in answer.hits]
        strip = draw(Strip(self._image(given[0]) if given else None, text, ranked))
        return Found(
            answer.hits, answer.confidence, answer.confidence_unavailable, answer.searched, strip
        )

    def _image(self, image: Reference) -> Path | bytes | Image:
        if isinstance(image, str):
            return self.searcher.index.thumbnail(image) or Path(image)
        return image


def load(
    source: str | Path = ".", *, device: str = "auto", trust_remote_code: bool = False
) -> Search:
    """Load an index or a trained run for searches.

    Args:
        source: the folder of an index created by `rau index`; or, with the project as the working
            folder, a trained run, which searches the val gallery of its data set: the project's
            folder, a git revision, a DVC experiment, an MLflow run or `models:/NAME@ALIAS`. The
            gallery is encoded on first use and stored under `data/.parts`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        trust_remote_code: run code that comes with an encoder of sentence-transformers.

    Raises:
        UserError: when the source is not found or is damaged.

    >>> search = rau.load(index)
    >>> len(search) > 0
    True
    """
    chosen = devices.choose(device, "device")
    if (Path(source) / MANIFEST).is_file():
        return Search(Searcher.open(Path(source), chosen, trust_remote_code))
    with named_models.opened(str(source), chosen, trust_remote_code) as model:
        folder = workspace.parts() / "search" / model.key
        galleries.index(folder, model)
        return Search(Searcher.open(folder, chosen, trust_remote_code))
