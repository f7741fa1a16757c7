"""Code shared by all studies: sizes of the presets, variants of the parameters, tuning trials."""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rau.methods import DETERMINISTIC, METHODS
from rau.models.config import canonical
from rau.params import Params, StudyParams, TrainParams, UaParams

Preset = Literal["smoke", "quick", "full"]
# Changes chosen by the tuning, by method.
Tuned = Mapping[str, Mapping[str, Any]]
# Values of `train.fraction` and `train.noise`.
Regime = tuple[float, float]
WHOLE: Regime = (1.0, 0.0)
# Bins of the histograms of cosines.
EDGES: NDArray[np.float64] = np.linspace(-1, 1, 101)
# Metrics that tables show, in order.
SHOWN = (
    "recall_at_1",
    "recall_at_5",
    "recall_at_10",
    "recall_at_50",
    "mean_of_r10_r50",
    "subset_recall_at_1",
    "mean_of_r5_rs1",
    "map",
)


def headline(names: Collection[str]) -> str:
    """Return which of the available metrics studies compare by."""
    return "mean_of_r5_rs1" if "mean_of_r5_rs1" in names else "mean_of_r10_r50"


def compared(names: Collection[str]) -> list[str]:
    """Return the headline metric and, if available, mAP."""
    return [headline(names), *(["map"] if "map" in names else [])]


@dataclass(frozen=True)
class Plan:
    """Sizes shared by all studies; those of a single study are in its module, by preset.

    Attributes:
        seeds: number of seeds of every configuration in studies of heads.
        epochs: epochs of every run; None for `train.epochs` and `finetune.epochs`.
        trials: number of configurations tried per method by the tuning; the first is unchanged.
        encoder_seeds: number of seeds in studies of encoders.
    """

    preset: Preset
    seeds: int
    epochs: int | None
    trials: int
    encoder_seeds: int = 3


PRESETS: Mapping[Preset, Plan] = {
    "smoke": Plan("smoke", 2, 2, 2, 1),
    "quick": Plan("quick", 5, None, 6),
    "full": Plan("full", 5, None, 12, 5),
}


def plan(study: StudyParams) -> Plan:
    """Return the sizes of the preset, overridden by those set in the parameters."""
    own = {name: getattr(study, name) for name in ("seeds", "epochs", "trials")}
    own["encoder_seeds"] = study.seeds
    return replace(PRESETS[study.preset], **{name: value for name, value in own.items() if value})


@dataclass(frozen=True)
class Variant:
    """One configuration of a study, run with every seed.

    Attributes:
        label: name in tables.
        params: canonical parameters with seed 0.
        x: position on the axes of the study, by name.
        partner: label of the variant that it is compared with; None for the study's reference.
    """

    label: str
    params: Params
    x: Mapping[str, float | bool | str | None]
    partner: str | None = None

    def with_seed(self, seed: int) -> Params:
        """Return the parameters of the run with this seed."""
        return changed(self.params, {"train.seed": seed})


def changed(params: Params, changes: Mapping[str, Any]) -> Params:
    """Replace the values of dotted names; the result is validated like a parameter file."""
    values = params.model_dump()
    for name, value in changes.items():
        section, key = name.split(".")
        values[section][key] = value
    return Params.model_validate(values)


def variant(label: str, params: Params, changes: Mapping[str, Any], **x: Any) -> Variant:
    """Return a variant with these changes to dotted names; `x` is its position on the axes."""
    return Variant(label, canonical(changed(params, changes)), x)


def distinct(found: Iterable[Variant]) -> list[Variant]:
    """Drop variants that train the same head as an earlier one."""
    unique: dict[Params, Variant] = {}
    for one in found:
        unique.setdefault(one.params, one)
    return list(unique.values())


