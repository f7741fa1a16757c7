"""Methods side by side, each tuned with the same budget."""

from rau.methods import DETERMINISTIC, METHODS
from rau.params import Params
from rau.studies.figures import differences
from rau.studies.grid import costs
from rau.studies.plan import Plan, Tuned, Variant, variant
from rau.studies.registry import Study


def variants(params: Params, sizes: Plan, tuned: Tuned) -> list[Variant]:
    """Every method with the changes that its tuning chose."""
    return [
        variant(method.label, params, {"head.name": name, **tuned.get(name, {})})
        for name, method in METHODS.items()
    ]


STUDY = Study(
    "Methods side by side",
    METHODS[DETERMINISTIC].label,
    variants,
    differences,
    grids=lambda tables: {"Size and training time": costs(tables)},
    tuned=True,
)
