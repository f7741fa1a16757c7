"""Tables of the study `calibration`: predictors of success, paired with the top-1 cosine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rau.evaluation import bootstrap
from rau.evaluation import confidence_measures as measures
from rau.retrieval.metrics import CUTS
from rau.studies import learned_confidence
from rau.studies.evidence import FREE
from rau.studies.learned_confidence import Arrays

Floats = NDArray[np.float64]
RESAMPLES, SEED = 300, 0
COSINE, SIGMA = FREE[0], "σ² of the query"
# Number of correct answers: predicted by a ridge regression, and true.
PREDICTED, TRUE = "number of answers, predicted", "number of answers, true"
# The predictors of `FREE` that use only the scores and the text.
WITHOUT_SIGMA = tuple(name for name in FREE if not name.startswith("σ²"))
# Predictors that are fitted on the holdouts.
LEARNED = (*learned_confidence.MODELS, *learned_confidence.EVIDENTIAL, PREDICTED)
LABELS = (*(f"hit at {k}" for k in CUTS), "average precision")
# Label used for curves, for the page, and for the models if the label is not a hit.
MAIN = "hit at 10"
MISSES = (0.1, 0.05)
GROUPS = 5
COVERAGES = np.linspace(0.02, 1, 50)
COLUMNS = ["variant", "label", "category", "predictor", "measure"]
COLUMNS += ["mean", "low", "high", "difference", "difference_low", "difference_high"]
ALL = "all"
OVER_FREE = "AUROC over the best free"
# Computed from bins: resampling adds noise to them, so resampled values are biased.
WITHOUT_INTERVAL = ("R²", "Spearman", "ECE")


@dataclass(frozen=True)
class Predictor:
    """Scores of queries by seed; larger scores are more confident.

    Attributes:
        val, holdout: (Q,) per seed; `holdout` is None if a map cannot be fitted on its scores.
        probable: whether the scores are already probabilities.
    """

    val: Sequence[Floats]
    holdout: Sequence[Floats] | None = None
    probable: bool = False


@dataclass(frozen=True)
class Evidence:
    """Measurements of the runs of a variant, one list element per seed.

    Attributes:
        val, holdout: arrays of `evidence.evidence`.
        categories: names of the categories of val, by index.
    """

    val: Sequence[Arrays]
    holdout: Sequence[Arrays]
    categories: Sequence[str]
    _predictors: dict[str, dict[str, Predictor]] = field(default_factory=dict)

    @classmethod
    def of(cls, extras: Sequence[Arrays], categories: Sequence[str]) -> "Evidence":
        """Split the arrays of `Result.extra` into val and holdout."""

        def split(name: str) -> list[Arrays]:
            start = f"evidence/{name}/"
            return [
                {k.removeprefix(start): v for k, v in one.items() if k.startswith(start)}
                for one in extras
            ]

        return cls(split("val"), split("holdout"), categories)

    def labels(self, side: Sequence[Arrays], label: str) -> list[Floats] | None:
        """Labels (Q,) per seed; None if they are unknown."""
        if label == LABELS[-1]:
            found = [np.asarray(one["precision"], np.float64) for one in side]
            return None if any(np.isnan(one).any() for one in found) else found
        cut = int(label.split()[-1])
        return [((one["rank"] > 0) & (one["rank"] <= cut)).astype(np.float64) for one in side]

    def predictors(self, label: str) -> dict[str, Predictor]:
        """All predictors by name, fitted once per label."""
        if label not in self._predictors:
            self._predictors[label] = self._fitted(label)
        return self._predictors[label]

    def _fitted(self, label: str) -> dict[str, Predictor]:
        if label == LABELS[-1]:  # Models give probabilities of hits only.
            return {n: replace(one, probable=False) for n, one in self.predictors(MAIN).items()}
        held = self.labels(self.holdout, label)
        assert held is not None  # Hits are always known.
        found = {
            name: Predictor(
                [np.asarray(one["free"][:, place], np.float64) for one in self.val],
                [np.asarray(one["free"][:, place], np.float64) for one in self.holdout],
            )
            for place, name in enumerate(FREE)
        }
        rng, sigma = np.random.default_rng(SEED), found[SIGMA]
        shuffled = [[rng.permutation(o) for o in own] for own in (sigma.val, sigma.holdout or ())]
        found["σ² shuffled"] = Predictor(shuffled[0], shuffled[1])
        found["σ², mean of seeds"] = Predictor([np.mean(sigma.val, axis=0)] * len(self.val))
        if len(self.val) > 1:
            found["agreement of seeds"] = Predictor(agreement([one["top"] for one in self.val]))
        count = learned_confidence.categories([*self.holdout, *self.val])
        rates = category_rates(self.holdout, held, count)
        of_val, of_held = ([rates[o["category"]] for o in own] for own in (self.val, self.holdout))
        found["category"] = Predictor(of_val, of_held)
        learned = learned_confidence.predict(self.holdout, self.val, held)
        found |= {name: Predictor(scores, probable=True) for name, scores in learned.items()}
        evidence = learned_confidence.evidence(self.holdout, self.val, held)
        probability = learned_confidence.EVIDENTIAL[0]
        found |= {n: Predictor(own, probable=n == probability) for n, own in evidence.items()}
        answers = learned_confidence.answers(self.holdout, self.val)
        if answers is not None:
            found[PREDICTED] = Predictor(answers)
            found[TRUE] = Predictor([-one["answers"] for one in self.val])
        return found


def agreement(top: Sequence[NDArray[np.int64]]) -> list[Floats]:
    """Mean Jaccard index of a seed's first results with those of the others, (Q,) per seed."""
    common = [
        [(one[:, :, None] == other[:, None, :]).any(2).sum(1) for other in top] for one in top
    ]
    width = top[0].shape[1]
    return [
        np.mean([c / (2 * width - c) for n, c in enumerate(row) if n != own], axis=0)
        for own, row in enumerate(common)
    ]