def base(params: Params, sizes: Plan) -> Params:
    """Return the parameters that every study varies: those of the file, with the plan's epochs.

    Parameters without effect on training or metrics are set to their defaults, so that they do not
    distinguish runs.
    """
    epochs = sizes.epochs or params.train.epochs
    names = ("dataset", "encoder", "finetune", "features", "ua", "head", "train", "evaluate")
    own = Params(**{name: getattr(params, name) for name in names})
    changes = {"train.epochs": epochs, "train.seed": 0, "train.threads": params.study.cores}
    return changed(own, changes | {"finetune.epochs": sizes.epochs or params.finetune.epochs})


def parts(params: Params, isu: bool, csu: bool, dr: bool) -> tuple[str, dict[str, Any]]:
    """Return the label and the changes of RAU with only these parts."""
    defaults = UaParams()
    on = [name for name, there in (("ISU", isu), ("CSU", csu), ("DR", dr)) if there]
    changes = {
        "head.name": "rau",
        "ua.isu": isu,
        "ua.csu_weight": (params.ua.csu_weight or defaults.csu_weight) if csu else 0.0,
        "ua.dr_weight": (params.ua.dr_weight or defaults.dr_weight) if dr else 0.0,
    }
    return " + ".join(on) or METHODS[DETERMINISTIC].label, changes


def regimes(params: Params, asked: Sequence[Regime]) -> Sequence[Regime]:
    """Return the data regimes that a study of heads can compare.

    A fine-tuned encoder has been trained on the queries that a regime omits, and with their correct
    targets: on its features there is only the regime of all queries. Study `finetune`, which trains
    an encoder in every regime, compares the others.
    """
    return asked if params.finetune.towers == "none" else (WHOLE,)


def regime(params: Params, fraction: float, noise: float) -> tuple[str, dict[str, Any]]:
    """Return the suffix of labels and the changes for less data or wrong targets for heads.

    `epochs` and `patience` are divided by the square root of the fraction, so that less data does
    not only mean less training.
    """
    longer = {
        name: min(round(getattr(params.train, name) * fraction**-0.5), _most(name))
        for name in ("epochs", "patience")
    }
    changes = {f"train.{name}": value for name, value in longer.items()}
    return where(fraction, noise), changes | {"train.fraction": fraction, "train.noise": noise}


def _most(name: str) -> int:
    """Return the upper limit of a parameter of `train`."""
    limits = TrainParams.model_fields[name].metadata
    return next(int(one.le) for one in limits if hasattr(one, "le"))


def where(fraction: float, noise: float) -> str:
    """Describe a data regime as a suffix in brackets; empty for all queries unchanged."""
    less = [f"{fraction:.0%} of the queries"] if fraction < 1 else []
    told = less + ([f"{noise:.0%} wrong"] if noise else [])
    return f" ({', '.join(told)})" if told else ""


# Hyperparameters tuned for every method, so that budgets are equal.
COMMON: Mapping[str, tuple[Any, ...]] = {
    "train.lr": (1e-4, 3e-4, 6e-4, 1e-3, 2e-3),
    "train.temperature": (0.03, 0.05, 0.07, 0.1, 0.15),
    "head.dropout": (0.2, 0.5, 0.7),
    "head.input_dropout": (0.0, 0.2, 0.4),
}


def trials(name: str, params: Params, sizes: Plan) -> list[dict[str, Any]]:
    """Return the changes tried for a method: first none, then random draws from its space.

    Draws of the common hyperparameters are the same for every method. The batch size is not tuned,
    so that runs stay paired. A method with nothing to train has only the first trial.
    """
    own = METHODS[name].space
    shared_space = params.features.source is None or params.features.shared_space
    count = 1 if METHODS[name].fixed and shared_space else sizes.trials
    rows: list[dict[str, Any]] = [{}]
    for number in range(1, count):
        common, extra = random.Random(number), random.Random(f"{number}/{name}")
        row = {key: common.choice(values) for key, values in COMMON.items()}
        row |= {key: extra.choice(values) for key, values in own.items()}
        rows.append(row)
    unique = {canonical(changed(params, {"head.name": name, **row})): row for row in rows}
    return list(unique.values())
