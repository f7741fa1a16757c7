"""Results by kinds of queries: by what the caption says, and by how many images answer it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rau.evaluation import bootstrap
from rau.retrieval.tasks import Task
from rau.studies.plan import Variant
from rau.studies.runs import Result, Trained
from rau.studies.summary import one_metric

RESAMPLES = 10_000
# Captions, by what they say together.
KINDS = ("one change", "two changes", "vague")
# Upper ends of the groups of queries by their number of true answers.
ANSWERS = (1, 3, 10)
_LINK = re.compile(r" and also | and | but |, ")
_COMPARED = re.compile(r"\b(more|less|\w{2,}er)\b")
_NO_COMPARISON = re.compile(
    r"\b(neither|other|another|either|under|over|leather|collar\w*|flower\w*)\b"
)
COLUMNS = ["variant", "group", "queries", "mean", "low", "high"]
COLUMNS += ["difference", "difference_low", "difference_high", "p"]


def caption_kind(captions: Sequence[str]) -> int:
    """Place in `KINDS`: vague where all phrases only compare; two where a caption has two."""
    phrases = [_LINK.split(text.lower()) for text in captions if text.strip()]
    flat = [_NO_COMPARISON.sub("", phrase) for own in phrases for phrase in own]
    if flat and all(_COMPARED.search(phrase) for phrase in flat):
        return 2
    return int(any(len(own) > 1 for own in phrases))


def kinds(trained: Trained) -> Mapping[str, NDArray[Any]]:
    """A measure: `caption` and `answers` of the measured rows, by category, (R,).

    `caption` is a place in `KINDS`; `answers` is the number of true answers, -1 where unknown.
    """
    found: dict[str, NDArray[Any]] = {}
    captions = {query["query_id"]: query["captions"] for query in trained.data.queries}
    for task in trained.data.tasks(trained.protocol):
        kept = measured_rows(task, trained)
        said = np.array([caption_kind(captions[name]) for name in task.query_ids], dtype=np.int64)
        answers = np.full(len(said), -1)
        if task.relevant is not None:
            answers = (task.relevant >= 0).sum(1)
        found[f"caption/{task.category}"] = said[kept]
        found[f"answers/{task.category}"] = answers[kept]
    return found


def measured_rows(task: Task, trained: Trained) -> NDArray[np.bool_]:
    """Which rows of a task have metrics in the result."""
    leave_out = trained.params.evaluate.unusable == "leave_out"
    return task.usable if leave_out else np.full(len(task.clusters), True)


def masks(result: Result) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Groups of a result's rows: for each, which rows of a category belong to it."""
    categories = list(next(iter(result.values.values())))
    said, count = (
        {c: result.extra[f"kinds/{name}/{c}"] for c in categories}
        for name in ("caption", "answers")
    )
    found = {kind: {c: said[c] == place for c in categories} for place, kind in enumerate(KINDS)}
    least = 0
    for most in (*ANSWERS, np.inf):
        name = f"over {least} true answers" if most == np.inf else _span(least + 1, int(most))
        found[name] = {c: (count[c] > least) & (count[c] <= most) for c in categories}
        least = int(min(most, 10**9))
    return {name: own for name, own in found.items() if any(rows.any() for rows in own.values())}


def _span(first: int, last: int) -> str:
    return f"{last} true answer" if first == last == 1 else f"{first} to {last} true answers"


def table(
    variants: Sequence[Variant],
    results: Mapping[str, Sequence[Result]],
    reference: str,
    metric: str,
) -> pd.DataFrame:
    """A metric of every variant in every group of queries, under the headline's protocol.

    Means over seeds and categories with 95 % intervals, and paired differences to the partner, by
    bootstrap over queries and seeds; `p` is not adjusted.
    """
    rows = []
    for one in variants:
        partner = one.partner or reference
        for group, own in masks(results[one.label][0]).items():
            ours, clusters = part(results[one.label], own, metric)
            options = clusters, RESAMPLES, bootstrap.SEED
            low, high = bootstrap.intervals(ours, *options)[bootstrap.MEAN]
            gap = [np.nan] * 4
            if partner != one.label:
                theirs, _ = part(results[partner], own, metric)
                (found,) = bootstrap.differences(ours, theirs, *options)[bootstrap.MEAN]
                gap = [found.value, found.low, found.high, found.p]
            count = sum(len(np.unique(c)) for c in clusters.values())
            mean = bootstrap.means(ours, clusters)[0]
            rows.append((one.label, group, count, mean, low[0], high[0], *gap))
    return pd.DataFrame(rows, columns=COLUMNS)


def part(
    results: Sequence[Result], rows: Mapping[str, NDArray[np.bool_]], metric: str
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.int64]]]:
    """One metric of some rows, (S, R, 1), and the rows' queries, by category that has any."""
    values, clusters = one_metric(results, metric), next(iter(results[0].clusters.values()))
    there = [category for category in values if rows[category].any()]
    return (
        {c: values[c][:, rows[c]] for c in there},
        {c: clusters[c][rows[c]] for c in there},
    )
