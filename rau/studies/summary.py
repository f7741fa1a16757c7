"""Tables of a study: a row a run, and means with intervals and paired differences a variant."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rau import bootstrap
from rau.bootstrap import MEAN
from rau.params import UaParams
from rau.signatures import diagnose
from rau.studies.plan import Variant
from rau.studies.runs import Result

SEED = 0
RESAMPLES = 2000
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
Stacked = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Line:
    """One metric of one variant under one protocol, the mean over categories.

    `difference` and what follows are against the study's reference, None for itself; `p_holm` is
    adjusted for the number of variants.
    """

    variant: str
    protocol: str
    metric: str
    mean: float
    low: float
    high: float
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p: float | None
    p_holm: float | None


def protocols(result: Result) -> list[str]:
    """Names of the protocols that a run was measured under."""
    return list(dict.fromkeys(key.split("/")[0] for key in result.values))


def stacked(results: Sequence[Result], protocol: str) -> Stacked:
    """Values of all seeds, (S, R, M), by category."""
    start = f"{protocol}/"
    return {
        key.removeprefix(start): np.stack([result.values[key] for result in results])
        for key in results[0].values
        if key.startswith(start)
    }


def clusters(result: Result, protocol: str) -> dict[str, NDArray[np.int64]]:
    """Number of the query of each row, by category."""
    start = f"{protocol}/"
    return {k.removeprefix(start): v for k, v in result.clusters.items() if k.startswith(start)}


def lines(by_variant: Mapping[str, Sequence[Result]], reference: str) -> list[Line]:
    """Every metric of every variant under every protocol.

    Args:
        by_variant: results in the order of their seeds, which are the same for all.
        reference: the variant that the others are paired with.
    """
    first = by_variant[reference][0]
    names = first.names
    shown = [name for name in SHOWN if name in names]
    found: list[Line] = []
    for protocol in protocols(first):
        rows = clusters(first, protocol)
        sides = {v: stacked(results, protocol) for v, results in by_variant.items()}
        ends = {
            v: bootstrap.intervals(side, rows, RESAMPLES, SEED)[MEAN] for v, side in sides.items()
        }
        gaps = {
            v: bootstrap.differences(side, sides[reference], rows, RESAMPLES, SEED)[MEAN]
            for v, side in sides.items()
            if v != reference
        }
        for metric in shown:
            place = names.index(metric)
            adjusted = dict(
                zip(gaps, bootstrap.holm([gap[place].p for gap in gaps.values()]), strict=True)
            )
            for variant, side in sides.items():
                gap = gaps[variant][place] if variant in gaps else None
                found.append(
                    Line(
                        variant,
                        protocol,
                        metric,
                        float(bootstrap.means(side, rows)[place]),
                        float(ends[variant][0][place]),
                        float(ends[variant][1][place]),
                        gap.value if gap else None,
                        gap.low if gap else None,
                        gap.high if gap else None,
                        gap.p if gap else None,
                        adjusted[variant] if gap else None,
                    )
                )
    return found


def seed_signatures(
    variant: Variant, result: Result, reference: Result | None
) -> list[dict[str, str]]:
    """The signatures of one run; `reference` is the deterministic head's of the same seed."""
    against = None
    if reference is not None and reference is not result:
        protocol = protocols(result)[0]
        found = bootstrap.differences(
            stacked([result], protocol),
            stacked([reference], protocol),
            clusters(result, protocol),
            RESAMPLES // 4,
            SEED,
        )[MEAN]
        against = {
            name: bootstrap.as_dict(gap) for name, gap in zip(result.names, found, strict=True)
        }
    start = "alignment_"
    aligned = {k.removeprefix(start): v for k, v in result.summary.items() if k.startswith(start)}
    ua: UaParams = variant.params.ua
    return [one.as_dict() for one in diagnose(ua, result.summary, aligned, against)]


def run_row(variant: Variant, seed: int, key: str, result: Result) -> dict[str, Any]:
    """One run as a row: what varied, what it came to, and val's means by protocol."""
    row: dict[str, Any] = {"variant": variant.label, "seed": seed, "run": key, **variant.x}
    row |= {"head": variant.params.head.name, "theta": variant.params.ua.theta}
    row |= {"theta_quantile": variant.params.ua.theta_quantile, "n": variant.params.ua.n}
    row |= result.summary
    for protocol in protocols(result):
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
    """JSON-able, rounded to four places."""
    return [
        {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(line).items()}
        for line in found
    ]
