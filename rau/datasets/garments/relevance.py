"""Which images truly answer a query.

An image answers when it is of the query's category and split, is not the reference, does all that
both captions demand, and differs from the reference on few of the attributes that they leave
unsaid: on one, or on as many as the target itself does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rau.datasets.garments.attributes import ATTRIBUTES, ORDERS, VALUES, Garment, codes, ranks
from rau.datasets.garments.captions import Constraint

BLOCK = 256
NONE = 255


@dataclass(frozen=True)
class Demand:
    """A query as rows of a list of garments, with all that its captions demand."""

    reference: int
    target: int
    constraints: tuple[Constraint, ...]


@dataclass(frozen=True)
class _Coded:
    """Demands as arrays, one row each: values or NONE, signs of orders, and the unsaid."""

    values: NDArray[np.uint8]
    signs: NDArray[np.int8]
    unsaid: NDArray[np.bool_]


def _encode(demands: Sequence[Demand]) -> _Coded:
    values = np.full((len(demands), len(ATTRIBUTES)), NONE, dtype=np.uint8)
    signs = np.zeros((len(demands), len(ORDERS)), dtype=np.int8)
    unsaid = np.ones((len(demands), len(ATTRIBUTES)), dtype=bool)
    orders = list(ORDERS)
    for row, demand in enumerate(demands):
        for constraint in demand.constraints:
            for name in constraint.attributes:
                unsaid[row, ATTRIBUTES.index(name)] = False
            if constraint.value is None:
                signs[row, orders.index(constraint.name)] = constraint.sign
            else:
                column = ATTRIBUTES.index(constraint.name)
                values[row, column] = VALUES[constraint.name].index(constraint.value)
    return _Coded(values, signs, unsaid)


def relevant(garments: Sequence[Garment], demands: Sequence[Demand]) -> list[NDArray[np.int64]]:
    """Rows of the garments that answer each demand, ascending; the target is always among them.

    Args:
        garments: all garments of one category and split.
        demands: queries among them.
    """
    code, rank = codes(garments), ranks(garments)
    answers: list[NDArray[np.int64]] = []
    for start in range(0, len(demands), BLOCK):
        block = demands[start : start + BLOCK]
        coded = _encode(block)
        reference = np.array([demand.reference for demand in block])
        target = np.array([demand.target for demand in block])
        wanted = coded.values[:, None]
        fits = ((wanted == NONE) | (code[None] == wanted)).all(2)
        step = np.sign(rank[None] - rank[reference][:, None])
        fits &= ((coded.signs[:, None] == 0) | (step == coded.signs[:, None])).all(2)
        differs = (code[None] != code[reference][:, None]) & coded.unsaid[:, None]
        unsaid = differs.sum(2)
        rows = np.arange(len(block))
        fits &= unsaid <= np.maximum(1, unsaid[rows, target])[:, None]
        fits[rows, reference] = False
        answers += [np.flatnonzero(row) for row in fits]
    return answers
