"""The runs of each study: variants of the parameters, and the sizes of the presets."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rau.methods import DETERMINISTIC, METHODS, RAW_SUM
from rau.models.config import canonical, without_uncertainty
from rau.params import Params, StudyParams, UaParams

Study = Literal["methods", "ablation", "theta", "n", "finetune"]
STUDIES: tuple[Study, ...] = get_args(Study)
# Those on the features of one encoder; in `finetune` every run trains an encoder of its own.
OF_HEADS: tuple[Study, ...] = tuple(study for study in STUDIES if study != "finetune")
# Methods with an uncertainty of another kind that `finetune` compares.
OTHERS = ("mur", "pcmepp")
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


@dataclass(frozen=True)
class Plan:
    """Sizes of the studies.

    Attributes:
        seeds: number of seeds of every configuration in the other studies.
        epochs: epochs of every run; None for `train.epochs` and `finetune.epochs`.
        trials: configurations that the tuning of a method tries; the first is unchanged.
        thetas, quantiles: thresholds of the θ study.
        blocks: values of `ua.n` in the n study.
        regimes: `train.fraction` and `train.noise` in the finetune study.
        encoder_seeds: number of seeds in the finetune study.
    """

    seeds: int
    epochs: int | None
    trials: int
    thetas: tuple[float, ...]
    quantiles: tuple[float, ...]
    blocks: tuple[int, ...]
    regimes: tuple[tuple[float, float], ...] = ((1.0, 0.0),)
    encoder_seeds: int = 3


PRESETS: Mapping[str, Plan] = {
    "smoke": Plan(2, 2, 2, (0.3, 0.8), (0.99,), (0, 1, 2), ((1.0, 0.0), (0.5, 0.4)), 1),
    "quick": Plan(
        5,
        None,
        6,
        (0.1, 0.3, 0.5, 0.7, 0.9),
        (0.98, 0.995),
        (0, 1, 2, 4, 6),
        ((1.0, 0.0), (0.1, 0.0), (0.1, 0.4)),
    ),
    "full": Plan(
        5,
        None,
        12,
        tuple(round(0.1 * step, 1) for step in range(1, 10)),
        (0.9, 0.95, 0.98, 0.99, 0.995, 0.998),
        tuple(range(7)),
        ((1.0, 0.0), (0.3, 0.0), (0.1, 0.0), (1.0, 0.2), (1.0, 0.4), (0.1, 0.4)),
        5,
    ),
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
    x: Mapping[str, float | bool | None]
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


def _variant(label: str, params: Params, changes: Mapping[str, Any], **x: Any) -> Variant:
    return Variant(label, canonical(changed(params, changes)), x)


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


def variants(
    study: Study, params: Params, sizes: Plan, tuned: Mapping[str, Mapping[str, Any]]
) -> list[Variant]:
    """The configurations of a study, without those that train the same head as an earlier one.

    Args:
        params: result of `base`.
        tuned: changes that the tuning chose, by method; used by `methods` only.
    """
    match study:
        case "methods":
            found = [
                _variant(method.label, params, {"head.name": name, **tuned.get(name, {})})
                for name, method in METHODS.items()
            ]
        case "ablation":
            found = _ablation(params)
        case "theta":
            found = _theta(params, sizes)
        case "n":
            found = [
                _variant(f"n = {n}", params, {"head.name": "rau", "ua.n": n}, n=n)
                for n in sizes.blocks
            ]
        case "finetune":
            found = _finetune(params, sizes)
    unique: dict[Params, Variant] = {}
    for variant in found:
        unique.setdefault(variant.params, variant)
    return list(unique.values())


REFERENCE: Mapping[Study, str] = {
    "methods": METHODS[DETERMINISTIC].label,
    "ablation": METHODS[DETERMINISTIC].label,
    "theta": METHODS[DETERMINISTIC].label,
    "n": "n = 0",
    "finetune": METHODS[DETERMINISTIC].label,
}


def _ablation(params: Params) -> list[Variant]:
    """All on/off combinations of ISU, CSU and DR.

    A part that is on has the weight that the parameters give it, the default where that is 0.
    """
    rows = []
    for isu, csu, dr in product((False, True), repeat=3):
        label, changes = _parts(params, isu, csu, dr)
        rows.append(_variant(label, params, changes, ISU=isu, CSU=csu, DR=dr))
    return rows


def _parts(params: Params, isu: bool, csu: bool, dr: bool) -> tuple[str, dict[str, Any]]:
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


def _finetune(params: Params, sizes: Plan) -> list[Variant]:
    """Composers trained along with the towers, in every regime of data.

    Less data gets more epochs, by the square root of what is missing, so that it is not only less
    training: all composers of a regime have the same number of steps.
    """
    deterministic = METHODS[DETERMINISTIC].label
    parts = [(True, False, False), (True, True, False), (True, False, True), (True, True, True)]
    composers = {
        METHODS[name].label: {"head.name": name} for name in (RAW_SUM, DETERMINISTIC, *OTHERS)
    } | dict(_parts(params, *own) for own in parts)
    rows = []
    for fraction, noise in sizes.regimes:
        less = [f"{fraction:.0%} of the queries"] if fraction < 1 else []
        where = ", ".join(less + ([f"{noise:.0%} wrong"] if noise else []))
        changes = {
            "finetune.composer": "head",
            "finetune.epochs": round(params.finetune.epochs / fraction**0.5),
            "train.fraction": fraction,
            "train.noise": noise,
        }
        for label, own in composers.items():
            variant = _variant(
                f"{label} ({where})" if where else label,
                params,
                {**changes, **own},
                fraction=fraction,
                noise=noise,
            )
            partner = f"{deterministic} ({where})" if where else deterministic
            rows.append(replace(variant, partner=partner))
    return rows


def _theta(params: Params, sizes: Plan) -> list[Variant]:
    """Absolute thresholds, then quantiles, then the deterministic head as the baseline."""
    weight = params.ua.csu_weight or UaParams().csu_weight
    common = {"head.name": "rau", "ua.csu_weight": weight, "ua.theta_quantile": None}
    thresholds = [("θ =", "theta", value) for value in sizes.thetas]
    thresholds += [("quantile", "theta_quantile", value) for value in sizes.quantiles]
    rows = [
        _variant(f"{word} {value:g}", params, {**common, f"ua.{name}": value}, **{name: value})
        for word, name, value in thresholds
    ]
    return [*rows, Variant(METHODS[DETERMINISTIC].label, without_uncertainty(params), {})]


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
