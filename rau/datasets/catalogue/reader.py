"""A catalogue as the images, queries and galleries that every data set has."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rau.datasets.annotations import Annotations
from rau.datasets.catalogue import people, products, triplets
from rau.datasets.catalogue.captions import KINDS
from rau.datasets.catalogue.products import Products
from rau.datasets.catalogue.triplets import Part
from rau.errors import UserError
from rau.params import CatalogueParams
from rau.schemas import QueryRow

PEOPLE = "by people"


@dataclass(frozen=True)
class Catalogue:
    """A product table with its queries.

    Attributes:
        parts: products and drawn queries of every category and split.
        requests: queries by people, between products of one split.
        refused: what is no answer of a reference and a caption, to people.
        notes: what a user should know, each a line.
    """

    products: Products
    parts: list[Part]
    requests: list[people.Request]
    refused: people.Refused
    val: NDArray[np.bool_]
    files: dict[str, Path]
    notes: list[str]

    @property
    def described(self) -> list[str]:
        """How every column is used, and the notes."""
        return [*(f"column {line}" for line in self.products.usage), *self.notes]

    def kinds(self) -> dict[str, list[QueryRow]]:
        """All queries by kind: by people, of one attribute's kind, vague, of two changes."""
        found: dict[str, list[QueryRow]] = {kind: [] for kind in (*KINDS, PEOPLE)}
        said = {(r.reference, t) for r in self.requests for t in r.targets}
        for part in self.parts:
            drawn = (
                (one, self.refused.get((one.reference, one.caption.text), frozenset()))
                for one in part.triplets
                if (one.reference, one.target) not in said
            )
            asked = ((one, wrong) for one, wrong in drawn if one.target not in wrong)
            for number, (one, wrong) in enumerate(asked):
                name = f"{part.category}-{part.split}-{number}"
                answers = [answer for answer in one.answers.tolist() if answer not in wrong]
                query = self._query(name, one.reference, one.target, one.caption.text, answers)
                found[one.caption.kind].append(query)
        for number, request in enumerate(self.requests):
            for target in request.targets:
                own = self.products.categories[target]
                alike = [t for t in request.targets if self.products.categories[t] == own]
                name = f"people-{number}-{target}"
                query = self._query(name, request.reference, target, request.caption, alike)
                found[PEOPLE].append(query)
        return {kind: queries for kind, queries in found.items() if queries}

    def _query(
        self, name: str, reference: int, target: int, caption: str, answers: list[int]
    ) -> QueryRow:
        """Between the first images of both; every image of an answer is right."""
        images = self.products.images
        return {
            "query_id": name,
            "split": triplets.SPLITS[int(self.val[target])],
            "category": self.products.categories[target],
            "reference_id": images[reference][0],
            "target_id": images[target][0],
            "captions": [caption],
            "members": None,
            "relevant": [image for row in answers for image in images[row]],
        }

    def annotations(self) -> Annotations:
        """Images, queries and galleries; val's gallery has all of a category's val images."""
        splits = {
            (part.category, part.split): [
                image for row in part.rows.tolist() for image in self.products.images[row]
            ]
            for part in self.parts
            if len(part.rows)
        }
        original = {c: sorted(ids) for (c, split), ids in splits.items() if split == "val"}
        queries = [query for own in self.kinds().values() for query in own]
        places = self.products.places
        return Annotations(
            splits,
            queries,
            {"original": original},
            lambda image_id: [places[image_id]],
            self.files,
            self.described,
        )


@dataclass(frozen=True)
class CatalogueReader:
    """The reader of catalogues, whose queries depend on parameters."""

    params: CatalogueParams = field(default_factory=CatalogueParams)

    def read(self, root: Path) -> Catalogue:
        """Read a folder and draw its queries.

        Raises:
            UserError: as `products.read` and `people.read`; or when there is nothing to ask for.
        """
        table = products.read(root)
        asked = people.read(root, table)
        if not table.attributes and not asked.found:
            raise UserError(
                f"{table.path} has no column that distinguishes products, and there is no "
                f"{people.PAIRS}: add one ({'; '.join(table.usage) or 'the only column is image'})"
            )
        val = triplets.in_val(table, self.params.val_share, self.params.seed)
        requests, crossing = _apart(asked.found, val)
        parts = triplets.draw(table, val, self.params)
        notes = [*table.notes, *products.unnamed(root, table), *asked.notes]
        if requests:
            pairs = sum(len(one.targets) for one in requests)
            notes.append(f"{pairs:,} queries are by people")
        if crossing:
            notes.append(
                f"{crossing:,} pairs by people join a train and a val product and are skipped"
            )
        for split in triplets.SPLITS:
            drawn = sum(len(part.triplets) for part in parts if part.split == split)
            wanted = sum(part.asked for part in parts if part.split == split)
            if drawn < wanted:
                notes.append(
                    f"{drawn:,} of {wanted:,} {split} queries were sampled: other products do not "
                    "differ in a describable attribute, or too many are correct"
                )
        own = {path.relative_to(root).as_posix(): path for path in table.files}
        files = {**own, **asked.files}
        return Catalogue(table, parts, requests, asked.refused, val, files, notes)

    def read_annotations(self, root: Path) -> Annotations:
        """As every reader; errors as in `read`."""
        return self.read(root).annotations()


def _apart(
    found: Sequence[people.Request], val: NDArray[np.bool_]
) -> tuple[list[people.Request], int]:
    """Requests with the answers of the reference's split, and how many answers were not."""
    kept = []
    crossing = 0
    for one in found:
        targets = tuple(t for t in one.targets if val[t] == val[one.reference])
        crossing += len(one.targets) - len(targets)
        if targets:
            kept.append(people.Request(one.reference, one.caption, targets))
    return kept, crossing
