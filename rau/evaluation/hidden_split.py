"""The split of a data set whose targets are known only to an evaluation server."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from rau.errors import UserError
from rau.retrieval.feature_set import FeatureSet
from rau.schemas import GalleryRow, QueryRow

# A file that a server takes: the ranked images by query, and what else its format asks for.
Document = dict[str, Any]


@dataclass(frozen=True)
class HiddenSplit:
    """The queries and images that a submission must cover.

    Attributes:
        split: name of the split.
        queries: at least one.
        gallery: ids of the images that are ranked.
    """

    split: str
    queries: Sequence[QueryRow]
    gallery: frozenset[str]

    @classmethod
    def of(
        cls,
        split: str,
        gallery: str,
        queries: Sequence[QueryRow],
        galleries: Sequence[GalleryRow],
    ) -> Self | None:
        """Select the split from the tables; None if it has no queries.

        Args:
            split, gallery: their names in the tables.
        """
        own = [query for query in queries if query["split"] == split]
        names = frozenset(row["image_id"] for row in galleries if row["gallery"] == gallery)
        return cls(split, own, names) if own else None

    def check_whole(self, features: FeatureSet) -> None:
        """Check that features have all images; without them a submission would be meaningless.

        Raises:
            UserError: naming the first few missing images.
        """
        absent = sorted(self.gallery - set(features.images.names))
        if absent:
            raise UserError(
                f"no submission: {len(absent):,} of {len(self.gallery):,} {self.split} images are "
                f"missing ({', '.join(absent[:3])}); complete the images"
            )
