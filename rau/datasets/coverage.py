"""How much of a data set is available: images, and the queries that can be answered with them."""

from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import NonNegativeInt

from rau.errors import UserError
from rau.params import Section
from rau.schemas import ManifestRow, QueryRow


def is_usable(query: QueryRow, gaps: Container[str]) -> bool:
    """Whether the reference is available, and the target unless it is hidden.

    Args:
        gaps: ids of the images that are missing or corrupt.
    """
    return query["reference_id"] not in gaps and query["target_id"] not in gaps


class Coverage(Section):
    """Numbers of images and val queries, expected and available.

    `val_queries_to_themselves` have their reference as target, which some protocols remove.
    `unusable` says how queries without their images count, as `evaluate.unusable`; None before
    anything is ranked.
    """

    images: NonNegativeInt
    images_expected: NonNegativeInt
    missing: NonNegativeInt
    corrupt: NonNegativeInt
    val_images: NonNegativeInt
    val_images_expected: NonNegativeInt
    val_queries_usable: NonNegativeInt
    val_queries: NonNegativeInt
    val_queries_to_themselves: NonNegativeInt = 0
    unusable: Literal["miss", "leave_out"] | None = None

    @property
    def complete(self) -> bool:
        """Whether every image is available."""
        return self.images == self.images_expected

    def __str__(self) -> str:
        words = (
            f"{self.images:,} of {self.images_expected:,} images; "
            f"{self.val_queries_usable:,} of {self.val_queries:,} val queries usable"
        )
        if self.val_queries_usable < self.val_queries and self.unusable is not None:
            words += {"miss": ", the others count as misses", "leave_out": ", the others left out"}[
                self.unusable
            ]
        if self.val_queries_to_themselves:
            words += (
                f"; {self.val_queries_to_themselves:,} val queries have their reference as target, "
                "a miss if it is removed"
            )
        return words


def measure(
    statuses: Mapping[str, str],
    queries: Sequence[QueryRow],
    val_gallery: Collection[str],
    unusable: Literal["miss", "leave_out"] | None = None,
) -> Coverage:
    """Count valid images, overall and in the val gallery, and usable val queries.

    Args:
        statuses: of the images, by id.
        val_gallery: ids of its images, of all categories.
        unusable: how queries without their images count.
    """
    gaps = {image_id: status for image_id, status in statuses.items() if status != "ok"}
    return _measured(len(statuses), gaps, queries, val_gallery, unusable)


def _measured(
    images: int,
    gaps: Mapping[str, str],
    queries: Sequence[QueryRow],
    val_gallery: Collection[str],
    unusable: Literal["miss", "leave_out"] | None = None,
) -> Coverage:
    val = [query for query in queries if query["split"] == "val"]
    gallery = set(val_gallery)
    return Coverage(
        images=images - len(gaps),
        images_expected=images,
        missing=sum(status == "missing" for status in gaps.values()),
        corrupt=sum(status == "corrupt" for status in gaps.values()),
        val_images=sum(image_id not in gaps for image_id in gallery),
        val_images_expected=len(gallery),
        val_queries_usable=sum(is_usable(query, gaps) for query in val),
        val_queries=len(val),
        val_queries_to_themselves=sum(q["target_id"] == q["reference_id"] for q in val),
        unusable=unusable,
    )


def table(
    splits: Mapping[tuple[str, str], Sequence[str]], queries: Sequence[QueryRow], manifest: pa.Table
) -> str:
    """Images and usable queries of every category and split, then images by source, as text."""
    gaps = unavailable(manifest)
    wide = max(14, *(len(category) + 2 for category, _ in splits))
    lines = [f"{'category':<{wide}}{'split':<8}{'images':>20}{'queries usable':>20}"]
    for (category, split), ids in splits.items():
        usable = [
            is_usable(query, gaps)
            for query in queries
            if (query["category"], query["split"]) == (category, split)
        ]
        listed = set(ids)
        images = f"{len(listed - gaps.keys()):,} of {len(listed):,}"
        answerable = f"{sum(usable):,} of {len(usable):,}"
        lines.append(f"{category:<{wide}}{split:<8}{images:>20}{answerable:>20}")
    lines += ["", f"{'source':<34}{'images':>8}"]
    found = manifest["source"].filter(pc.equal(manifest["status"], "ok"))
    for column in (found, _gaps(manifest)["status"]):
        counts = {str(one["values"]): one["counts"].as_py() for one in column.value_counts()}
        lines += [f"{name:<34}{count:>8,}" for name, count in Counter(counts).most_common()]
    return "\n".join([*lines, "", str(of_manifest(splits, queries, manifest))])


def of_manifest(
    splits: Mapping[tuple[str, str], Sequence[str]], queries: Sequence[QueryRow], manifest: pa.Table
) -> Coverage:
    """Count valid images, and val queries that can be answered."""
    val_gallery = {i for (_, split), ids in splits.items() if split == "val" for i in ids}
    return _measured(len(manifest), unavailable(manifest), queries, val_gallery)


def unavailable(images: pa.Table) -> dict[str, str]:
    """The status of every missing or corrupt image, by id."""
    gaps = _gaps(images)
    return dict(zip(gaps["image_id"].to_pylist(), gaps["status"].to_pylist(), strict=True))


def _gaps(manifest: pa.Table) -> pa.Table:
    """The rows of missing and corrupt images."""
    return manifest.filter(pc.field("status") != "ok")


def missing(manifest: pa.Table) -> str:
    """Every missing or corrupt image, as CSV."""
    gaps = _gaps(manifest).select(["image_id", "status", "source", "reason"])
    return str(gaps.to_pandas().to_csv(index=False))


def _why(row: ManifestRow) -> str:
    return row["status"] if row["reason"] is None else f"{row['status']}: {row['reason']}"


def check(manifest: pa.Table, allow_missing: bool, root: Path, listing: Path) -> None:
    """Refuse a manifest with missing or corrupt images.

    Args:
        listing: the file that lists them all, named in the error.

    Raises:
        UserError: on a gap, unless `allow_missing`.
    """
    gaps = _gaps(manifest).to_pylist()
    if gaps and not allow_missing:
        named = ", ".join(f"{row['image_id']} ({_why(row)})" for row in gaps[:5])
        named += ", …" if len(gaps) > 5 else ""
        raise UserError(
            f"{len(gaps):,} of {manifest.num_rows:,} images are missing in {root}: {named} (all in "
            f"{listing}); complete the folder, run again, or set dataset.allow_missing=true"
        )
