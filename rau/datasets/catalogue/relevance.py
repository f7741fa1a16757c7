"""Which products are correct answers of a query.

A product is a correct answer if it fulfils every demand of the caption, which the reference does
not, and differs from the reference in few of the attributes that the caption does not mention: in
one, or in as many as the target does. An unknown value fulfils no demand and differs from every
known value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rau.datasets.catalogue.attributes import ALL, Attribute, Labels, Mask, Numbers, Rows, Sets

Demand = Literal["is", "is not", "has", "lacks", "below", "above"]


@dataclass(frozen=True)
class Constraint:
    """What a caption demands of one attribute.

    Attributes:
        attribute: its place among the attributes.
        value: a label's place among the attribute's values, or a number.
    """

    attribute: int
    demand: Demand
    value: float

    def holds(self, attribute: Attribute) -> Mask:
        """Which products are known to fulfil it, (P,)."""
        if isinstance(attribute, Labels):
            equal = np.equal(attribute.codes, self.value)
            return equal if self.demand == "is" else ~equal & attribute.known(ALL)
        if isinstance(attribute, Sets):
            has = attribute.members[:, int(self.value)]
            return has if self.demand == "has" else ~has & attribute.known(ALL)
        if not isinstance(attribute, Numbers):
            raise TypeError(type(attribute))
        compare = np.less if self.demand == "below" else np.greater
        return compare(attribute.numbers, self.value)  # False where unknown.


def distance(attributes: Sequence[Attribute], product: int, rows: Rows) -> NDArray[np.int64]:
    """On how many attributes some products differ from one."""
    differences = [one.differs(product, rows) for one in attributes]
    return np.asarray(np.sum(differences, axis=0, dtype=np.int64))


def answers(
    attributes: Sequence[Attribute], reference: int, target: int, demands: Sequence[Constraint]
) -> NDArray[np.int64]:
    """The products that answer a query, ascending; the target is among them.

    Args:
        attributes: of all products of one category and split.
        reference, target: two of these products.
        demands: of the caption, one at least.
    """
    fulfilled = [one.holds(attributes[one.attribute]) for one in demands]
    found = np.flatnonzero(np.logical_and.reduce(fulfilled))
    mentioned = {one.attribute for one in demands}
    others = [one for place, one in enumerate(attributes) if place not in mentioned]
    if others:
        most = max(1, int(distance(others, reference, np.array([target]))[0]))
        found = found[distance(others, reference, found) <= most]
    return found