def category_rates(held: Sequence[Arrays], hits: Sequence[Floats], count: int) -> Floats:
    """Hit rate of each category on the holdouts, (count,)."""
    category = np.concatenate([one["category"] for one in held])
    found = np.bincount(category, np.concatenate(hits), count)
    return np.asarray(found / np.maximum(np.bincount(category, minlength=count), 1))


def table(variant: str, evidence: Evidence) -> pd.DataFrame:
    """Table of every measure of every predictor, as means over seeds, with columns `COLUMNS`.

    Differences are from the top-1 cosine; intervals are 95 % bootstrap intervals over queries and
    seeds.
    """
    category = np.asarray(evidence.val[0]["category"])
    counts, seeds = bootstrap.weights(category, len(evidence.val), RESAMPLES, SEED)
    weights = np.vstack([np.ones(len(category)), counts])
    seeds = np.vstack([np.full(seeds.shape[1], 1 / seeds.shape[1]), seeds])
    rows = []
    for label in LABELS:
        hits = evidence.labels(evidence.val, label)
        if hits is None:
            continue
        held = evidence.labels(evidence.holdout, label)
        least = [measures.least_aurc(own, weights) for own in hits]
        drawn: dict[str, dict[str, Floats]] = {}
        for name, one in evidence.predictors(label).items():
            by_seed = [
                _of_seed(
                    one,
                    seed,
                    hits[seed],
                    None if held is None else held[seed],
                    weights,
                    least[seed],
                )
                for seed in range(len(hits))
            ]
            drawn[name] = _mean(by_seed, seeds)
        rows += [*_rows(variant, label, ALL, drawn), *_over_free(variant, label, drawn)]
    for name, own in _lists(evidence, weights, seeds).items():
        rows += _rows(variant, "lists", name, own)
    return pd.DataFrame(rows, columns=COLUMNS).round(6)


def _of_seed(
    one: Predictor,
    seed: int,
    hits: Floats,
    held: Floats | None,
    weights: Floats,
    least: Floats,
) -> dict[str, Floats]:
    """All measures of a seed's order, and of its probabilities if there are any."""
    score = one.val[seed]
    found = measures.of_order(score, hits, weights, least)
    probability = score if one.probable else None
    if one.holdout is not None and held is not None:
        probability = measures.isotonic(one.holdout[seed], held, score)
    if probability is not None and "AUROC" in found:
        found["ECE"] = measures.ece(probability, hits, weights)
        found["Brier"] = measures.brier(probability, hits, weights)
    return found


def _lists(
    evidence: Evidence, weights: Floats, seeds: Floats
) -> dict[str, dict[str, dict[str, Floats]]]:
    """Coverage and length of conformal lists, by category and predictor.

    Depths are fractions of the gallery, because the holdout's gallery has another size.
    """
    category = np.asarray(evidence.val[0]["category"])
    found: dict[str, dict[str, dict[str, Floats]]] = {}
    places = {ALL: np.ones(len(category), bool)}
    places |= {name: category == n for n, name in enumerate(evidence.categories)}
    for predictor, one in evidence.predictors(MAIN).items():
        if one.holdout is None:
            continue
        lists = [_depths(one, seed, evidence) for seed in range(len(evidence.val))]
        for name, rows in places.items():
            total = weights[:, rows].sum(1)
            by_seed = [
                {key: weights[:, rows] @ column[rows] / total for key, column in own.items()}
                for own in lists
            ]
            found.setdefault(name, {})[predictor] = _mean(by_seed, seeds)
    return found


