"""The images that a search compares: those that pass the filter, by default of one category.

That category is the references': heads are trained on batches of one category and evaluated in its
gallery, and users who start from a dress look for another dress.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rau.search.index import CATEGORY, Index
from rau.search.where import Both, Compare, Condition, columns


@dataclass(frozen=True)
class Searched:
    """The images that an answer was chosen from, not counting references.

    Attributes:
        category: the references' category, if the search was limited to it; else None.
        images: number of the images.
        images_any_category: number of the images without a limit to a category.
    """

    category: str | None
    images: int
    images_any_category: int


@dataclass(frozen=True)
class Scope:
    """The images that are compared with a query.

    Attributes:
        condition: the filter that an image has to pass; None for all images.
        mixed: whether images of several categories can pass.
    """

    condition: Condition | None
    searched: Searched
    mixed: bool


def scope_of(
    index: Index,
    where: Condition | None = None,
    references: Sequence[str] = (),
    keep_category: bool = True,
) -> Scope:
    """The scope of a query.

    Args:
        where: the user's filter; if it names the category, the references' category is not used.
        references: ids of the references that are in the index.
        keep_category: limit the search to the category that all references share, if any.
    """
    named = where is not None and CATEGORY in columns(where)
    # A filter may name several categories, or exclude one.
    mixed = (index.count_categories(where) if named else index.categories) > 1
    anywhere = index.count(where, references)
    category = _shared(index, references) if keep_category and mixed and not named else None
    if category is None:
        return Scope(where, Searched(None, anywhere, anywhere), mixed)
    own: Condition = Compare(CATEGORY, "=", category)
    both = own if where is None else Both(where, own)
    return Scope(both, Searched(category, index.count(both, references), anywhere), False)


def _shared(index: Index, references: Sequence[str]) -> str | None:
    """The category of all references; None if they have none or several."""
    found = {index.attributes(name).get(CATEGORY) for name in references}
    category = found.pop() if len(found) == 1 else None
    return None if category is None else str(category)
