"""The studies: what one is, and where each is defined."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rau.params import Params
    from rau.studies.grid import Grid
    from rau.studies.plan import Plan, Tuned, Variant
    from rau.studies.runs import Result
    from rau.studies.tables import StudyTables

    # Results of every variant in the order of their seeds, by label.
    Results = Mapping[str, Sequence[Result]]


def _nothing(*_: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Study:
    """Variants of the parameters, each trained with the same seeds and paired with a reference.

    Attributes:
        title: of its section of the page.
        question: as the table of findings asks it.
        answer: what the tables say to it, in a sentence or two.
        reference: label of the variant that the others are compared with, where they name no
            partner of their own.
        variants: the configurations, from the parameters (result of `plan.base`), the sizes and
            the changes that the tuning chose, by method.
        figure: drawn from the tables.
        own: tables beside those of runs and of differences, by name, from the variants and their
            results; a name is that of a CSV file.
        grids: tables that the page shows below the differences, by heading.
        measures: `module:function` of what is measured on every trained head; see
            `rau.studies.runs.Measure`.
        tuned: the variants depend on what the tuning chose.
        encoders: every run trains an encoder of its own.
        counts_failures: trainings that fail are a result, and no error.
    """

    title: str
    question: str
    answer: "Callable[[StudyTables], str]"
    reference: str
    variants: "Callable[[Params, Plan, Tuned], Sequence[Variant]]"
    figure: "Callable[[StudyTables], Figure]"
    own: "Callable[[Sequence[Variant], Results], Mapping[str, pd.DataFrame]]" = _nothing
    grids: "Callable[[StudyTables], Mapping[str, Grid]]" = _nothing
    measures: tuple[str, ...] = ()
    tuned: bool = False
    encoders: bool = False
    counts_failures: bool = False


# In the order of the page. The modules draw figures: they are imported when they are needed.
STUDIES: Mapping[str, str] = {
    name: f"rau.studies.defined.{module}:STUDY"
    for name, module in {
        "methods": "methods",
        "ablation": "ablation",
        "theta": "theta",
        "n": "blocks",
        "finetune": "finetune",
        "distributions": "distributions",
        "regularisers": "regularisers",
        "scale": "scale",
        "dropout": "dropout",
        "scenarios": "scenarios",
        "calibration": "calibration",
        "cost": "cost",
    }.items()
}
# Those that `python -m pipeline.study` executes without a name, after the tuning.
USUAL = ("methods", "ablation", "theta", "n")


def load(name: str) -> Study:
    """The study of a name."""
    study: Study = resolve_name(STUDIES[name])
    return study
