"""The split of a data set whose targets only a server knows."""

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
    """What a submission must cover.

    Attributes:
        split: its name.
        queries: at least one.
        gallery: ids of the images that they are ranked among.
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
        """Take it from the tables; None where it has no queries.

        Args:
            split, gallery: their names there.
        """
        own = [query for query in queries if query["split"] == split]
        names = frozenset(row["image_id"] for row in galleries if row["gallery"] == gallery)
        return cls(split, own, names) if own else None

    def check_whole(self, features: FeatureSet) -> None:
        """Refuse features that lack an image: a submission without it would not measure the method.

        Raises:
            UserError: naming the first few that lack.
        """
        absent = sorted(self.gallery - set(features.images.names))
        if absent:
            raise UserError(
                f"no submission: {len(absent):,} of {len(self.gallery):,} {self.split} images are "
                f"missing ({', '.join(absent[:3])}); complete the images"
            )
