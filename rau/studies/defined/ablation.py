"""All on/off combinations of ISU, CSU and DR."""

from itertools import product

from rau.methods import DETERMINISTIC, METHODS
from rau.params import Params
from rau.studies import answers
from rau.studies.figures import differences
from rau.studies.plan import Plan, Tuned, Variant, parts, variant
from rau.studies.registry import Study


def variants(params: Params, sizes: Plan, tuned: Tuned) -> list[Variant]:
    """Return all combinations; an enabled part has its weight in the parameters, default if 0."""
    rows = []
    for isu, csu, dr in product((False, True), repeat=3):
        label, changes = parts(params, isu, csu, dr)
        rows.append(variant(label, params, changes, ISU=isu, CSU=csu, DR=dr))
    return rows


STUDY = Study(
    "Ablation: ISU, CSU and DR on and off",
    "Which part of RAU helps?",
    answers.differing,
    METHODS[DETERMINISTIC].label,
    variants,
    differences,
)
