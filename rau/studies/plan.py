"""What all studies share: the sizes of the presets, variants of the parameters, tuning trials."""

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rau.methods import DETERMINISTIC, METHODS
from rau.models.config import canonical
from rau.params import Params, StudyParams, TrainParams, UaParams

Preset = Literal["smoke", "quick", "full"]
# Changes that the tuning chose, by method.
Tuned = Mapping[str, Mapping[str, Any]]
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
    """Of the metrics that there are, the one that studies compare by."""
    return "mean_of_r5_rs1" if "mean_of_r5_rs1" in names else "mean_of_r10_r50"


def compared(names: Collection[str]) -> list[str]:
    """The headline metric and mAP, where it is known."""
    return [headline(names), *(["map"] if "map" in names else [])]


@dataclass(frozen=True)
class Plan:
    """Sizes that all studies share; those of one study are in its module, by preset.

    Attributes:
        seeds: number of seeds of every configuration in studies of heads.
        epochs: epochs of every run; None for `train.epochs` and `finetune.epochs`.
        trials: configurations that the tuning of a method tries; the first is unchanged.
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
    """The preset's sizes, replaced by those that the parameters set."""
    own = {name: getattr(study, name) for name in ("seeds", "epochs", "trials")}
    own["encoder_seeds"] = study.seeds
    return replace(PRESETS[study.preset], **{name: value for name, value in own.items() if value})


@dataclass(frozen=True)
class Variant:
    """One configuration of a study, run with every seed.

    Attributes:
        label: as tables print it.
        params: canonical, with seed 0.
        x: its position on the study's axes, by name.
        partner: label of the variant that it is compared with, where it is not the study's.
    """

    label: str
    params: Params
    x: Mapping[str, float | bool | str | None]
    partner: str | None = None

    def with_seed(self, seed: int) -> Params:
        """The parameters of one run."""
        return changed(self.params, {"train.seed": seed})


def changed(params: Params, changes: Mapping[str, Any]) -> Params:
    """Parameters with the values of dotted names replaced, checked like those of a file."""
    values = params.model_dump()
    for name, value in changes.items():
        section, key = name.split(".")
        values[section][key] = value
    return Params.model_validate(values)


def variant(label: str, params: Params, changes: Mapping[str, Any], **x: Any) -> Variant:
    """A variant that changes these values of dotted names, at a position on the study's axes."""
    return Variant(label, canonical(changed(params, changes)), x)


def distinct(found: Iterable[Variant]) -> list[Variant]:
    """Variants without those that train the same head as an earlier one."""
    unique: dict[Params, Variant] = {}
    for one in found:
        unique.setdefault(one.params, one)
    return list(unique.values())


def base(params: Params, sizes: Plan) -> Params:
    """The parameters that every study varies: those of the file, with the plan's epochs.

    Those without effect on training or metrics have their defaults, so that they do not
    distinguish runs.
    """
    epochs = sizes.epochs or params.train.epochs
    names = ("dataset", "encoder", "finetune", "features", "ua", "head", "train", "evaluate")
    own = Params(**{name: getattr(params, name) for name in names})
    changes = {"train.epochs": epochs, "train.seed": 0, "train.threads": 1}
    return changed(own, changes | {"finetune.epochs": sizes.epochs or params.finetune.epochs})


def parts(params: Params, isu: bool, csu: bool, dr: bool) -> tuple[str, dict[str, Any]]:
    """RAU with these parts alone: its label and what it changes."""
    defaults = UaParams()
    on = [name for name, there in (("ISU", isu), ("CSU", csu), ("DR", dr)) if there]
    changes = {
        "head.name": "rau",
        "ua.isu": isu,
        "ua.csu_weight": (params.ua.csu_weight or defaults.csu_weight) if csu else 0.0,
        "ua.dr_weight": (params.ua.dr_weight or defaults.dr_weight) if dr else 0.0,
    }
    return " + ".join(on) or METHODS[DETERMINISTIC].label, changes


def regime(params: Params, fraction: float, noise: float) -> tuple[str, dict[str, Any]]:
    """Less data or wrong targets for heads: what labels say of it, and the changes.

    Less data gets more epochs, by the square root of what is missing, so that it is not only less
    training.
    """
    longer = {
        name: min(round(getattr(params.train, name) * fraction**-0.5), _most(name))
        for name in ("epochs", "patience")
    }
    changes = {f"train.{name}": value for name, value in longer.items()}
    return where(fraction, noise), changes | {"train.fraction": fraction, "train.noise": noise}


def _most(name: str) -> int:
    """The largest value of a parameter of `train`."""
    limits = TrainParams.model_fields[name].metadata
    return next(int(one.le) for one in limits if hasattr(one, "le"))


def where(fraction: float, noise: float) -> str:
    """A regime of data in brackets behind a space, nothing for all queries as they are."""
    less = [f"{fraction:.0%} of the queries"] if fraction < 1 else []
    told = less + ([f"{noise:.0%} wrong"] if noise else [])
    return f" ({', '.join(told)})" if told else ""


# Hyperparameters that are tuned for every method, so that budgets are equal.
COMMON: Mapping[str, tuple[Any, ...]] = {
    "train.lr": (1e-4, 3e-4, 6e-4, 1e-3, 2e-3),
    "train.temperature": (0.03, 0.05, 0.07, 0.1, 0.15),
    "head.dropout": (0.2, 0.5, 0.7),
    "head.input_dropout": (0.0, 0.2, 0.4),
}


def trials(name: str, params: Params, sizes: Plan) -> list[dict[str, Any]]:
    """The changes that a method may try: none first, then draws from its space.

    Draws of the common hyperparameters are the same for every method. The batch size is not among
    them, so that pairs stay pairs. A method with nothing to train has the first trial alone.
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
