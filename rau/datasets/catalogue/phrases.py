"""Which phrasings of the grammar suit an attribute, by its name and values; filling them in."""

import re
from collections.abc import Mapping

from rau.datasets.catalogue import grammar

ADJECTIVES = frozenset(
    ["new", "vegan", "organic", "used", "foldable", "on-sale", "eco", "handmade"]
)
ADJECTIVE = re.compile(r".*(able|ible|proof|less|ed|ic|ive|al|free|ful|ish|ous|ant|ent|friendly)")
VOWEL = re.compile(r"(?!uni|use|eu|one)[aeiou]|hour|honest")


def article(noun: str) -> str:
    """A noun with its article; a plural, or a mass of something, has none."""
    last = noun.split()[-1] if noun.split() else ""
    if re.match(r"(no|without|a|an)\b", noun) or (last.endswith("s") and last[-2:] != "ss"):
        return noun
    return f"{'an' if VOWEL.match(noun) else 'a'} {noun}"


def of_label(words: str, old: str, new: str) -> tuple[grammar.Topic, str]:
    """How an attribute is spoken of where its value changes, and how it is called."""
    names = words.split()
    # A heel's type is said of the heel, an article's of the article.
    if len(names) > 1 and names[-1] in grammar.KINDS_OF and names[-2] not in grammar.WHOLES:
        names = names[:-1]
    called = " ".join(names)
    if new in grammar.NOTHING:
        return grammar.Topic(frozenset(), grammar.NO_NOUN, grammar.ANOTHER), called
    if old in grammar.NOTHING:
        return grammar.Topic(frozenset(), grammar.FROM_NOTHING, grammar.ANOTHER), called
    if new.endswith("less"):
        return grammar.Topic(frozenset(), grammar.BECOMES, grammar.ANOTHER), called
    for name in reversed(names):
        for one in grammar.TOPICS:
            if name in one.names and (one is not grammar.SIZE or len(names) == 1):
                return one, called
    stem = names[-1].rstrip("s")
    return (grammar.SELF if len(stem) > 2 and stem in new else grammar.ANY), called


def of_boolean(words: str, wanted: bool) -> tuple[grammar.Templates, str]:
    """Phrasings of yes or no, and the name as they say it."""
    noun = grammar.YES_NOUN if wanted else grammar.NO_NOUN
    adjective = grammar.YES_ADJECTIVE if wanted else grammar.NO_ADJECTIVE
    first, _, rest = words.partition(" ")
    if first in ("has", "with", "have") and rest:
        return noun, rest
    if first in ("is", "are") and rest:
        return adjective, rest
    return (adjective if words in ADJECTIVES or ADJECTIVE.fullmatch(words) else noun), words


def of_number(words: str, higher: bool) -> tuple[grammar.Templates, dict[str, str]]:
    """Phrasings of a lower or higher number, and what they fill in."""
    names = words.split()
    limit = "above" if higher else "below"
    if grammar.PRICE & {*names}:
        return (grammar.DEARER if higher else grammar.CHEAPER), {}
    if (pair := grammar.COMPARATIVES.get(names[-1])) is not None:
        part = " ".join(names[:-1])
        return (grammar.PART if part else grammar.WHOLE), {"c": pair[higher], "p": part}
    counted = re.match(r"(?:number of|num|count of) (.+)|(.+) count$", words)
    if counted or (names[-1].endswith("s") and names[-1][-2:] != "ss"):
        part = (counted[1] or counted[2]) if counted else words
        return grammar.COUNT, {"c": "more" if higher else "fewer", "p": part}
    return grammar.LEVEL, {"c": "higher" if higher else "lower", "l": limit}


def of_set(words: str, more: bool) -> grammar.Templates:
    """Phrasings of one value more, or less, of several."""
    names = {*words.split()}
    if grammar.TAGS & names:
        return grammar.MORE_TAGS if more else grammar.LESS_TAGS
    if grammar.SUBSTANCES & names:
        return grammar.MORE_OF_IT if more else grammar.LESS_OF_IT
    if grammar.QUALITIES & names:
        return grammar.MORE_QUALITIES if more else grammar.LESS_QUALITIES
    return grammar.MORE_THINGS if more else grammar.LESS_THINGS


def fill(template: str, values: Mapping[str, str]) -> str:
    """A template with its values."""

    def put(match: re.Match[str]) -> str:
        own = values[match[2]]
        return article(own) if match[1] else own

    return re.sub(r"\{(a )?(\w)\}", put, template)
