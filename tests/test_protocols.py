"""Protocols are three explicit choices with a name."""

import pytest

from rau.errors import UserError
from rau.params import CustomProtocolParams, EvaluateParams
from rau.protocols import PRESETS, custom, select


def test_presets() -> None:
    assert {p.name: (p.gallery, p.reference, p.join) for p in PRESETS} == {
        "original": ("original", "kept", "forward"),
        "val": ("val-union", "removed", "separate"),
    }


def test_custom_is_named_by_its_choices_unless_a_preset() -> None:
    assert custom("val-union", "kept", "both").name == "val-union-kept-both"
    assert custom("original", "kept", "forward") is PRESETS[0]


def test_select_adds_the_custom_one_once() -> None:
    choices = CustomProtocolParams(gallery="original", reference="removed", join="both")
    chosen = select(EvaluateParams(custom=choices, headline="original-removed-both"))
    assert [p.name for p in chosen] == ["original", "val", "original-removed-both"]
    same = CustomProtocolParams(gallery="original", reference="kept", join="forward")
    assert len(select(EvaluateParams(custom=same))) == 2


def test_unknown_headline_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"evaluate\.headline=mine: choose from original, val"):
        select(EvaluateParams(headline="mine"))
