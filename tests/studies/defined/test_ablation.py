"""The ablation: all combinations of the parts."""

from rau.studies import (
    plan,
    registry,
    summary,
)
from tests.studies.synthetic import SIZES, results, tiny, variants


def test_ablation_has_all_eight_and_ends_where_it_should() -> None:
    found = variants("ablation", plan.base(tiny(), SIZES))
    assert len({variant.params for variant in found}) == 8
    assert len({tuple(variant.x.values()) for variant in found}) == 8
    row = summary.run_row(found[-1], 0, "key", results(0, 0)[0])
    assert (row["ISU"], row["CSU"], row["DR"]) == (True, True, True)
    none, everything = found[0], found[-1]
    assert none.label == registry.load("ablation").reference
    assert none.params.head.name == "deterministic"
    assert everything.label == "ISU + CSU + DR"
    ua = everything.params.ua
    assert ua.isu
    assert ua.csu_weight > 0
    assert ua.dr_weight > 0


def test_a_part_that_the_parameters_switch_off_has_its_default_weight() -> None:
    off = plan.changed(tiny(), {"ua.csu_weight": 0.0, "ua.dr_weight": 0.0})
    ablation = variants("ablation", plan.base(off, SIZES))[-1].params.ua
    theta = variants("theta", plan.base(off, SIZES))[0].params.ua
    assert (ablation.csu_weight, ablation.dr_weight) == (0.3, 0.2)
    assert theta.csu_weight == 0.3
