"""How people say what should be different: many phrasings for every kind of attribute.

A phrasing is a predicate ("is red"), a fragment ("in red") or a request ("make it red"), so that
two of one form can be joined and an opening put before them. In a template {v} is the value that is
wanted, {o} the reference's, {n} the attribute, {x} a limit; {a v} is a value with its article.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Form = Literal["predicate", "fragment", "request"]
Templates = Mapping[Form, Sequence[str]]
OPENINGS: Mapping[Form, Sequence[str]] = {
    "predicate": ("", "", "", "it ", "this one ", "the one I want ", "looks the same but "),
    "fragment": ("", "", "", "the same ", "the same but ", "something similar ", "a similar one "),
    "request": ("", "", "", "please "),
}
LINKS: Mapping[Form, Sequence[str]] = {
    "predicate": (" and ", ", ", " and it ", " and also "),
    "fragment": (" and ", ", "),
    "request": (" and ", ", ", " and also "),
}


@dataclass(frozen=True)
class Topic:
    """How attributes of some names are spoken of.

    Attributes:
        names: words of an attribute's name, the last one of its name first.
        values: phrasings that say the new value.
        vague: phrasings that only say that it is another.
    """

    names: frozenset[str]
    values: Templates
    vague: Templates


def _topic(
    names: str,
    predicate: Sequence[str],
    fragment: Sequence[str],
    request: Sequence[str],
    vague: Templates,
) -> Topic:
    values: Templates = {"predicate": predicate, "fragment": fragment, "request": request}
    return Topic(frozenset(names.split()), values, vague)


ANOTHER: Templates = {
    "predicate": ("has another {n}", "has a different {n}"),
    "fragment": ("with another {n}", "with a different {n}", "another {n}"),
    "request": ("change the {n}", "show me another {n}", "not this {n}"),
}
NOT_FOR: Templates = {
    "predicate": ("is not for {o}",),
    "fragment": ("not for {o}", "for anything but {o}"),
    "request": ("show me one that is not for {o}",),
}
COLOUR = _topic(
    "color colour colors colours hue shade",
    ("is {v}", "comes in {v}", "is {v} in color", "is {v}, not {o}", "is {v} instead of {o}"),
    ("in {v}", "{v} instead of {o}", "{v} rather than {o}", "in {v}, not {o}"),
    ("make it {v}", "change the color to {v}", "swap {o} for {v}", "I want it in {v}"),
    {
        "predicate": ("has another color", "is of a different color", "is not {o}"),
        "fragment": ("in another color", "not {o}", "any color but {o}"),
        "request": ("change the color", "show me another color"),
    },
)
MATERIAL = _topic(
    "material fabric textile cloth wood metal leather upper lining",
    ("is made of {v}", "is {v} instead of {o}", "is {v}, not {o}"),
    ("in {v}", "made of {v}", "{v} instead of {o}", "made of {v} rather than {o}"),
    ("make it {v}", "use {v} instead of {o}", "I want {v} instead of {o}"),
    {
        "predicate": ("is of another material", "is not made of {o}"),
        "fragment": ("in another material", "anything but {o}", "not {o}"),
        "request": ("change the material", "show me another material"),
    },
)
PATTERN = _topic(
    "pattern print motif graphic",
    ("has {a v} {n}", "has {a v} {n}, not {a o} one", "comes with {a v} {n}"),
    ("with {a v} {n}", "{v} instead of {o}", "{v} rather than {o}"),
    ("change the {n} to {v}", "make the {n} {v}"),
    ANOTHER,
)
BRAND = _topic(
    "brand make maker manufacturer vendor designer",
    ("is by {v}", "is from {v}", "is by {v}, not {o}"),
    ("by {v}", "from {v}", "from {v} instead of {o}"),
    ("show me one by {v}", "I prefer {v} to {o}", "show me {v} instead"),
    {
        "predicate": ("is by another brand", "is not by {o}"),
        "fragment": ("from another brand", "not from {o}"),
        "request": ("show me another brand", "show me any brand but {o}"),
    },
)
PEOPLE = _topic(
    "gender sex audience group",
    ("is for {v}", "is made for {v}", "is for {v}, not for {o}"),
    ("for {v}", "for {v} instead of {o}", "for {v}, not {o}"),
    ("show me one for {v}", "I need it for {v}"),
    NOT_FOR,
)
SEASON = _topic(
    "season seasons weather",
    ("is for {v}", "is made for {v}", "is for {v} rather than {o}"),
    ("for {v}", "for {v} instead of {o}"),
    ("show me one for {v}", "I need it for {v}"),
    NOT_FOR,
)
USE = _topic(
    "usage use occasion purpose activity",
    ("is for {v} use", "is meant for {v} use", "suits {v} use better"),
    ("for {v} use", "for {v} instead of {o} use", "for {v}, not {o} use"),
    ("show me one for {v} use", "I need it for {v} use"),
    {
        "predicate": ("is not for {o} use", "is for another use"),
        "fragment": ("not for {o} use", "for another use"),
        "request": ("show me one that is not for {o} use", "show me one for another use"),
    },
)
PLACE = _topic(
    "room place location",
    ("is for the {v}", "is made for the {v}", "is for the {v}, not the {o}"),
    ("for the {v}", "for the {v} instead of the {o}"),
    ("show me one for the {v}", "I need it for the {v}"),
    {
        "predicate": ("is not for the {o}",),
        "fragment": ("not for the {o}", "for another {n}"),
        "request": ("show me one that is not for the {o}", "show me one for another {n}"),
    },
)
ORIGIN = _topic(
    "country origin region",
    ("is from {v}", "comes from {v}", "is from {v}, not from {o}"),
    ("from {v}", "from {v} instead of {o}", "made in {v}"),
    ("show me one from {v}", "I want one from {v}"),
    {
        "predicate": ("is not from {o}", "comes from somewhere else"),
        "fragment": ("not from {o}", "from anywhere but {o}"),
        "request": ("show me one that is not from {o}",),
    },
)
SIZE = _topic(
    "size",
    ("has size {v}", "comes in size {v}", "is a size {v}, not {o}"),
    ("in size {v}", "size {v} instead of {o}"),
    ("I need size {v}", "change the size to {v}"),
    {
        "predicate": ("has another size", "is not size {o}"),
        "fragment": ("in another size", "any size but {o}"),
        "request": ("show me another size",),
    },
)
SORT = _topic(
    "type kind article subcategory class",
    ("shows {a v}", "shows {a v}, not {a o}", "shows {a v} instead of {a o}"),
    ("{a v}", "{a v} instead of {a o}", "{a v}, not {a o}", "{a v} rather than {a o}"),
    ("show me {a v}", "I am looking for {a v}", "replace the {o} by {a v}"),
    {
        "predicate": ("is of another kind", "does not show {a o}"),
        "fragment": ("anything but {a o}", "not {a o}"),
        "request": ("show me something else than {a o}",),
    },
)
ANY = _topic(
    "",
    ("has {a v} {n}", "has {a v} {n} instead of {o}", "has {v} as its {n}"),
    ("with {a v} {n}", "{v} {n} instead of {o}", "with {v} as its {n}"),
    ("change the {n} to {v}", "change the {n} from {o} to {v}", "I want the {n} to be {v}"),
    ANOTHER,
)
# A value that says the attribute itself, as "long sleeves" or "v neck".
SELF = _topic(
    "",
    ("has {a v}", "comes with {a v}", "has {a v} this time"),
    ("with {a v}", "{v}, not {o}", "{v} instead of {o}"),
    ("show me one with {a v}", "I want {a v}"),
    ANOTHER,
)
TOPICS = (COLOUR, MATERIAL, PATTERN, BRAND, PEOPLE, SEASON, USE, PLACE, ORIGIN, SIZE, SORT)
YES_NOUN: Templates = {
    "predicate": ("has {a n}", "comes with {a n}", "also has {a n}"),
    "fragment": ("with {a n}", "with {a n} too"),
    "request": ("add {a n}", "I want it with {a n}", "show me one with {a n}"),
}
NO_NOUN: Templates = {
    "predicate": ("has no {n}", "comes without {a n}", "does not have {a n}"),
    "fragment": ("without {a n}", "with no {n}", "no {n}"),
    "request": ("leave out the {n}", "I want it without {a n}", "show me one without {a n}"),
}
YES_ADJECTIVE: Templates = {
    "predicate": ("is {n}", "is also {n}"),
    "fragment": ("{n}", "{n} this time"),
    "request": ("make it {n}", "I want one that is {n}"),
}
NO_ADJECTIVE: Templates = {
    "predicate": ("is not {n}", "is no longer {n}"),
    "fragment": ("not {n}", "not {n} any more"),
    "request": ("show me one that is not {n}", "I want one that is not {n}"),
}
# Sets: a value more or less, of things and of qualities.
MORE_THINGS: Templates = {
    "predicate": ("has {v}", "also has {v}", "comes with {v}"),
    "fragment": ("with {v}", "with {v} too"),
    "request": ("add {v}", "I want it with {v}"),
}
LESS_THINGS: Templates = {
    "predicate": ("has no {o}", "does not have {o}", "comes without {o}"),
    "fragment": ("without {o}", "with no {o}", "no {o}"),
    "request": ("leave out {o}", "I want it without {o}"),
}
MORE_QUALITIES: Templates = {
    "predicate": ("is also {v}", "has {v} among its {n}"),
    "fragment": ("also {v}", "with {v} among its {n}"),
    "request": ("add {v} to its {n}", "I also want {v}"),
}
LESS_QUALITIES: Templates = {
    "predicate": ("is not {o}", "has no {o} among its {n}"),
    "fragment": ("not {o}", "without {o} among its {n}"),
    "request": ("leave {o} out of its {n}", "I do not want {o}"),
}
MORE_OF_IT: Templates = {
    "predicate": ("contains {v}", "is made with {v}", "has {v} in it"),
    "fragment": ("with {v}", "with {v} in it"),
    "request": ("add {v}", "I want one with {v}"),
}
LESS_OF_IT: Templates = {
    "predicate": ("contains no {o}", "is made without {o}", "has no {o} in it"),
    "fragment": ("without {o}", "no {o}"),
    "request": ("leave out the {o}", "I want one without {o}"),
}
SUBSTANCES = frozenset(["materials", "material", "fabrics", "ingredients", "composition"])
QUALITIES = frozenset(
    ["styles", "style", "occasions", "occasion", "seasons", "uses", "colors", "colours"]
)
MORE_TAGS: Templates = {
    "predicate": ("is tagged {v}", "also has the tag {v}"),
    "fragment": ("tagged {v}", "with the tag {v}"),
    "request": ("add the tag {v}", "show me one that is tagged {v}"),
}
LESS_TAGS: Templates = {
    "predicate": ("is not tagged {o}", "does not have the tag {o}"),
    "fragment": ("not tagged {o}", "without the tag {o}"),
    "request": ("show me one that is not tagged {o}", "remove the tag {o}"),
}
TAGS = frozenset(["tags", "tag", "keywords", "keyword", "labels", "label"])
# Numbers: lower and higher, of names that end in a word.
PRICE = frozenset(["price", "cost", "msrp", "rrp"])
CHEAPER: Templates = {
    "predicate": ("is cheaper", "costs less", "is less expensive", "costs less than {x}"),
    "fragment": ("for less money", "cheaper", "under {x}", "for less than {x}"),
    "request": ("show me a cheaper one", "find one for less", "keep it below {x}"),
}
DEARER: Templates = {
    "predicate": ("is more expensive", "costs more", "costs more than {x}"),
    "fragment": ("for more money", "more expensive", "for more than {x}"),
    "request": ("show me a more expensive one", "show me one above {x}"),
}
COMPARATIVES: Mapping[str, tuple[str, str]] = {
    "length": ("shorter", "longer"),
    "height": ("lower", "higher"),
    "width": ("narrower", "wider"),
    "depth": ("shallower", "deeper"),
    "weight": ("lighter", "heavier"),
    "size": ("smaller", "bigger"),
    "diameter": ("smaller", "bigger"),
    "thickness": ("thinner", "thicker"),
    "volume": ("smaller", "bigger"),
    "capacity": ("smaller", "bigger"),
    "age": ("younger", "older"),
    "year": ("older", "newer"),
    "speed": ("slower", "faster"),
}
# {c} is the comparative: of the thing itself, or of a part that the name says ("heel height").
WHOLE: Templates = {
    "predicate": ("is {c}", "is a bit {c}", "is {c} than this"),
    "fragment": ("{c}", "a bit {c}", "{a c} one"),
    "request": ("make it {c}", "show me {a c} one", "I want it {c}"),
}
PART: Templates = {
    "predicate": ("has {a c} {p}", "comes with {a c} {p}", "has a slightly {c} {p}"),
    "fragment": ("with {a c} {p}", "with a slightly {c} {p}", "{a c} {p}"),
    "request": ("make the {p} {c}", "I want {a c} {p}"),
}
COUNT: Templates = {
    "predicate": ("has {c} {p}", "comes with {c} {p}"),
    "fragment": ("with {c} {p}", "{c} {p}"),
    "request": ("I want {c} {p}", "show me one with {c} {p}"),
}
LEVEL: Templates = {
    "predicate": ("has {a c} {n}", "has {a n} {l} {x}"),
    "fragment": ("with {a c} {n}", "with {a n} {l} {x}"),
    "request": ("I want {a c} {n}", "show me one with {a c} {n}"),
}
# A label that says that there is none, and labels after it or that are adjectives for sure.
NOTHING = frozenset(["none", "no", "nothing", "without"])
FROM_NOTHING: Templates = {
    "predicate": ("has {a v} {n}", "comes with {a v} {n}"),
    "fragment": ("with {a v} {n}", "with {v} as its {n}"),
    "request": ("add {a v} {n}", "I want it with {a v} {n}"),
}
BECOMES: Templates = {
    "predicate": ("is {v}", "is {v} this time"),
    "fragment": ("{v}", "{v}, not {o}"),
    "request": ("make it {v}", "I want one that is {v}"),
}
KINDS_OF = frozenset(["type", "kind", "style", "shape"])
WHOLES = frozenset(["article", "product", "item"])
PEOPLE_WORDS = {"male": "men", "female": "women", "man": "men", "woman": "women", "m": "men"} | {
    "unisex": "everyone",
    "f": "women",
}
