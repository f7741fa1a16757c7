"""The registry of studies and the definition of a study."""

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

    # Results of each variant in the order of the seeds, by label.
    Results = Mapping[str, Sequence[Result]]


def _nothing(*_: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Study:
    """Variants of the parameters, each trained with the same seeds and paired with a reference.

    Attributes:
        title: heading of its section of the page.
        question: its question in the table of findings.
        answer: derives the answer from the tables, in a sentence or two.
        reference: label of the variant that variants without a partner are compared with.
        variants: returns the configurations, given the parameters (result of `plan.base`), the
            sizes and the changes chosen by the tuning, by method.
        figure: draws the figure from the tables.
        own: returns additional tables, given the variants and their results; the keys are names of
            CSV files.
        grids: returns the tables shown below the differences, by heading.
        measures: `module:function` of each measurement on every trained head; see
            `rau.studies.runs.Measure`.
        tuned: whether the variants depend on the result of the tuning.
        encoders: whether every run trains its own encoder.
        counts_failures: whether a failed training is a result instead of an error.
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


# In the order of the page. The modules draw figures, so they are imported on demand.
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
# The tuning, which is executed like a study.
TUNE = "tune"
# Studies that `python -m pipeline.study` executes by default, after the tuning.
USUAL = ("methods", "ablation", "theta", "n")


def load(name: str) -> Study:
    """Load the study with this name."""
    study: Study = resolve_name(STUDIES[name])
    return study
