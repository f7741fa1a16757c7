"""Columns as attributes: numbers, labels, sets, or none."""

import numpy as np
import pytest

from rau.datasets.catalogue.attributes import Boolean, Labels, Numbers, Sets
from rau.datasets.catalogue.columns import attribute, spoken


@pytest.mark.parametrize(
    ("cells", "comma", "numbers"),
    [
        (["1", "2.5", None, "-3"], False, [1, 2.5, np.nan, -3]),
        (["€ 1,50", "€2,25"], False, [1.5, 2.25]),
        (["$1,500", "$2,250,000.5"], False, [1500, 2250000.5]),
        (["1,500", "2"], True, [1.5, 2]),
        (["1.234,50", "7"], False, [1234.5, 7]),
        (["30 cm", "42cm"], False, [30, 42]),
        (["10 000", "1'500"], False, [10000, 1500]),
        (["1.299", "899", "49,90", "2.499,00"], False, [1299, 899, 49.9, 2499]),
        (["1.299", "1.234.567"], True, [1299, 1234567]),
        (["1.299", "0.500"], True, [1.299, 0.5]),
        (["1.299", "12.5", "7,5"], True, [1.299, 12.5, 7.5]),
        (["1.299", "2.5"], False, [1.299, 2.5]),
        (["1.299", "2.499"], False, [1.299, 2.499]),
        (["1,299", "2,499.50"], False, [1299, 2499.5]),
        (["1e-07", "5E-05", "2"], False, [1e-7, 5e-5, 2]),
        (["1.5e+17 m", "2e+3 m"], False, [1.5e17, 2000]),
    ],
)
def test_numbers_as_people_write_them(
    cells: list[str | None], comma: bool, numbers: list[float]
) -> None:
    found = attribute("price", cells, comma)
    assert isinstance(found, Numbers)
    np.testing.assert_array_equal(found.numbers, numbers)


@pytest.mark.parametrize(
    "cells",
    [
        ["42 EU", "9 US"],
        ["2024-01-05", "2024-01-06"],
        ["1.2.3", "1.2.4"],
        ["S", "M"],
        ["1E5", "2E7"],
        ["9e+300", "1"],
    ],
)
def test_what_is_no_number(cells: list[str]) -> None:
    assert isinstance(attribute("size", cells, False), Labels)


def test_kinds_of_columns() -> None:
    waterproof = attribute("waterproof", ["Yes", "no", None, "TRUE"], False)
    assert isinstance(waterproof, Boolean)
    assert waterproof.codes.tolist() == [1, 0, -1, 1]
    tags = attribute("tags", ["New|Sale", "sale", None, "new|odd", "new"], False)
    assert isinstance(tags, Sets)
    assert list(tags.values) == ["new", "sale"]
    assert tags.members[:, 0].tolist() == [True, False, False, True, True]
    assert tags.members[:, 1].tolist() == [True, True, False, False, False]
    # A value without a name still tells two sets apart.
    assert tags.codes[3] != tags.codes[4]
    colour = attribute("baseColour", ["Navy_Blue", "navy blue", "red"], False)
    assert isinstance(colour, Labels)
    assert (colour.words, list(colour.values)) == ("base colour", ["navy blue", "red"])


@pytest.mark.parametrize(
    ("name", "cells", "why"),
    [
        ("colour", [None, None], "empty"),
        ("colour", ["red", None, "red"], "same value for every product"),
        ("colour", ["red", "Red"], "same value for every product"),
        ("sku_id", ["1", "2"], "its name suggests"),
        (
            "about",
            ["a coat that is warm and dry in any weather", "one more " * 5] * 20,
            "free text",
        ),
        ("model", [f"m{n}" for n in range(30)], "a distinct value"),
        ("article", [str(n * 7 + 3) for n in range(30)], "a different integer"),
        ("tags", ["a|b", "c|d"], "no two products share"),
    ],
)
def test_what_is_no_attribute(name: str, cells: list[str | None], why: str) -> None:
    found = attribute(name, cells, False)
    assert isinstance(found, str)
    assert why in found


def test_prices_are_no_identifiers() -> None:
    assert isinstance(attribute("price", [f"{n}.99" for n in range(40)], False), Numbers)


def test_names_are_spoken_as_words() -> None:
    assert spoken("sleeveLength (cm)") == "sleeve length"
    assert spoken("heel_height") == "heel height"
    assert spoken("(none)") == "(none)"
