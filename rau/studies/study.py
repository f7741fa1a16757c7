"""Execution of a study: variants over seeds, each paired with the reference, and the tables."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from rau.errors import UserError
from rau.evaluation.diagnostics import Diagnostic
from rau.files import digest, digest_sources
from rau.finetuning import run as finetuning
from rau.methods import DETERMINISTIC, METHODS
from rau.params import Params, first_error
from rau.studies import plan, registry, summary, tuning
from rau.studies.run_store import RunStore, forecast
from rau.studies.runs import Result
from rau.studies.tables import StudyDocument, StudyTables, VariantRecord
from rau.training import fit

# Sources that compute tables from results, in addition to a study's own module. `regularisers` uses
# the tables of `distributions`.
STATISTICS = (
    "evaluation/bootstrap.py",
    "evaluation/calibration.py",
    "evaluation/composition.py",
    "evaluation/confidence_measures.py",
    "evaluation/diagnostics.py",
    "studies/breakdown.py",
    "studies/by_seed.py",
    "studies/confidence_tables.py",
    "studies/defined/distributions.py",
    "studies/evidential.py",
    "studies/learned_confidence.py",
    "studies/plan.py",
    "studies/study.py",
    "studies/summary.py",
)


def announce(names: Sequence[str], params: Params, store: RunStore) -> None:
    """Print a forecast of how long the tuning and these studies will take.

    Raises:
        UserError: if a study cannot be made with these parameters.
    """
    sizes = plan.plan(params.study)
    base = plan.base(params, sizes)
    tuning_runs: list[Params] = []

    def stored(asked: Sequence[Params]) -> list[float]:
        tuning_runs.extend(asked)
        results = [store.load(one) for one in asked]
        return [0.0 if result is None else _score(params, result) for result in results]

    changes = tuning.chosen(tuning.tune(base, sizes, stored))
    wanted: dict[tuple[str, ...], list[Params]] = {(): tuning_runs}
    for name in names:
        study, found = registry.load(name), _variants(name, params, changes)
        wanted.setdefault(study.measures, []).extend(_seeded(found, sizes.seeds))
    parts = [(store.measuring(measures), own) for measures, own in wanted.items()]
    forecast(f"preset {params.study.preset}, tuning and {', '.join(names)}", parts)


def _score(params: Params, result: Result) -> float:
    """Return the holdout metric that the tuning compares; -inf for a failed training."""
    value = result.summary.get(f"holdout_{params.train.select}")
    return -math.inf if value is None else value


def tune(params: Params, store: RunStore) -> tuple[pd.DataFrame, tuning.Choice]:
    """Tune every method on the holdout; return one row per trial, and the choice."""
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
    choice = tuning.Choice(runs=_tuning_runs(params, store), changes=tuning.chosen(found))
    return pd.DataFrame(rows), choice


def tuned(path: Path, params: Params, store: RunStore) -> plan.Tuned:
    """Read the changes chosen by the tuning, by method, from a file with a `tuning.Choice`.

    Raises:
        UserError: if it is missing, malformed, or made by other code, features or parameters.
    """
    found = tuning.Choice.read(path)
    if found.runs != _tuning_runs(params, store):
        raise UserError(f"{path}: made by other code, features or parameters; {tuning.REMEDY}")
    return found.changes


def _tuning_runs(params: Params, store: RunStore) -> str:
    """Digest of the names of the tuning's runs if all trials had equal scores."""
    sizes, names = plan.plan(params.study), list[str]()

    def measure(wanted: Sequence[Params]) -> list[float]:
        names.extend(map(store.key, wanted))
        return [0.0] * len(wanted)

    tuning.tune(plan.base(params, sizes), sizes, measure)
    return digest(names, 24)


def run_study(name: str, params: Params, changes: plan.Tuned, store: RunStore) -> StudyTables:
    """Execute the runs of a study that are not stored yet, and summarise all runs.

    Args:
        changes: changes chosen by the tuning, by method; used only by studies that are `tuned`.

    Raises:
        UserError: if the study cannot be made with these parameters, or if a run failed; a study
            that counts failures only raises if a run of a reference failed.
    """
    study, sizes = registry.load(name), plan.plan(params.study)
    store = store.measuring(study.measures)
    seeds = sizes.encoder_seeds if study.encoders else sizes.seeds
    variants = _variants(name, params, changes)
    results = _results(name, variants, seeds, store)
    whole = _whole(name, study, variants, results)
    by_variant = {v.label: results[v.label] for v in whole}
    partners = {v.label: v.partner or study.reference for v in variants}
    rows = [
        summary.run_row(variant, seed, store.key(variant.with_seed(seed)), result)
        for variant in variants
        for seed, result in enumerate(results[variant.label])
    ]
    own = study.own(whole, by_variant)
    document = StudyDocument(
        study=name,
        preset=params.study.preset,
        seeds=seeds,
        reference=study.reference,
        variants=[
            VariantRecord(label=v.label, x=dict(v.x), params=store.key(v.params), partner=v.partner)
            for v in variants
        ],
        diagnostics=_diagnostics(whole, by_variant, partners),
        cosines=summary.mean_cosines(by_variant),
        own=list(own),
        code=code_digest(name),
        select=(params.finetune if study.encoders else params.train).select,
    )
    groups: dict[str, list[str]] = {}
    for v in whole:
        groups.setdefault(partners[v.label], []).append(v.label)
    return StudyTables(pd.DataFrame(rows), summary.lines(by_variant, groups), document, own)


