"""Rows of a study's tables: one per run, and per variant its means and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rau.evaluation import bootstrap
from rau.evaluation.bootstrap import MEAN
from rau.evaluation.diagnostics import Diagnostic, diagnose
from rau.studies.plan import SHOWN, Variant
from rau.studies.runs import Result

SEED = 0
# Enough for a p-value adjusted for sixteen variants to fall below 0.001.
RESAMPLES = 40_000
ROUGH = 1000
Stacked = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Line:
    """One metric of one variant under one protocol, the mean over categories.

    `difference` and what follows are against the study's reference, None for itself; `p_holm` is
    adjusted by Holm's method for the number of variants.
    """

    variant: str
    protocol: str
    metric: str
    mean: float
    low: float
    high: float
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p: float | None = None
    p_holm: float | None = None


def stacked(results: Sequence[Result], protocol: str) -> Stacked:
    """Values of all seeds, (S, R, M), by category."""
    start = f"{protocol}/"
    return {
        key.removeprefix(start): np.stack([result.values[key] for result in results])
        for key in results[0].values
        if key.startswith(start)
    }


def clusters(result: Result, protocol: str) -> dict[str, NDArray[np.int64]]:
    """Index of the query of each row, by category."""
    start = f"{protocol}/"
    return {k.removeprefix(start): v for k, v in result.clusters.items() if k.startswith(start)}


def lines(by_variant: Mapping[str, Sequence[Result]], reference: str) -> list[Line]:
    """Every metric of every variant under every protocol.

    All variants are resampled alike: the difference of two resampled means is then the resampled
    mean of their paired difference.

    Args:
        by_variant: results in the order of their seeds, which are the same for all.
        reference: label of the variant that the others are paired with.
    """
    first = by_variant[reference][0]
    shown = [name for name in SHOWN if name in first.names]
    places = [first.names.index(name) for name in shown]
    found: list[Line] = []
    for protocol in first.protocols:
        rows = clusters(first, protocol)
        sides = [stacked(results, protocol) for results in by_variant.values()]
        together = {c: np.concatenate([s[c][..., places] for s in sides], axis=2) for c in rows}
        shape = (len(sides), len(shown))
        means = bootstrap.means(together, rows).reshape(shape)
        drawn = bootstrap.draws(together, rows, RESAMPLES, SEED)[MEAN].reshape(-1, *shape)
        base = list(by_variant).index(reference)
        gaps = {
            v: bootstrap.of_draws(means[v] - means[base], drawn[:, v] - drawn[:, base])
            for v in range(len(sides))
            if v != base
        }
        ends = np.quantile(drawn, [0.025, 0.975], axis=0)
        for m, metric in enumerate(shown):
            adjusted = dict(zip(gaps, bootstrap.holm([g[m].p for g in gaps.values()]), strict=True))
            for v, variant in enumerate(by_variant):
                mean, low, high = (float(x) for x in (means[v, m], *ends[:, v, m]))
                line = Line(variant, protocol, metric, mean, low, high)
                if v in gaps:
                    gap = gaps[v][m]
                    line = replace(
                        line,
                        difference=gap.value,
                        difference_low=gap.low,
                        difference_high=gap.high,
                        p=gap.p,
                        p_holm=adjusted[v],
                    )
                found.append(line)
    return found


def seed_diagnostics(
    variant: Variant, result: Result, reference: Result | None
) -> list[Diagnostic]:
    """The diagnostics of one run; `reference` is the deterministic head's of the same seed."""
    against = None
    if reference is not None and reference is not result:
        protocol = result.protocols[0]
        found = bootstrap.differences(
            stacked([result], protocol),
            stacked([reference], protocol),
            clusters(result, protocol),
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
    """One run as a row: what varied, its summary, and the means on val by protocol."""
    row: dict[str, Any] = {"variant": variant.label, "seed": seed, "run": key, **variant.x}
    row |= {"head": variant.params.head.name, "theta": variant.params.ua.theta}
    row |= {"theta_quantile": variant.params.ua.theta_quantile, "n": variant.params.ua.n}
    row |= result.summary
    for protocol in result.protocols:
        side, rows = stacked([result], protocol), clusters(result, protocol)
        means = bootstrap.means(side, rows)
        row |= {
            f"{protocol}.{name}": round(float(value), 4)
            for name, value in zip(result.names, means, strict=True)
        }
    return row


def mean_cosines(by_variant: Mapping[str, Sequence[Result]]) -> dict[str, dict[str, list[float]]]:
    """Histograms of cosines by variant and kind of pair, the mean over seeds."""
    return {
        variant: {
            kind: np.mean([result.cosines[kind] for result in results], axis=0).round(6).tolist()
            for kind in results[0].cosines
        }
        for variant, results in by_variant.items()
    }


def as_rows(found: Sequence[Line]) -> list[dict[str, Any]]:
    """JSON-able, rounded to six places."""
    return [
        {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(line).items()}
        for line in found
    ]