def _depths(one: Predictor, seed: int, evidence: Evidence) -> dict[str, Floats]:
    """Whether each query's list contains its target, and its length, by miss rate."""
    assert one.holdout is not None
    held, val = evidence.holdout[seed], evidence.val[seed]
    where, own = (
        np.where(side["rank"] > 0, side["rank"] / side["gallery"], np.inf) for side in (held, val)
    )
    found = {}
    for miss in MISSES:
        depth = measures.conformal_depths(one.holdout[seed], where, one.val[seed], miss, GROUPS)
        depth = np.minimum(depth, 1.0)
        found[f"coverage {1 - miss:.0%}"] = (own <= depth + 1e-12).astype(np.float64)
        found[f"length {1 - miss:.0%}"] = np.ceil(depth * val["gallery"] - 1e-9)
    return found


def _mean(by_seed: Sequence[Mapping[str, Floats]], seeds: Floats) -> dict[str, Floats]:
    """Means of measures (B,) over seeds, with weights (B, S)."""
    return {
        name: (np.stack([own[name] for own in by_seed], axis=1) * seeds).sum(1)
        for name in by_seed[0]
    }


def _rows(
    variant: str, label: str, category: str, drawn: Mapping[str, Mapping[str, Floats]]
) -> Iterator[tuple[Any, ...]]:
    """Yield rows of `COLUMNS` from measures whose first value is the one without resampling."""
    for predictor, own in drawn.items():
        for measure, values in own.items():
            line = variant, label, category, predictor, measure, values[0]
            ends, paired = [np.nan] * 2, [np.nan] * 3
            if measure not in WITHOUT_INTERVAL:
                ends = [*_ends(values)]
                if predictor != COSINE:
                    gap = values - drawn[COSINE].get(measure, np.nan)
                    paired = [gap[0], *_ends(gap)]
            yield (*line, *ends, *paired)


def _over_free(
    variant: str, label: str, drawn: Mapping[str, Mapping[str, Floats]]
) -> Iterator[tuple[Any, ...]]:
    """Yield rows of the AUROC minus that of the best free predictor on these queries.

    Chosen after the fact, it is the strongest baseline for learned predictors.
    """
    areas = {name: drawn[name]["AUROC"] for name in drawn if "AUROC" in drawn[name]}
    free = [name for name in WITHOUT_SIGMA if name in areas]
    if free:
        best = areas[max(free, key=lambda name: float(np.nan_to_num(areas[name][0])))]
        for name in drawn:
            gap = areas[name] - best
            yield (variant, label, ALL, name, OVER_FREE, gap[0], *_ends(gap), *(np.nan,) * 3)


def _ends(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return float(low), float(high)


def curves(variant: str, evidence: Evidence) -> pd.DataFrame:
    """Risk by coverage of every predictor, as means over seeds, for `MAIN`."""
    hits = evidence.labels(evidence.val, MAIN)
    assert hits is not None
    rows = []
    for name, one in evidence.predictors(MAIN).items():
        risks = []
        for score, own in zip(one.val, hits, strict=True):
            ordered = measures.Ordered.of(score, own, np.ones((1, len(own))))
            risks.append([1 - measures.at_coverage(ordered, c)[0] for c in COVERAGES])
        for coverage, risk in zip(COVERAGES, np.mean(risks, axis=0), strict=True):
            rows.append((variant, name, round(coverage, 4), round(risk, 6)))
    return pd.DataFrame(rows, columns=["variant", "predictor", "coverage", "risk"])


def reliability(variant: str, evidence: Evidence) -> pd.DataFrame:
    """Mean probability and hit rate of bins of equal mass, over all seeds, for `MAIN`."""
    hits, held = (evidence.labels(side, MAIN) for side in (evidence.val, evidence.holdout))
    assert hits is not None
    assert held is not None
    rows = []
    for name, one in evidence.predictors(MAIN).items():
        if one.holdout is not None:
            told = [
                measures.isotonic(score, label, asked)
                for score, label, asked in zip(one.holdout, held, one.val, strict=True)
            ]
        elif one.probable:
            told = list(one.val)
        else:
            continue
        probability, hit = np.concatenate(told), np.concatenate(hits)
        said, rates, _ = measures.reliability(probability, hit, np.ones((1, len(hit))))
        pairs = zip(said[0], rates[0], strict=True)
        rows += [(variant, name, round(p, 6), round(rate, 6)) for p, rate in pairs]
    return pd.DataFrame(rows, columns=["variant", "predictor", "probability", "rate"])
