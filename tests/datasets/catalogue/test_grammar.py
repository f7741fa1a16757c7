"""Phrases and grammar of captions: articles, labels, limits."""

import pytest

from rau.datasets.catalogue import grammar, phrases
from rau.datasets.catalogue.captions import between


@pytest.mark.parametrize(
    ("old", "new", "limit"),
    [
        (49.95, 19.9, 20),
        (19.9, 49.95, 40),
        (120, 99, 100),
        (5, 6, 5.5),
        (-3, 4, 0),
        (100, 99.5, 99.8),
    ],
)
def test_limits_are_round(old: float, new: float, limit: float) -> None:
    found = between(old, new)
    assert min(old, new) <= found <= max(old, new)
    assert found != new
    assert len(f"{found:g}") <= len(f"{limit:g}") + 1


def test_every_template_can_be_filled() -> None:
    values = dict.fromkeys("vonxcpl", "thing")
    found = [
        text
        for one in vars(grammar).values()
        for group in ([one.values, one.vague] if isinstance(one, grammar.Topic) else [one])
        if isinstance(group, dict) and set(group) == set(grammar.OPENINGS)
        for templates in group.values()
        for text in templates
        if text.strip()
    ]
    assert len(found) > 150
    assert all("{" not in phrases.fill(text, values) for text in found)


@pytest.mark.parametrize(
    ("noun", "said"),
    [
        ("hood", "a hood"),
        ("orange belt", "an orange belt"),
        ("sandals", "sandals"),
        ("dress", "a dress"),
        ("unisex tee", "a unisex tee"),
        ("no hood", "no hood"),
    ],
)
def test_articles(noun: str, said: str) -> None:
    assert phrases.article(noun) == said


@pytest.mark.parametrize(
    ("name", "wanted", "said"),
    [
        ("has pockets", True, "comes with pockets"),
        ("has pockets", False, "has no pockets"),
        ("waterproof", False, "is not waterproof"),
        ("is vegan", True, "is vegan"),
        ("hood", True, "has a hood"),
        ("hood", False, "does not have a hood"),
    ],
)
def test_yes_and_no(name: str, wanted: bool, said: str) -> None:
    templates, noun = phrases.of_boolean(name, wanted)
    assert said in [phrases.fill(text, {"n": noun}) for text in templates["predicate"]]


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("base colour", "red", "blue", "is blue instead of red"),
        ("sleeve", "short sleeves", "long sleeves", "has long sleeves"),
        ("sleeve length", "short", "sleeveless", "is sleeveless"),
        ("print", "floral", "none", "has no print"),
        ("print", "none", "floral", "has a floral print"),
        ("heel type", "block", "wedge", "has a wedge heel"),
        ("article type", "shirt", "shoes", "shows shoes"),
        ("wood type", "oak", "pine", "is made of pine"),
        ("waist", "low", "high", "has a high waist"),
        ("room", "office", "bedroom", "is for the bedroom"),
    ],
)
def test_labels_by_the_attributes_name(name: str, old: str, new: str, said: str) -> None:
    topic, called = phrases.of_label(name, old, new)
    values = {"v": new, "o": old, "n": called}
    assert said in [phrases.fill(text, values) for text in topic.values["predicate"]]


@pytest.mark.parametrize(
    ("name", "higher", "said"),
    [
        ("price eur", False, "is cheaper"),
        ("length", True, "is longer"),
        ("sleeve length", False, "has a shorter sleeve"),
        ("heel height", True, "has a higher heel"),
        ("number of pockets", False, "has fewer pockets"),
        ("pockets", True, "has more pockets"),
        ("rating", True, "has a higher rating"),
    ],
)
def test_more_and_less(name: str, higher: bool, said: str) -> None:
    templates, named = phrases.of_number(name, higher)
    values = {"n": name, "x": "3", **named}
    assert said in [phrases.fill(text, values) for text in templates["predicate"]]
