"""Names of metrics on pages, and the headline metric in a sentence."""

import re

from rau.evaluation.run_metrics import RunMetrics
from rau.report.numbers import signed

_FIXED = {
    "map": "mAP",
    "mean_of_r10_r50": "mean of R@10 and R@50",
    "mean_of_r5_rs1": "mean of R@5 and Rs@1",
    "r_precision": "R-precision",
}
_CUT = re.compile(r"(subset_recall|recall|map)_at_(\d+)")
_KINDS = {"recall": "R", "subset_recall": "Rs", "map": "mAP"}


def label(metric: str) -> str:
    """The usual short name: R@10 for `recall_at_10`, Rs@1 for the recall within CIRR's subset."""
    if cut := _CUT.fullmatch(metric):
        return f"{_KINDS[cut[1]]}@{cut[2]}"
    return _FIXED.get(metric, metric)


def meaning(metrics: RunMetrics) -> str:
    """The meaning of the headline metric, in a sentence."""
    head = metrics.headline
    values = metrics.protocols[head.protocol]["mean"]
    start = "The target image is"
    if head.metric == "mean_of_r10_r50" and "recall_at_50" in values:
        return (
            f"{start} among the first 10 of the gallery for {values['recall_at_10']:.1f} % of the "
            f"queries and among the first 50 for {values['recall_at_50']:.1f} %; the metric is the "
            "mean of both."
        )
    if head.metric == "mean_of_r5_rs1" and "subset_recall_at_1" in values:
        return (
            f"{start} among the first 5 of the gallery for {values['recall_at_5']:.1f} % of the "
            "queries, and first among the similar images of its image set for "
            f"{values['subset_recall_at_1']:.1f} %; the metric is the mean of both."
        )
    if (cut := _CUT.fullmatch(head.metric)) and cut[1] == "recall":
        return f"{start} among the first {cut[2]} for {head.value:.1f} % of the queries."
    if head.metric.startswith("map"):
        return (
            f"{label(head.metric)}: a list that starts with all correct images scores 100, "
            "a list without any of them 0."
        )
    return f"{label(head.metric)}, in percent."


def verdict(metrics: RunMetrics) -> str:
    """The headline's difference to the deterministic head, in a sentence; empty without one."""
    one = metrics.gain
    if one is None:
        return ""
    gap = round(one.difference, 2)
    where = "above" if gap > 0 else "below"
    text = f"It is {abs(gap):.2f} points {where} the deterministic head"
    if gap == 0:
        text = "It is equal to that of the deterministic head"
    if one.interval is None:
        return f"{text}."
    low, high = one.interval
    text += f" [{signed(low)}, {signed(high)}]"
    if gap == 0:
        return f"{text}."
    if low <= 0 <= high:
        return f"{text}, which is within the sampling variation of the queries."
    return f"{text}, which exceeds the sampling variation of the queries (one seed)."
