"""Where a search looks: at pictures that pass the filter, by default of the references' category.

Heads are trained on batches of one category and measured in its gallery, and who shows a dress asks
for another dress.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rau.search.index import CATEGORY, Index
from rau.search.where import Both, Compare, Condition, columns


@dataclass(frozen=True)
class Among:
    """The pictures that an answer was chosen from; references are not counted.

    Attributes:
        category: of the references, to which the search kept; None where it kept to none.
        pictures: how many they are.
        anywhere: how many they would be in any category.
    """

    category: str | None
    pictures: int
    anywhere: int


@dataclass(frozen=True)
class Scope:
    """What is compared with a query.

    Attributes:
        condition: that a picture has to pass; None for all.
        mixed: whether pictures of several categories may pass.
    """

    condition: Condition | None
    among: Among
    mixed: bool


def scope_of(
    index: Index,
    where: Condition | None = None,
    references: Sequence[str] = (),
    keep_category: bool = True,
) -> Scope:
    """Where a query looks.

    Args:
        where: the user's filter; one that names the category decides on it.
        references: ids of those that are of the index.
        keep_category: keep to the category that the references share, if they do.
    """
    named = where is not None and CATEGORY in columns(where)
    mixed = not named and index.categories > 1
    anywhere = index.count(where, references)
    category = _shared(index, references) if keep_category and mixed else None
    if category is None:
        return Scope(where, Among(None, anywhere, anywhere), mixed)
    own: Condition = Compare(CATEGORY, "=", category)
    both = own if where is None else Both(where, own)
    return Scope(both, Among(category, index.count(both, references), anywhere), False)


def _shared(index: Index, references: Sequence[str]) -> str | None:
    """The category of all references; None where they have none or several."""
    found = {index.attributes(name).get(CATEGORY) for name in references}
    category = found.pop() if len(found) == 1 else None
    return None if category is None else str(category)
