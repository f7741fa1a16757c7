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
from rau.search.scope import Scope, Searched, scope_of
from rau.search.where import parse

MAX_K = 1000
REMEDY = "`rau index --calibrate` fits it for this index"
# An image's id in the index, its file, the file's bytes, an RGB image, or its raw feature
# (d_image,). A string is always an id and never a path, so that no request can open a file.
Reference = str | Path | bytes | Image | Tensor


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
        confidence: None if it was not validated for this kind of query and gallery.
        confidence_unavailable: why `confidence` is None.
        searched: the images that were searched.
    """

    hits: list[Hit]
    confidence: Confidence | None
    confidence_unavailable: str | None
    searched: Searched


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
                f"{index.model_folder} is not the model of the index {folder}; run "
                "`rau index --renew`"
            )
        return cls(index, model, _calibration(index, model))

    @property
    def stale(self) -> bool:
        """Whether the index or its calibration has changed; open it again to use the new state."""
        return self.index.stale or _calibration(self.index, self.model) != self.calibration

    def ask(
        self,
        references: Sequence[Reference],
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
            references: those of the index are not answers, unless `keep_references`. The confidence
                never counts them.
            caption, without, image_weight: as in `Query`.
            where, any_category: as in `search`.

        Raises:
            UserError: as in `reference` and `search`, or if a text is not valid Unicode.
        """
        try:
            (caption + without + (where or "")).encode()
        except UnicodeEncodeError as error:
            raise UserError("the text is not valid Unicode; correct its encoding") from error
        features = [self.reference(one) for one in references]
        query = Query(features, caption.strip(), without.strip(), image_weight)
        own = [one for one in references if isinstance(one, str)]
        return self.search(query, k, where, own, keep_references, any_category)

    def reference(self, image: Reference) -> Tensor:
        """Raw image feature (d_image,) of a reference.

        Raises:
            UserError: if there is no such id, or the image cannot be decoded.
        """
        if isinstance(image, Tensor):
            return image
        if not isinstance(image, str):
            return self.model.image_feature(image)
        if image not in self.index.place:
            raise UserError(f"the index has no image {image}")
        return self.index.feature(image)

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
        unavailable = self._confidence_unavailable(query, scope)
        count = (k if unavailable else max(k, LISTED)) + len(references)
        asked = vector[None].float().cpu().numpy()
        (found,) = self.index.engine.search(asked, count, scope.condition)
        own = set(references)
        others = [place for place, name in enumerate(found.ids) if name not in own]
        shown = range(len(found.ids)) if keep_references else others
        hits = [self._hit(found.ids[place], found.scores[place]) for place in shown[:k]]
        confidence = None
        if unavailable is None and self.calibration is not None:
            confidence = self.calibration.confidence(found.scores[others])
        return Answer(hits, confidence, unavailable, scope.searched)

    def _confidence_unavailable(self, query: Query, scope: Scope) -> str | None:
        """Why an answer has no confidence; None if it has one."""
        fitted = self.calibration
        if fitted is None:
            return f"the model is not calibrated; {REMEDY}"
        if not query.plain:
            return "it was only validated for a single reference image with a caption"
        if scope.mixed:
            return "it was only validated for searches within one category"
        manifest = self.index.manifest
        if fitted.head != manifest.model and not fitted.source.startswith(DATASET):
            return f"it was fitted by an older version that did not record its images; {REMEDY}"
        reason = fitted.inapplicable(manifest.source, scope.searched.images, manifest.engine)
        return None if reason is None else f"it was {reason}; {REMEDY}"

    def _hit(self, image: str, score: np.float32) -> Hit:
        index = self.index
        return Hit(image, min(float(score), 1.0), index.path(image), index.attributes(image))


def _calibration(index: Index, model: Model) -> Calibration | None:
    """The index's own calibration if it has one of the same model, else the head's."""
    path = index.folder / FILE
    if path.exists():
        own = Calibration.read(path)
        if own.head == index.manifest.model:
            return own
    return model.calibration
