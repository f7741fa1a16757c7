"""Protocols are three explicit choices with a name."""

import pytest

from rau.errors import UserError
from rau.params import CustomProtocolParams, EvaluateParams
from rau.retrieval.protocols import CIRR, FASHIONIQ, custom, select


def test_presets() -> None:
    assert {p.name: (p.gallery, p.reference, p.join) for p in FASHIONIQ} == {
        "original": ("original", "kept", "forward"),
        "val": ("val-union", "removed", "separate"),
    }


def test_custom_is_named_by_its_choices_unless_a_preset() -> None:
    assert custom("fashioniq", "val-union", "kept", "both").name == "val-union-kept-both"
    assert custom("garments", "original", "kept", "forward") is FASHIONIQ[0]


def test_select_adds_the_custom_one_once() -> None:
    choices = CustomProtocolParams(gallery="original", reference="removed", join="both")
    chosen = select("fashioniq", EvaluateParams(custom=choices, headline="original-removed-both"))
    assert [p.name for p in chosen] == ["original-removed-both", "original", "val"]
    same = CustomProtocolParams(gallery="original", reference="kept", join="forward")
    assert len(select("fashioniq", EvaluateParams(custom=same))) == 2


def test_cirr_has_its_own() -> None:
    assert select("cirr", EvaluateParams()) == list(CIRR)
    assert CIRR[0].metric == "mean_of_r5_rs1"
    with pytest.raises(UserError, match="cirr has only the original one"):
        custom("cirr", "val-union", "kept", "forward")


def test_unknown_headline_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"evaluate\.headline=mine: choose from original, val"):
        select("fashioniq", EvaluateParams(headline="mine"))
