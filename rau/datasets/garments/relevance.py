"""Which images truly answer a query.

An image answers when it is of the query's category and split, is not the reference, fulfils every
constraint of both captions, and differs from the reference on few of the attributes that they do
not mention: on one, or on as many as the target itself does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rau.datasets.garments.attributes import ATTRIBUTES, ORDERS, VALUES, Garment, codes, ranks
from rau.datasets.garments.captions import Caption


@dataclass(frozen=True)
class Triplet:
    """A query: reference and target as rows of a list of garments, and its captions."""

    reference: int
    target: int
    captions: tuple[Caption, ...]


def relevant(garments: Sequence[Garment], triplets: Sequence[Triplet]) -> list[NDArray[np.int64]]:
    """Rows of the garments that answer each query, ascending; the target is always among them.

    Args:
        garments: all garments of one category and split.
        triplets: queries among them.
    """
    code, rank = codes(garments), ranks(garments)
    orders = list(ORDERS)
    answers: list[NDArray[np.int64]] = []
    for triplet in triplets:
        fits = np.ones(len(garments), dtype=bool)
        differs = code != code[triplet.reference]
        for constraint in (c for caption in triplet.captions for c in caption.constraints):
            if constraint.value is None:
                column = rank[:, orders.index(constraint.name)]
                fits &= np.sign(column - column[triplet.reference]) == constraint.sign
            else:
                wanted = VALUES[constraint.name].index(constraint.value)
                fits &= code[:, ATTRIBUTES.index(constraint.name)] == wanted
            differs[:, [ATTRIBUTES.index(name) for name in constraint.attributes]] = False
        unmentioned = differs.sum(1)
        fits &= unmentioned <= max(1, unmentioned[triplet.target])
        fits[triplet.reference] = False
        answers.append(np.flatnonzero(fits))
    return answers
