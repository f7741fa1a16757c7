"""Tables of the studies' pages: what their notes say of intervals."""

import pytest

from rau.studies.grid import UNADJUSTED, Grid


@pytest.mark.parametrize(
    ("grid", "note"),
    [
        (Grid(["variant", "AUROC"], [["σ", "+0.03 [+0.01, +0.05]"]], "Of val."), "Of val. "),
        (Grid(["variant", "gain", "95 % from"], [["a", "1", "0"]]), ""),
    ],
)
def test_intervals_without_a_word_on_adjustment_are_said_to_have_none(
    grid: Grid, note: str
) -> None:
    assert grid.described == note + UNADJUSTED


@pytest.mark.parametrize(
    "grid",
    [
        Grid(["variant", "AUROC"], [["σ", "+0.03 [+0.01, +0.05]"]], "p adjusted by Holm."),
        Grid(["variant", "AUROC"], [["σ", "1 [0, 2]"]], "Intervals are not adjusted."),
        Grid(["variant", "kept epoch"], [["a", "3"]], "Medians."),
        Grid(["variant"], []),
    ],
)
def test_other_notes_stay_as_they_are(grid: Grid) -> None:
    assert grid.described == grid.note
