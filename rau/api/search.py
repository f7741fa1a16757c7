"""Search from Python: an index, or a trained run over the val gallery of its data set."""

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
from rau.search.scope import Among
from rau.search.searcher import Hit, Searcher

# An id of the index, a file, or a picture.
Picture = str | Path | Image


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        hits: best first, each with `id`, `score` (a cosine), `path` and `attributes`.
        confidence: the probability that what is wanted is among the first k (`within`), and the
            length of the shortest list that holds it with 90 % (`enough`); None where no number
            was ever checked for such a query and gallery.
        doubt: why, in words.
        among: which pictures they were chosen from: their `category`, None for any, and their
            number, `pictures`, of the `anywhere` that pass the filter.
        strip: the reference and its caption, then the pictures found.
    """

    hits: list[Hit]
    confidence: Confidence | None
    doubt: str | None
    among: Among
    strip: Image

    @property
    def frame(self) -> pd.DataFrame:
        """A row per picture: rank, id, score and attributes.

        An attribute that is called as one of the first three is `attribute.<name>`.
        """
        rows = []
        for rank, hit in enumerate(self.hits, 1):
            own = {"rank": rank, "id": hit.id, "score": hit.score}
            rows.append(
                own | {f"attribute.{k}" if k in own else k: v for k, v in hit.attributes.items()}
            )
        return pd.DataFrame(rows).set_index("rank") if rows else pd.DataFrame()

    def show(self) -> None:
        """Open the strip in the system's viewer of pictures."""
        self.strip.show()

    def _repr_png_(self) -> bytes | None:
        """In a notebook a result is shown as its strip."""
        return self.strip._repr_png_()


@dataclass(frozen=True)
class Search:
    """An index with its model, loaded once; any number of threads may ask it."""

    searcher: Searcher

    def __len__(self) -> int:
        return len(self.searcher.index)

    def search(
        self,
        image: Picture | Sequence[Picture] | None = None,
        text: str = "",
        k: int = 10,
        *,
        where: str | None = None,
        without: str = "",
        image_weight: float = NEUTRAL,
        keep_reference: bool = False,
        any_category: bool = False,
    ) -> Found:
        """The k pictures that best match what is shown and said.

        Args:
            image: an id of the index, a file or a picture; several; or none.
            text: what should be different, or with no picture what is wanted.
            where: a filter by attributes, as `category = 'dress' and price < 50`
                (docs/catalogue.md).
            without: what should not be there.
            image_weight: towards the picture alone (1) or the text alone (0); 0.5 is the head.
            keep_reference: let a picture of the index that is asked with be an answer.
            any_category: look at pictures of every category. Else those of the pictures asked with
                are looked at, where these are of the index and share their `category`, and `where`
                names none.

        Raises:
            UserError: when nothing is asked for, a picture cannot be decoded, or the filter is
                malformed.

        >>> search = rau.load(index)
        >>> found = search.search("a/000.png", "is red", k=3)
        >>> len(found.hits), "a/000.png" in {hit.id for hit in found.hits}
        (3, False)
        """
        given = [] if image is None else [image] if isinstance(image, Picture) else list(image)
        given = [to_rgb(one) if isinstance(one, Image) else one for one in given]
        known = self.searcher.index.place
        named = [Path(one) if isinstance(one, str) and one not in known else one for one in given]
        answer = self.searcher.ask(
            named, text, without, image_weight, k, where, keep_reference, any_category
        )
        ranked = [self._picture(hit.id) for hit in answer.hits]
        strip = draw(Strip(self._picture(given[0]) if given else None, text, ranked))
        return Found(answer.hits, answer.confidence, answer.doubt, answer.among, strip)

    def _picture(self, picture: Picture) -> Path | bytes | Image:
        if isinstance(picture, str):
            return self.searcher.index.thumbnail(picture) or Path(picture)
        return picture


def load(
    source: str | Path = ".", *, device: str = "auto", trust_remote_code: bool = False
) -> Search:
    """Open what can be searched.

    Args:
        source: the folder of an index that `rau index` made; or, with the project as the working
            folder, its trained run by the project's folder, a git revision, a DVC experiment, an
            MLflow run or `models:/NAME@ALIAS`, which searches the val gallery of its data set. The
            gallery's pictures are encoded the first time, and kept under `data/.parts`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        trust_remote_code: run code that comes with an encoder of sentence-transformers.

    Raises:
        UserError: when it is none of these, or is damaged.

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
