"""Search: an index and its model, opened once and used by any number of threads.

For services: `Searcher.open` loads everything that queries need. `ask` answers references (ids of
the index, files, their bytes or features) and captions with ids, scores and attributes.
`Index.thumbnail` returns an image's JPEG by id. If `Searcher.stale` is true, the index has changed
and can be opened again, also while requests are still running.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from rau.errors import UserError
from rau.evaluation.calibration import DATASET, FILE, LISTED, Calibration, Confidence
from rau.search.index import Index
from rau.search.model import NEUTRAL, Model, Query, query_vector
from rau.search.scope import Among, Scope, scope_of
from rau.search.where import parse

MAX_K = 1000
REMEDY = "`rau index --calibrate` fits it for this index"
# An image's id in the index, its file, the file's bytes, an RGB image, or its raw feature
# (d_image,). A string is always an id and never a path, so that no request can open a file.
Picture = str | Path | bytes | Image | Tensor


@dataclass(frozen=True)
class Hit:
    """One image of an answer; `score` is its cosine similarity to the query."""

    id: str
    score: float
    path: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The best images, best first, and their confidence.

    Attributes:
        confidence: None if it was never checked for this kind of query and gallery.
        doubt: why `confidence` is None, in words.
        among: the images that they were chosen from.
    """

    hits: list[Hit]
    confidence: Confidence | None
    doubt: str | None
    among: Among


@dataclass(frozen=True)
class Searcher:
    """A search over an index, see the module."""

    index: Index
    model: Model
    calibration: Calibration | None

    @classmethod
    def open(
        cls,
        folder: Path,
        device: torch.device,
        trust_remote_code: bool = False,
        loaded: Model | None = None,
    ) -> Self:
        """Open an index with its copy of the model.

        Args:
            trust_remote_code: as `encoder.trust_remote_code`; an index may be from someone else.
            loaded: a model to use instead of the copy if it is the same.

        Raises:
            UserError: if the index or the model is missing or damaged.
        """
        index = Index.open(folder)
        model = loaded
        if model is None or model.key != index.manifest.model:
            if not index.model_folder.is_dir():
                raise UserError(f"{index.model_folder} is missing; run `rau index` again")
            model = Model.open_copy(index.model_folder, device, trust_remote_code)
        if model.key != index.manifest.model:
            raise UserError(
                f"{index.model_folder} is another model than made {folder}; run `rau index --renew`"
            )
        return cls(index, model, _calibration(index, model))

    @property
    def stale(self) -> bool:
        """Whether the index or its calibration has changed; open it again to use the new state."""
        return self.index.stale or _calibration(self.index, self.model) != self.calibration

    def ask(
        self,
        pictures: Sequence[Picture],
        caption: str = "",
        without: str = "",
        image_weight: float = NEUTRAL,
        k: int = 10,
        where: str | None = None,
        keep_references: bool = False,
        any_category: bool = False,
    ) -> Answer:
        """The k best images for a request.

        Args:
            pictures: references; those of the index are not answers, unless `keep_references`. The
                confidence never counts them.
            caption, without, image_weight: as in `Query`.
            where, any_category: as in `search`.

        Raises:
            UserError: as in `reference` and `search`, or if a text is not valid Unicode.
        """
        try:
            (caption + without + (where or "")).encode()
        except UnicodeEncodeError as error:
            raise UserError("the words are not UTF-8; write them so") from error
        references = [self.reference(one) for one in pictures]
        query = Query(references, caption.strip(), without.strip(), image_weight)
        own = [one for one in pictures if isinstance(one, str)]
        return self.search(query, k, where, own, keep_references, any_category)

    def reference(self, picture: Picture) -> Tensor:
        """Raw image feature (d_image,) of a reference.

        Raises:
            UserError: if there is no such id, or the image cannot be decoded.
        """
        if isinstance(picture, Tensor):
            return picture
        if not isinstance(picture, str):
            return self.model.image_feature(picture)
        if picture not in self.index.place:
            raise UserError(f"{picture} is not a picture of the index")
        return self.index.feature(picture)

    def search(
        self,
        query: Query,
        k: int = 10,
        where: str | None = None,
        references: Sequence[str] = (),
        keep_references: bool = False,
        any_category: bool = False,
    ) -> Answer:
        """The k best images for a query.

        Args:
            where: a filter in the language of `rau.search.where`.
            references: ids of the references that are in the index.
            keep_references: as in `ask`.
            any_category: search all categories. By default, the search is limited to the
                references' category if all references are in the index and share one, and the
                filter does not name the category.

        Raises:
            UserError: if the query is empty, the filter is malformed, or k or the query's
                `image_weight` is out of range.
        """
        if not 1 <= k <= MAX_K:
            raise UserError(f"k is {k}; give a number from 1 to {MAX_K}")
        if not 0 <= query.image_weight <= 1:
            raise UserError(f"image_weight is {query.image_weight}; give a number from 0 to 1")
        condition = None if where is None else parse(where, self.index.schema)
        vector = query_vector(self.model, query, self.index.centre)
        keep_category = not any_category and len(references) == len(query.references)
        scope = scope_of(self.index, condition, references, keep_category)
        doubt = self._doubt(query, scope)
        count = (k if doubt else max(k, LISTED)) + len(references)
        asked = vector[None].float().cpu().numpy()
        (found,) = self.index.engine.search(asked, count, scope.condition)
        own = set(references)
        others = [place for place, name in enumerate(found.ids) if name not in own]
        shown = range(len(found.ids)) if keep_references else others
        hits = [self._hit(found.ids[place], found.scores[place]) for place in shown[:k]]
        confidence = None
        if doubt is None and self.calibration is not None:
            confidence = self.calibration.confidence(found.scores[others])
        return Answer(hits, confidence, doubt, scope.among)

    def _doubt(self, query: Query, scope: Scope) -> str | None:
        """Why an answer has no confidence; None if it has one."""
        fitted = self.calibration
        if fitted is None:
            return f"this model was not calibrated; {REMEDY}"
        if not query.plain:
            return "only a picture with a caption was ever checked"
        if scope.mixed:
            return "only searches among one category were ever checked"
        manifest = self.index.manifest
        if fitted.head != manifest.model and not fitted.source.startswith(DATASET):
            return f"fitted by an older version that did not say on which pictures; {REMEDY}"
        doubt = fitted.doubt(manifest.source, scope.among.pictures, manifest.engine)
        return None if doubt is None else f"{doubt}; {REMEDY}"

    def _hit(self, picture: str, score: np.float32) -> Hit:
        index = self.index
        return Hit(picture, min(float(score), 1.0), index.path(picture), index.attributes(picture))


def _calibration(index: Index, model: Model) -> Calibration | None:
    """The index's own calibration if it has one of the same model, else the head's."""
    path = index.folder / FILE
    if path.exists():
        own = Calibration.read(path)
        if own.head == index.manifest.model:
            return own
    return model.calibration
