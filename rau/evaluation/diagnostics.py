"""Failures of training with uncertainty, as the RAU paper describes them (arXiv 2308.08131).

Each diagnostic gives its evidence and the hyperparameter to adjust. The limits are our own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rau.evaluation.bootstrap import PairedDifference
from rau.models.config import is_uncertain
from rau.params import Params, UaParams

# Sigma counts as collapsed below this fraction of its initial value.
COLLAPSED = 0.2
# Minimum fraction of queries nearer to their target than to a negative; chance is one half.
CLOSER_MIN = 0.6
# Limits of the largest gradient norm of an epoch and of the kept epoch's, relative to the first.
EXPLODING, VANISHING = 100.0, 1e-4
# Extra positives per query below which CSU has no effect, and the fraction of all pairs above
# which they are too many.
STARVED, FLOODED = 0.05, 0.2
# Minimum fraction of extra positives that are true, and the number per query above which it is
# tested, if it is known.
PRECISION_MIN, MANY = 0.2, 1.0

Summary = Mapping[str, float | None]
# Differences head - deterministic head by metric.
Against = Mapping[str, PairedDifference]


@dataclass(frozen=True)
class Diagnostic:
    """One diagnosis.

    Attributes:
        name: a short tag.
        evidence: the values it is based on.
        remedy: the hyperparameter to adjust, and in which direction.
    """

    name: str
    evidence: str
    remedy: str


def diagnose(
    params: Params,
    training: Summary,
    alignment: Mapping[str, float | None],
    against: Against | None,
) -> list[Diagnostic]:
    """All diagnostics of a run; an empty list if nothing is wrong.

    Args:
        params: canonical parameters: parts that the method lacks have weight 0.
        training: result of `training.history.summary`.
        alignment: result of `pair_distances.measure` on the holdout.
        against: differences from the deterministic head under one protocol, or None.
    """
    ua = params.ua
    found = [
        _unlearned(training),
        _over_uncertain(ua, against),
        _under_uncertain(params, training, against),
        _misaligned(ua, alignment),
        _gradients(ua, training),
        _csu(ua, training),
    ]
    return [diagnostic for diagnostic in found if diagnostic is not None]


def _threshold(ua: UaParams) -> str:
    """Name of the parameter that sets CSU's threshold."""
    return "ua.theta" if ua.theta_quantile is None else "ua.theta_quantile"


def _show(name: str, found: PairedDifference) -> str:
    if found.interval is None:
        return f"{name} {found.difference:+.2f}"
    low, high = found.interval
    return f"{name} {found.difference:+.2f} [{low:+.2f}, {high:+.2f}]"


def _sign(found: PairedDifference) -> int:
    """1 or -1 if the interval is entirely above or below zero, else 0."""
    if found.interval is None:
        return 0
    low, high = found.interval
    return int(low > 0) - int(high < 0)


def _unlearned(training: Summary) -> Diagnostic | None:
    epoch, epochs = training["epoch"], training["epochs"]
    if epoch != 0 or not epochs:
        return None
    return Diagnostic(
        "nothing learned",
        f"none of {epochs:.0f} epochs was better on the holdout than the weights at the start",
        "raise head.dropout, lower train.lr, or look at the train queries: how many there are, and "
        "whether their targets are right",
    )


def _over_uncertain(ua: UaParams, against: Against | None) -> Diagnostic | None:
    if against is None or not (ua.isu or ua.csu_weight):
        return None
    first, deep = against["recall_at_1"], against["recall_at_50"]
    if not (_sign(first) < 0 < _sign(deep)):
        return None
    parts = ["lower ua.sigma_init"] if ua.isu else []
    parts += [f"lower ua.csu_weight or raise {_threshold(ua)}"] if ua.csu_weight else []
    return Diagnostic(
        "over-uncertainty",
        f"against the deterministic head {_show('R@50', deep)} and {_show('R@1', first)}",
        ", ".join(parts),
    )


def _under_uncertain(
    params: Params, training: Summary, against: Against | None
) -> Diagnostic | None:
    """Detect a collapsed sigma, also for PCME++, which uses its variances without sampling."""
    start = params.ua.sigma_init
    sigmas = [training[f"sigma_{side}"] for side in ("source", "target")]
    known = [sigma for sigma in sigmas if sigma is not None]
    if not is_uncertain(params) or not known or min(known) >= COLLAPSED * start:
        return None
    evidence = f"the norm of sigma fell from {start:g} to {min(known):.4f}"
    if against is not None:
        recalls = [against[f"recall_at_{k}"] for k in (1, 10, 50)]
        if any(_sign(found) for found in recalls):
            return None
        evidence += f", and {_show('R@10', recalls[1])} against the deterministic head"
    return Diagnostic("under-uncertainty", evidence, "raise ua.sigma_init or train.temperature")


def _misaligned(ua: UaParams, alignment: Mapping[str, float | None]) -> Diagnostic | None:
    pairs, negatives, closer = (alignment[k] for k in ("pairs", "negatives", "closer"))
    if pairs is None or negatives is None or closer is None:
        return None
    if pairs < negatives and closer >= CLOSER_MIN:
        return None
    return Diagnostic(
        "misaligned distributions",
        f"mean W2^2 of pairs {pairs:.4f}, of negatives {negatives:.4f}; {100 * closer:.0f} % of "
        "the holdout's queries are nearer to their target",
        "raise ua.dr_weight a little or lower train.lr" if ua.n else "lower train.lr",
    )


def _gradients(ua: UaParams, training: Summary) -> Diagnostic | None:
    names = ("gradient_norm_first", "gradient_norm_max", "gradient_norm")
    first, largest, last = (training[name] for name in names)
    if first is None or largest is None or last is None:
        return None
    evidence = (
        f"gradient norm {first:.3g} in the first epoch, at most {largest:.3g}, {last:.3g} in the "
        "kept one"
    )
    if largest > EXPLODING * first:
        remedy = "lower train.lr" + (" or ua.dr_weight" if ua.dr_weight else "")
        return Diagnostic("exploding gradients", evidence, remedy)
    if last < VANISHING * first:
        return Diagnostic("vanishing gradients", evidence, "raise train.temperature or train.lr")
    return None


def _csu(ua: UaParams, training: Summary) -> Diagnostic | None:
    added, share = training["csu_added_per_row"], training["csu_share"]
    if not ua.csu_weight or added is None or share is None:
        return None
    at = _threshold(ua).removeprefix("ua.")
    evidence = f"{added:.2f} extra positives per query at {at} = {getattr(ua, at):g}"
    if added < STARVED:
        return Diagnostic("CSU starved", evidence, f"lower ua.{at}")
    if share > FLOODED:
        evidence += f", {100 * share:.0f} % of all pairs of a batch"
        return Diagnostic("CSU flooded", evidence, f"raise ua.{at}, or set ua.theta_quantile")
    precision = training["csu_precision"]
    if precision is not None and precision < PRECISION_MIN and added > MANY:
        evidence += f", of which {100 * precision:.0f} % are true"
        return Diagnostic("CSU flooded", evidence, f"raise ua.{at} or lower ua.csu_weight")
    return None