def is_current(
    document: StudyDocument, params: Params, changes: plan.Tuned, store: RunStore
) -> bool:
    """Whether a study's tables were made by the present code, features, tables and parameters.

    The names of runs include a digest of their code.
    """
    if document.code != code_digest(document.study):
        return False
    study, sizes = registry.load(document.study), plan.plan(params.study)
    store = store.measuring(study.measures)
    variants = plan.distinct(study.variants(plan.base(params, sizes), sizes, changes))
    seeds = sizes.encoder_seeds if study.encoders else sizes.seeds
    runs = [(variant.label, store.key(variant.with_seed(0))) for variant in variants]
    return (document.seeds, [(v.label, v.params) for v in document.variants]) == (seeds, runs)


def _variants(name: str, params: Params, changes: plan.Tuned) -> list[plan.Variant]:
    """Return the variants of a study, each of which trains a different head or encoder.

    Raises:
        UserError: if a value is not allowed, RAU would equal the deterministic head, or no encoder
            would be trained.
    """
    study, sizes = registry.load(name), plan.plan(params.study)
    if study.encoders and params.finetune.towers == "none":
        raise UserError(
            f"study {name}: finetune.towers=none trains no encoder; set it to text, image or both"
        )
    try:
        made = study.variants(plan.base(params, sizes), sizes, changes)
    except ValidationError as error:
        key, message = first_error(error)
        raise UserError(f"study {name}: a variant's {key}: {message}") from error
    kept = plan.distinct(made)
    if METHODS["rau"].label in {v.label for v in made} - {v.label for v in kept}:
        raise UserError(
            f"study {name}: RAU with these ua.* is the deterministic head; switch on ua.isu (with "
            "ua.n of 1 or more), ua.csu_weight or ua.dr_weight"
        )
    return kept


def code_digest(name: str) -> str:
    """Digest of the code that computes a study's tables from the results of its runs."""
    module = registry.STUDIES[name].partition(":")[0].removeprefix("rau.").replace(".", "/")
    root = Path(__file__).parents[1]
    return digest_sources(root, [*STATISTICS, f"{module}.py"])


def source_digest(name: str) -> str:
    """Digest of all code behind a study's answer: the code of its runs and of its tables."""
    sources = finetuning.SOURCES if registry.load(name).encoders else fit.SOURCES
    own = digest_sources(Path(__file__).parents[1], [*sources, "studies/runs.py"])
    return digest([own, code_digest(name)], 24)


def _diagnostics(
    variants: Sequence[plan.Variant],
    results: Mapping[str, Sequence[Result]],
    partners: Mapping[str, str],
) -> dict[str, list[list[Diagnostic]]]:
    """Diagnose by variant and seed; differences count only if to a deterministic head."""
    deterministic = {v.label for v in variants if v.params.head.name == DETERMINISTIC}
    return {
        v.label: [
            summary.seed_diagnostics(v, result, theirs if partner in deterministic else None)
            for result, theirs in zip(results[v.label], results[partner], strict=True)
        ]
        for v in variants
        for partner in [partners[v.label]]
    }


def _seeded(variants: Sequence[plan.Variant], seeds: int) -> list[Params]:
    """Return the runs of all variants, ordered by variant, then by seed."""
    return [variant.with_seed(seed) for variant in variants for seed in range(seeds)]


def _results(
    title: str, variants: Sequence[plan.Variant], seeds: int, store: RunStore
) -> dict[str, list[Result]]:
    """Return the results of every variant in the order of the seeds."""
    wanted = _seeded(variants, seeds)
    store.forecast(title, wanted)
    results = iter(store.complete(title, wanted))
    return {variant.label: [next(results) for _ in range(seeds)] for variant in variants}


def _whole(
    name: str,
    study: registry.Study,
    variants: Sequence[plan.Variant],
    results: Mapping[str, Sequence[Result]],
) -> list[plan.Variant]:
    """Return the variants without failed runs.

    Raises:
        UserError: if a run failed that the study requires.
    """
    failed = {v.label: [r for r in results[v.label] if r.failure is not None] for v in variants}
    partners = {v.partner or study.reference for v in variants}
    fatal = [
        result
        for label, own in failed.items()
        for result in own
        if label in partners or not study.counts_failures
    ]
    if fatal:
        count = sum(map(len, results.values()))
        raise UserError(
            f"study {name}: {len(fatal)} of {count} runs failed, the first with seed "
            f"{fatal[0].params['train.seed']}: {fatal[0].failure}"
        )
    return [v for v in variants if not failed[v.label]]
