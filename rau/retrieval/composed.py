"""The row `composed`: queries that the encoder made of picture and text in one pass, untrained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rau.features.table import Features, pair_name
from rau.retrieval.feature_set import FeatureSet

if TYPE_CHECKING:
    from rau.retrieval.tasks import Task

COMPOSED = "composed"


@dataclass(frozen=True)
class Composed:
    """A method whose queries are features of pairs; they take the place of the text's features.

    `pairs` is the table of `features.cache.Cache.encode_pairs`.
    """

    pairs: Features

    def look_up(
        self, tasks: Sequence["Task"], features: FeatureSet
    ) -> tuple[list["Task"], FeatureSet]:
        """The tasks with rows of the pairs as those of their texts, and the features to rank with.

        Raises:
            UserError: when a pair has no feature.
        """
        matrix = torch.from_numpy(self.pairs.matrix).to(features.device)
        own = replace(features, texts=self.pairs, text_matrix=matrix)
        return [replace(task, text=self._rows(task)) for task in tasks], own

    def _rows(self, task: "Task") -> NDArray[np.int64]:
        """Rows of the pairs, (R, orders); 0 where the reference is missing, which is a miss."""
        rows = np.zeros_like(task.text)
        there = np.flatnonzero(task.reference >= 0)
        names = [
            pair_name(task.reference_ids[row], text) for row in there for text in task.texts[row]
        ]
        rows[there] = self.pairs.rows(names, "pairs").reshape(len(there), rows.shape[1])
        return rows

    def encode_query(self, reference: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, d) of pairs to unit vectors (B, d) and no uncertainty (B,)."""
        return F.normalize(text, dim=-1), text.new_zeros(len(text))

    def encode_gallery(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d) to unit vectors (B, d) and no uncertainty (B,)."""
        return F.normalize(image, dim=-1), image.new_zeros(len(image))
