"""Each diagnostic appears where its evidence is, and nowhere else; alignment against slow loops."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rau.evaluation.bootstrap import PairedDifference
from rau.evaluation.diagnostics import diagnose
from rau.models.config import canonical
from rau.models.head import ComposedHead
from rau.params import HeadName, HeadParams, Params, UaParams
from rau.schemas import ends
from rau.training import pair_distances, triplets
from rau.training.history import columns, summary
from tests.heads import small_config
from tests.training.test_trainer import synthetic

HEALTHY: dict[str, float | None] = {
    "epoch": 3.0,
    "epochs": 5.0,
    "sigma_source": 0.5,
    "sigma_target": 0.5,
    "gradient_norm": 1.0,
    "gradient_norm_first": 2.0,
    "gradient_norm_max": 2.0,
    "csu_added_per_row": 3.0,
    "csu_share": 0.01,
    "csu_precision": 0.6,
}
ALIGNED: dict[str, float | None] = {"pairs": 0.5, "negatives": 1.5, "closer": 0.95}


def against(first: tuple[float, float], deep: tuple[float, float]) -> dict[str, PairedDifference]:
    def found(low: float, high: float) -> PairedDifference:
        return PairedDifference(difference=(low + high) / 2, interval=[low, high], p=0.01)

    return {
        "recall_at_1": found(*first),
        "recall_at_10": found(-0.5, 0.5),
        "recall_at_50": found(*deep),
    }


def names(
    ua: UaParams | None = None, other: Any = None, name: HeadName = "rau", **change: Any
) -> list[str]:
    aligned = {k: change.pop(k) for k in list(change) if k in ALIGNED}
    params = canonical(Params(ua=ua or UaParams(), head=HeadParams(name=name)))
    found = diagnose(params, HEALTHY | change, ALIGNED | aligned, other)
    assert all(one.evidence and one.remedy for one in found)
    return [one.name for one in found]


def test_a_healthy_run_shows_none() -> None:
    assert names() == []
    assert names(other=against((-0.5, 0.5), (0.2, 1.0))) == []


def test_a_training_that_kept_its_start_learned_nothing() -> None:
    assert names(epoch=0.0) == ["nothing learned"]
    # A method without weights has nothing to learn.
    assert names(epoch=0.0, epochs=0.0) == []


def test_over_uncertainty_needs_both_sides_to_be_sure() -> None:
    assert names(other=against((-1.0, -0.1), (0.2, 1.0))) == ["over-uncertainty"]
    assert names(other=against((-1.0, 0.1), (0.2, 1.0))) == []
    assert names(other=against((-1.0, -0.1), (-0.2, 1.0))) == []
    off = UaParams(isu=False, csu_weight=0.0)
    assert names(off, against((-1.0, -0.1), (0.2, 1.0))) == []


def test_under_uncertainty_is_a_collapse_without_a_difference() -> None:
    none = against((-0.5, 0.5), (-0.5, 0.5))
    assert names(other=none, sigma_source=0.01) == ["under-uncertainty"]
    assert names(sigma_source=0.01) == ["under-uncertainty"]
    assert names(other=against((0.1, 0.5), (-0.5, 0.5)), sigma_source=0.01) == []
    assert names(UaParams(isu=False), none, sigma_source=0.01) == []
    assert names(sigma_target=0.01) == ["under-uncertainty"]
    assert names(name="pcmepp", sigma_target=0.01) == ["under-uncertainty"]
    assert names(name="mur", sigma_target=0.01) == []
    unsure = {k: PairedDifference(difference=0.1, interval=None, p=None) for k in none}
    assert names(other=unsure, sigma_source=0.01) == ["under-uncertainty"]


def test_misaligned_by_distance_or_by_share() -> None:
    assert names(pairs=1.6) == ["misaligned distributions"]
    assert names(closer=0.5) == ["misaligned distributions"]
    assert names(pairs=None, negatives=None, closer=None) == []


def test_remedies_name_only_what_has_an_effect() -> None:
    for name in ("tirg", "rau"):
        ua = UaParams(dr_weight=0.0, theta_quantile=0.9)
        params = canonical(Params(ua=ua, head=HeadParams(name=name)))
        course_ = HEALTHY | {"gradient_norm_max": 1e6}
        found = diagnose(params, course_, ALIGNED, against((-1.0, -0.1), (0.2, 1.0)))
        text = " ".join(one.remedy for one in found)
        assert "dr_weight" not in text
        assert "ua.theta " not in f"{text} "
        assert ("theta_quantile" in text) == (name == "rau")


def test_gradients() -> None:
    assert names(gradient_norm_max=1000.0) == ["exploding gradients"]
    assert names(gradient_norm=1e-6) == ["vanishing gradients"]
    norms = ("gradient_norm", "gradient_norm_first", "gradient_norm_max")
    blank: dict[str, Any] = dict.fromkeys(norms)
    assert names(**blank) == []


def test_csu_starved_and_flooded_name_the_parameter_in_use() -> None:
    assert names(csu_added_per_row=0.01) == ["CSU starved"]
    assert names(csu_share=0.5) == ["CSU flooded"]
    assert names(csu_precision=0.1) == ["CSU flooded"]
    assert names(csu_precision=0.1, csu_added_per_row=0.5) == []
    assert names(UaParams(csu_weight=0.0), csu_share=0.5) == []
    quantile = UaParams(theta_quantile=0.5)
    params = canonical(Params(ua=quantile))
    (found,) = diagnose(params, HEALTHY | {"csu_share": 0.5}, ALIGNED, None)
    assert "theta_quantile = 0.5" in found.evidence
    assert "ua.theta_quantile" in found.remedy


def test_a_trainings_summary_is_of_the_kept_epoch_and_has_the_gradients_way() -> None:
    rows = [
        {"epoch": 1, "gradient_norm": 4.0, "loss": 2.0, "csu_precision": None, "holdout_map": 1.0},
        {"epoch": 2, "gradient_norm": 2.0, "loss": 1.0, "csu_precision": None, "holdout_map": 2.0},
        {"epoch": 3, "gradient_norm": 1.0, "loss": 0.5, "csu_precision": None, "holdout_map": 3.0},
    ]
    found = summary(columns(rows), kept=2)
    assert found == {
        "epoch": 2,
        "epochs": 3,
        "gradient_norm": 2.0,
        "loss": 1.0,
        "csu_precision": None,
        "gradient_norm_first": 4.0,
        "gradient_norm_max": 4.0,
    }


def head(n: int, shared_space: bool = True) -> ComposedHead:
    torch.manual_seed(0)
    return ComposedHead(
        small_config(shared_space=shared_space, dim=512, n=n, sigma_init=0.3)
    ).eval()


@pytest.mark.parametrize("n", [0, 2])
def test_alignment_against_a_slow_loop(n: int) -> None:
    features, queries = synthetic()
    split = triplets.divide(queries, features, 0.2, 0)
    tasks = triplets.holdout_tasks(split, features, "forward", False)
    model = head(n)
    found = pair_distances.measure(model, tasks, features)
    pairs, negatives, closer = [], [], []
    for task in tasks:
        rows = range(len(task.target))

        def gaussian(output: Any) -> tuple[Any, Any]:
            mean = output.mean[0].detach()
            return mean, output.blocks[-1].sigma[0].detach() if n else torch.zeros_like(mean)

        sources = [
            gaussian(
                model.forward_source(
                    features.image_rows(torch.tensor([task.reference[row]])),
                    features.text_rows(torch.tensor([task.text[row, 0]])),
                )
            )
            for row in rows
        ]
        goals = [
            gaussian(
                model.forward_target(
                    features.image_rows(torch.tensor([task.gallery[task.target[row]]]))
                )
            )
            for row in rows
        ]
        shift = max(1, len(goals) // 2)
        for row in rows:
            other = (row - shift) % len(goals)
            if task.target[row] == task.target[other]:
                continue
            gaps = [
                float(sum((a - b).square().sum() for a, b in zip(sources[row], goal, strict=True)))
                for goal in (goals[row], goals[other])
            ]
            pairs.append(gaps[0])
            negatives.append(gaps[1])
            closer.append(gaps[0] < gaps[1])
    assert found["pairs"] == pytest.approx(np.mean(pairs), rel=1e-4)
    assert found["negatives"] == pytest.approx(np.mean(negatives), rel=1e-4)
    assert found["closer"] == pytest.approx(np.mean(closer))


def test_cosine_histogram_separates_correct_answers_from_negatives() -> None:
    features, queries = synthetic()
    split = triplets.divide(queries, features, 0.2, 0)
    held = split.holdout
    # Give one query an answer that is another query's target.
    first = held[0]
    other = next(
        q
        for q in held
        if q["category"] == first["category"] and q["target_id"] != first["target_id"]
    )
    held = [
        {**first, "relevant": [ends(first)[1], ends(other)[1]]},
        *held[1:],
    ]
    tasks = triplets.holdout_tasks(replace(split, holdout=held), features, "forward", False)
    found = pair_distances.cosine_histogram(head(1), tasks, features, np.linspace(-1, 1, 41))
    for share in found.values():
        assert share.sum() == pytest.approx(1)
    assert found["true"].max() > found["others"].max()
