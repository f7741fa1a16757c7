"""Rows of a study's tables: runs, and means and paired differences of variants."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rau.evaluation import bootstrap
from rau.evaluation.bootstrap import MEAN
from rau.evaluation.diagnostics import Diagnostic, diagnose
from rau.methods import METHODS
from rau.studies.plan import SHOWN, Variant
from rau.studies.runs import Result
from rau.studies.tables import SUMMARY_COLUMNS

SEED = 0
# Enough for a p-value below 0.001 after adjustment for sixteen variants.
RESAMPLES = 40_000
ROUGH = 1000
Floats = NDArray[np.float64]
Stacked = dict[str, Floats]


def stacked(results: Sequence[Result], protocol: str) -> Stacked:
    """Stack the values of all seeds, (S, R, M), by category."""
    categories = results[0].values[protocol]
    return {c: np.stack([result.values[protocol][c] for result in results]) for c in categories}


def one_metric(results: Sequence[Result], metric: str) -> Stacked:
    """Stack one metric of all seeds under the headline's protocol, (S, R, 1), by category."""
    first = results[0]
    place = first.names.index(metric)
    whole = stacked(results, next(iter(first.values)))
    return {category: values[..., [place]] for category, values in whole.items()}


def lines(
    by_variant: Mapping[str, Sequence[Result]], groups: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Return a row per variant, protocol and metric, the mean over categories.

    `difference` and the columns after it compare with the partner and are missing for the partner
    itself; `p_holm` is adjusted by Holm's method for the number of variants with this partner. All
    variants share the same resamples, so the difference of two resampled means is the resampled
    mean of their paired difference.

    Args:
        by_variant: results in the order of the seeds, which are the same for all variants.
        groups: labels of the variants paired with each partner, including its own, by its label.
    """
    first = by_variant[next(iter(groups))][0]
    shown = [name for name in SHOWN if name in first.names]
    places = [first.names.index(name) for name in shown]
    found: dict[str, list[tuple[Any, ...]]] = {partner: [] for partner in groups}
    for protocol, rows in first.clusters.items():
        values = {v: stacked(results, protocol) for v, results in by_variant.items()}
        sides = [
            {c: np.concatenate([values[v][c][..., places] for v in labels], axis=2) for c in rows}
            for labels in groups.values()
        ]
        drawn = bootstrap.mean_draws(sides, rows, RESAMPLES, SEED)
        for (partner, labels), side, own in zip(groups.items(), sides, drawn, strict=True):
            shape = (len(labels), len(shown))
            means = bootstrap.means(side, rows).reshape(shape)
            for m, v, numbers in _paired(means, own.reshape(-1, *shape), labels.index(partner)):
                found[partner].append((labels[v], protocol, shown[m], *numbers))
    table = pd.DataFrame([row for own in found.values() for row in own], columns=SUMMARY_COLUMNS)
    return table.astype(dict.fromkeys(SUMMARY_COLUMNS[3:], float)).round(6)


def _paired(means: Floats, drawn: Floats, base: int) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """Yield indices of metric and variant, and their mean, interval and paired difference.

    Args:
        means: means by variant and metric, (V, M).
        drawn: resampled means, (resamples, V, M).
        base: index of the variant that the others are paired with.
    """
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    gaps = [
        bootstrap.of_draws(means[v] - means[base], drawn[:, v] - drawn[:, base])
        for v in range(len(means))
    ]
    others = [v for v in range(len(means)) if v != base]
    for m in range(means.shape[1]):
        adjusted = bootstrap.holm([gaps[v][m].p for v in others])
        holm = dict(zip(others, adjusted, strict=True))
        for v in range(len(means)):
            gap = (*astuple(gaps[v][m]), holm[v]) if v in holm else (None,) * 5
            yield m, v, (means[v, m], low[v, m], high[v, m], *gap)


def seed_diagnostics(
    variant: Variant, result: Result, reference: Result | None
) -> list[Diagnostic]:
    """Diagnose one run; `reference` is the deterministic head's result with the same seed."""
    against = None
    if reference is not None and reference is not result:
        protocol = next(iter(result.values))
        found = bootstrap.differences(
            stacked([result], protocol),
            stacked([reference], protocol),
            result.clusters[protocol],
            ROUGH,
            SEED,
        )[MEAN]
        against = {
            name: bootstrap.PairedDifference.of(gap)
            for name, gap in zip(result.names, found, strict=True)
        }
    start = "alignment_"
    aligned = {k.removeprefix(start): v for k, v in result.summary.items() if k.startswith(start)}
    return diagnose(variant.params, result.summary, aligned, against)


def run_row(variant: Variant, seed: int, key: str, result: Result) -> dict[str, Any]:
    """Return the row of a run: what was varied, its summary, and its means on val by protocol."""
    row: dict[str, Any] = {"variant": variant.label, "seed": seed, "run": key, **variant.x}
    head, ua = variant.params.head.name, variant.params.ua
    row |= {"head": head, "theta": None, "theta_quantile": None, "n": None}
    row |= METHODS[head].theta_and_n(ua) | result.summary
    if result.failure is not None:
        return row | {"failure": result.failure}
    for protocol in result.values:
        side, rows = stacked([result], protocol), result.clusters[protocol]
        means = bootstrap.means(side, rows)
        row |= {
            f"{protocol}.{name}": round(float(value), 4)
            for name, value in zip(result.names, means, strict=True)
        }
    return row


def mean_cosines(by_variant: Mapping[str, Sequence[Result]]) -> dict[str, dict[str, list[float]]]:
    """Average histograms of cosines over seeds, by variant and kind of pair."""
    return {
        variant: {
            kind: np.mean([result.cosines[kind] for result in results], axis=0).round(6).tolist()
            for kind in results[0].cosines
        }
        for variant, results in by_variant.items()
    }
