"""A study from its plan to its tables: variants over seeds, each paired with the reference."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rau.errors import UserError
from rau.params import Params
from rau.studies import plan, summary, tuning
from rau.studies.run_store import RunStore
from rau.studies.runs import Result
from rau.studies.tables import StudyDocument, StudyTables, VariantRecord


def announce(params: Params, store: RunStore) -> None:
    """Print how long the tuning and all studies of heads will take, as far as runs tell it."""
    sizes = plan.plan(params.study)
    base = plan.base(params, sizes)
    wanted: list[Params] = []

    def stored(asked: Sequence[Params]) -> list[float]:
        wanted.extend(asked)
        results = [store.load(one) for one in asked]
        return [0.0 if result is None else _score(params, result) for result in results]

    tuned = tuning.chosen(tuning.tune(base, sizes, stored))
    for study in plan.OF_HEADS:
        wanted += _seeded(plan.variants(study, base, sizes, tuned), sizes.seeds)
    store.forecast(f"preset {params.study.preset}, tuning and all studies of heads", wanted)


def _score(params: Params, result: Result) -> float:
    """The metric on the holdout that tuning compares; a failed training is worse than any other."""
    value = result.summary.get(f"holdout_{params.train.select}")
    return -math.inf if value is None else value


def tune(params: Params, store: RunStore) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Tune every method on the holdout; one row per trial, and the chosen changes by method."""
    sizes = plan.plan(params.study)

    def measure(wanted: Sequence[Params]) -> list[float]:
        return [_score(params, result) for result in store.complete("tune", wanted)]

    found = tuning.tune(plan.base(params, sizes), sizes, measure)
    rows = [
        {
            "method": trial.method,
            "chosen": trial.chosen,
            "seeds": len(trial.scores),
            "mean": round(trial.mean, 4),
            "first": round(trial.scores[0], 4),
            "changes": json.dumps(dict(trial.changes)),
        }
        for trial in found
    ]
    return pd.DataFrame(rows), tuning.chosen(found)


def run_study(
    study: plan.Study, params: Params, tuned: Mapping[str, Mapping[str, Any]], store: RunStore
) -> StudyTables:
    """Execute the runs of a study that are not stored yet, and summarise all of them.

    Args:
        tuned: changes that the tuning chose, by method; only the study of methods uses them.

    Raises:
        UserError: when a run failed.
    """
    sizes = plan.plan(params.study)
    seeds = sizes.encoder_seeds if study == "finetune" else sizes.seeds
    variants = plan.variants(study, plan.base(params, sizes), sizes, tuned)
    by_variant = _results(study, variants, seeds, store)
    reference = plan.REFERENCE[study]
    groups: dict[str, list[str]] = {}
    for variant in variants:
        groups.setdefault(variant.partner or reference, []).append(variant.label)
    rows = [
        summary.run_row(variant, seed, store.key(variant.with_seed(seed)), result)
        for variant in variants
        for seed, result in enumerate(by_variant[variant.label])
    ]
    diagnostics = {
        variant.label: [
            summary.seed_diagnostics(variant, result, theirs)
            for result, theirs in zip(
                by_variant[variant.label], by_variant[variant.partner or reference], strict=True
            )
        ]
        for variant in variants
    }
    document = StudyDocument(
        study=study,
        preset=params.study.preset,
        seeds=seeds,
        reference=reference,
        variants=[
            VariantRecord(label=v.label, x=dict(v.x), params=store.key(v.params)) for v in variants
        ],
        diagnostics=diagnostics,
        cosines=summary.mean_cosines(by_variant),
    )
    lines = [
        summary.lines({label: by_variant[label] for label in labels}, partner)
        for partner, labels in groups.items()
    ]
    return StudyTables(pd.DataFrame(rows), pd.concat(lines, ignore_index=True), document)


def _seeded(variants: Sequence[plan.Variant], seeds: int) -> list[Params]:
    """The runs of variants, all seeds of the first one first."""
    return [variant.with_seed(seed) for variant in variants for seed in range(seeds)]


def _results(
    study: plan.Study, variants: Sequence[plan.Variant], seeds: int, store: RunStore
) -> dict[str, list[Result]]:
    """Every variant's results in the order of their seeds."""
    wanted = _seeded(variants, seeds)
    store.forecast(study, wanted)
    found = store.complete(study, wanted)
    if failed := [result for result in found if result.failure is not None]:
        raise UserError(
            f"study {study}: {len(failed)} of {len(found)} runs failed, the first with seed "
            f"{failed[0].params['train.seed']}: {failed[0].failure}"
        )
    results = iter(found)
    return {variant.label: [next(results) for _ in range(seeds)] for variant in variants}
