"""Captions that ask for one product given another, each with what it demands."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rau.datasets.catalogue import grammar, phrases
from rau.datasets.catalogue.attributes import Attribute, Boolean, Labels, Numbers, Sets
from rau.datasets.catalogue.relevance import Constraint, Demand

T = TypeVar("T")
# A phrase, and what it demands of its attribute: a label's place among the values, or a number.
Said = tuple[str, Demand, float]
DOUBLE_SHARE, VAGUE_SHARE = 0.3, 0.2
TWO, VAGUE = "two changes", "vague"
KINDS = (Labels.kind, Boolean.kind, Numbers.kind, Sets.kind, VAGUE, TWO)
# What "the same" may stand before without "but".
JOINS = re.compile(r"(in|with|without|for|from|by|made|of|under) ")


@dataclass(frozen=True)
class Caption:
    """A caption, what it demands, and its kind, one of `KINDS`."""

    text: str
    demands: tuple[Constraint, ...]
    kind: str


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of some options, uniformly at random."""
    return options[int(rng.integers(len(options)))]


def changes(attributes: Sequence[Attribute], reference: int, target: int) -> list[int]:
    """Places of the attributes whose difference can be said: both products' values are known."""
    both = np.array([reference, target])
    return [
        place
        for place, one in enumerate(attributes)
        if one.known(both).all()
        and one.differs(reference, both)[1]
        # Sets may differ in values alone that have no name.
        and not (isinstance(one, Sets) and (one.members[reference] == one.members[target]).all())
    ]


def caption(
    attributes: Sequence[Attribute],
    different: Sequence[int],
    reference: int,
    target: int,
    rng: np.random.Generator,
) -> Caption:
    """A caption of one or two of the changes from reference to target.

    Args:
        different: `changes` of the two, not empty.
    """
    count = 2 if len(different) > 1 and rng.random() < DOUBLE_SHARE else 1
    form: grammar.Form = pick(rng, ("predicate", "fragment", "request"))
    places = rng.choice(different, count, replace=False).tolist()
    said = [_say(attributes[place], reference, target, form, rng) for place in places]
    text = _joined([phrase for phrase, _, _ in said], pick(rng, grammar.LINKS[form]))
    demands = tuple(
        Constraint(place, demand, value)
        for place, (_, demand, value) in zip(places, said, strict=True)
    )
    kind = VAGUE if demands[0].demand == "is not" else attributes[places[0]].kind
    text = _untidy(_opening(text, form, rng) + text, rng)
    return Caption(text, demands, TWO if count == 2 else kind)


def _joined(phrases: Sequence[str], link: str) -> str:
    """Phrases by a link, by "and" where another would be misread."""
    last = phrases[-1]
    misread = any("," in phrase for phrase in phrases) or "also" in last or last.startswith("I ")
    return (" and " if misread else link).join(phrases)


def _opening(text: str, form: grammar.Form, rng: np.random.Generator) -> str:
    opening = pick(rng, grammar.OPENINGS[form])
    if form == "fragment" and opening and not opening.endswith("but ") and not JOINS.match(text):
        return "the same but "
    return "" if form == "request" and text.startswith("I ") else opening


def _untidy(text: str, rng: np.random.Generator) -> str:
    """Capitals and full stops now and then, as people write."""
    chance = rng.random(2)
    if chance[0] < 0.15:
        text = text[:1].upper() + text[1:]
    return text + "." if chance[1] < 0.15 else text


def _say(
    attribute: Attribute, reference: int, target: int, form: grammar.Form, rng: np.random.Generator
) -> Said:
    """A phrase for one change, and what it demands."""
    if isinstance(attribute, Numbers):
        return _number(attribute, reference, target, form, rng)
    if isinstance(attribute, Sets):
        return _set(attribute, reference, target, form, rng)
    if isinstance(attribute, Boolean):
        return _boolean(attribute, target, form, rng)
    if isinstance(attribute, Labels):
        return _label(attribute, reference, target, form, rng)
    raise TypeError(type(attribute))


def _boolean(attribute: Boolean, target: int, form: grammar.Form, rng: np.random.Generator) -> Said:
    code = int(attribute.codes[target])
    templates, name = phrases.of_boolean(attribute.words, code == 1)
    return phrases.fill(pick(rng, templates[form]), {"n": name}), "is", code


def _label(
    attribute: Labels, reference: int, target: int, form: grammar.Form, rng: np.random.Generator
) -> Said:
    old, new = int(attribute.codes[reference]), int(attribute.codes[target])
    named = {"v": attribute.values[new], "o": attribute.values[old]}
    topic, named["n"] = phrases.of_label(attribute.words, named["o"], named["v"])
    if topic is grammar.PEOPLE:
        named |= {key: grammar.PEOPLE_WORDS.get(named[key], named[key]) for key in "vo"}
    if len(attribute.values) > 2 and rng.random() < VAGUE_SHARE:
        return phrases.fill(pick(rng, topic.vague[form]), named), "is not", old
    return phrases.fill(pick(rng, topic.values[form]), named), "is", new


def _number(
    attribute: Numbers, reference: int, target: int, form: grammar.Form, rng: np.random.Generator
) -> Said:
    old, new = float(attribute.numbers[reference]), float(attribute.numbers[target])
    templates, named = phrases.of_number(attribute.words, new > old)
    template = pick(rng, templates[form])
    limit = between(old, new) if "{x}" in template else old
    named |= {"x": attribute.text(limit), "n": attribute.words}
    return phrases.fill(template, named), "above" if new > old else "below", limit


def between(old: float, new: float) -> float:
    """The roundest number from `old`, inclusive, to `new`, exclusive."""
    exponent = math.floor(math.log10(abs(new - old)))
    for power in range(exponent, exponent - 4, -1):
        for digit in (5, 2, 1):
            step = digit * 10.0**power
            whole = math.ceil(old / step) if new > old else math.floor(old / step)
            limit = float(f"{whole * step:.12g}")
            if old <= limit < new or new < limit <= old:
                return limit
    return old


def _set(
    attribute: Sets, reference: int, target: int, form: grammar.Form, rng: np.random.Generator
) -> Said:
    had, has = attribute.members[reference], attribute.members[target]
    value = int(pick(rng, np.flatnonzero(had ^ has).tolist()))
    more = bool(has[value])
    named = dict.fromkeys("vo", attribute.values[value]) | {"n": attribute.words}
    template = pick(rng, phrases.of_set(attribute.words, more)[form])
    return phrases.fill(template, named), "has" if more else "lacks", value
