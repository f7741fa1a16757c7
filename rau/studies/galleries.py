"""A measure of studies: val ranked in galleries that grow by images of no query's."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rau.retrieval.metrics import per_query
from rau.retrieval.tasks import Task, run
from rau.studies.breakdown import measured_rows
from rau.studies.runs import Trained

# Decides what is measured, beside what decides a head.
SOURCES = ("studies/breakdown.py",)
# The size of a gallery over its own.
FACTORS = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
METRICS = ("mean_of_r10_r50", "map")
SEED = 0


def growing(trained: Trained) -> Mapping[str, NDArray[Any]]:
    """Metrics of the val rows among more and more distractors, under the headline's protocol.

    Distractors are the category's images that lie in no gallery, in an order drawn once; one that
    would answer a query counts as wrong, for nobody knows it.

    Returns:
        `factors` (F,), those of `FACTORS` that the data set has images for; by category `images`
        (F,), the gallery's size, and `values` (F, R, 2), `METRICS`, NaN where one is not known.
    """
    tasks = trained.data.tasks(trained.protocol)
    others = [_distractors(task, trained) for task in tasks]
    most = min(1 + len(own) / len(task.gallery) for own, task in zip(others, tasks, strict=True))
    factors = [factor for factor in FACTORS if factor <= most]
    found: dict[str, NDArray[Any]] = {"factors": np.array(factors)}
    for task, own in zip(tasks, others, strict=True):
        kept, values, sizes = measured_rows(task, trained), [], []
        for factor in factors:
            count = round((factor - 1) * len(task.gallery))
            larger = _with(task, own[:count])
            ranking = run(larger, trained.head, trained.data.features, 1).ranking
            metrics = per_query(ranking, task.usable)
            unknown = np.full(len(task.clusters), np.nan)
            columns = [metrics.get(name, unknown)[kept] for name in METRICS]
            values.append(np.stack(columns, axis=1))
            sizes.append(len(larger.gallery))
        found[f"values/{task.category}"] = np.stack(values).astype(np.float32)
        found[f"images/{task.category}"] = np.array(sizes)
    return found


def _distractors(task: Task, trained: Trained) -> NDArray[np.int64]:
    """Rows of the image features, in the order in which they are added."""
    data = trained.data
    taken = {row["image_id"] for row in data.galleries}
    index = data.features.images.index
    listed = sorted(name for name in data.listed.get(task.category, ()) if name not in taken)
    rows = np.array([index[name] for name in listed if name in index], dtype=np.int64)
    return np.random.default_rng(SEED).permutation(rows)


def _with(task: Task, rows: NDArray[np.int64]) -> Task:
    """The task with more images behind its own, whose places stay."""
    names = [f"distractor {row}" for row in rows]
    return replace(
        task,
        gallery=np.concatenate([task.gallery, rows]),
        gallery_ids=[*task.gallery_ids, *names],
    )
