"""Whether the distributions of pairs lie nearer than those of negatives, and how cosines spread."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rau.models.head import ComposedHead
from rau.nn.gaussian import Gaussian, PathOutput
from rau.retrieval.feature_set import FeatureSet
from rau.retrieval.tasks import Task

Floats = NDArray[np.float64]


def outputs(
    head: ComposedHead, task: Task, features: FeatureSet
) -> tuple[PathOutput, PathOutput, Tensor]:
    """Both paths for the usable rows of a task, and the rows' targets as places, (B,)."""
    rows = torch.from_numpy(np.flatnonzero(task.usable))
    target = torch.from_numpy(task.target)[rows]
    device = features.device
    with head.evaluating():
        source = head.forward_source(
            features.image_rows(torch.from_numpy(task.reference)[rows].to(device)),
            features.text_rows(torch.from_numpy(task.text)[rows, 0].to(device)),
        )
        goal = head.forward_target(
            features.image_rows(torch.from_numpy(task.gallery)[target].to(device))
        )
    return source, goal, target.to(device)


def gaussian(output: PathOutput) -> Gaussian:
    """The last block's; without blocks a point with next to no variance."""
    if output.blocks:
        return output.blocks[-1]
    return Gaussian(output.mean, torch.full_like(output.mean, -torch.inf))


def measure(
    head: ComposedHead, tasks: Sequence[Task], features: FeatureSet
) -> dict[str, float | None]:
    """Squared 2-Wasserstein distance of pairs and of negatives, on queries not trained on.

    A query's negative is the target of another query of its category.

    Returns:
        `pairs` and `negatives`, means; `closer`, the share of queries nearer to their target than
        to their negative; `cosine_pairs` and `cosine_negatives`, means. None where no query has a
        negative.
    """
    columns: list[Tensor] = []
    for task in tasks:
        source, goal, target = outputs(head, task, features)
        # Half-way round: far from the query's own pool, where queries are listed by pool.
        shift = max(1, len(target) // 2)
        other = target.roll(shift) != target
        left, right = gaussian(source), gaussian(goal)
        moved = Gaussian(right.mean.roll(shift, 0), right.log_var.roll(shift, 0))
        values = [
            left.wasserstein2(right),
            left.wasserstein2(moved),
            (left.mean * right.mean).sum(-1),
            (left.mean * moved.mean).sum(-1),
        ]
        columns.append(torch.stack(values)[:, other])
    found = torch.cat(columns, dim=1).cpu().double()
    names = ("pairs", "negatives", "cosine_pairs", "cosine_negatives")
    if found.shape[1] == 0:
        return dict.fromkeys([*names, "closer"])
    result: dict[str, float | None] = dict(zip(names, found.mean(1).tolist(), strict=True))
    return result | {"closer": (found[0] < found[1]).double().mean().item()}


def cosine_histogram(
    head: ComposedHead, tasks: Sequence[Task], features: FeatureSet, edges: Floats
) -> dict[str, Floats]:
    """How cosines of query and image means spread: shares of `edges`' bins, by kind of pair.

    `pairs` are queries with their targets, `others` all queries with all other targets of their
    category, `true` those of the others that answer the query (empty where that is not known).
    """
    counts = {name: np.zeros(len(edges) - 1) for name in ("pairs", "others", "true")}
    for task in tasks:
        source, goal, target = outputs(head, task, features)
        cosines = (source.mean @ goal.mean.T).float().cpu().numpy()
        own = (target[:, None] == target[None]).cpu().numpy()
        counts["pairs"] += np.histogram(cosines[own], edges)[0]
        counts["others"] += np.histogram(cosines[~own], edges)[0]
        if task.relevant is not None:
            rows = np.flatnonzero(task.usable)
            places = target.cpu().numpy()
            true = np.array([np.isin(places, task.relevant[row]) for row in rows])
            counts["true"] += np.histogram(cosines[true & ~own], edges)[0]
    return {name: count / max(1.0, count.sum()) for name, count in counts.items()}
