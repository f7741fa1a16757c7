"""A measure of studies: how the Gaussians of queries and of their targets lie to each other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rau.nn.gaussian import Gaussian
from rau.retrieval.tasks import Task
from rau.studies.runs import Trained
from rau.training.pair_distances import gaussian, outputs

Arrays = dict[str, NDArray[Any]]
# Bins of squared 2-Wasserstein distances: means are unit vectors, at most 4 apart.
EDGES: NDArray[np.float64] = np.linspace(0, 4, 81)
NUMBERS = (
    "pairs",
    "negatives",
    "closer",
    "overlap",
    "alignment",
    "uniformity_source",
    "uniformity_target",
    "rank_source",
    "rank_target",
    "variance_share",
)
# Queries of the plane, true answers of each and negatives of all that are drawn in it.
DRAWN, ANSWERS, OTHERS = 5, 6, 150


def spread(trained: Trained) -> Mapping[str, NDArray[Any]]:
    """Distances on the val queries of the headline's protocol, with one text each.

    Distances are squared 2-Wasserstein distances. A query's negatives are the targets of the other
    queries of its category, without those that answer it.

    Returns:
        `numbers`, by `NUMBERS`, means over categories: the distance of pairs and of negatives; the
        share of a query's negatives that are farther than its target; the overlap of both
        histograms, from 0 to 1; alignment and uniformity of the means (Wang and Isola 2020,
        arXiv 2005.10242, with alpha = 2 and t = 2); the effective rank of the means (Roy and
        Vetterli 2007); the share of the variances in the distance of pairs.
        `histogram_pairs`, `histogram_negatives`, shares of `EDGES`' bins.
        `sigma_source`, `sigma_target`, mean sigma of each dimension, ascending, (d,).
        `plane_mean` (N, 2), `plane_covariance` (N, 2, 2), `plane_kind` and `plane_query` (N,):
        some queries (kind 0) of the first category with their targets (1), other true answers (2)
        and negatives (3), in the plane of the means' two principal components.
    """
    tasks = trained.data.tasks(trained.protocol)
    rows, counts, sigmas = [], np.zeros((2, len(EDGES) - 1)), []
    plane: Arrays = {}
    for task in tasks:
        source, goal, target = outputs(trained.head, task, trained.data.features)
        left, right = gaussian(source), gaussian(goal)
        distances = _distances(left, right)
        negative = ~_answers(task, target.cpu().numpy())
        pairs = distances.diagonal()
        others = distances[negative]
        own = np.stack([np.histogram(values, EDGES)[0] for values in (pairs, others)])
        counts += own
        farther = np.where(negative, distances > pairs[:, None], False).sum(1)
        share = own / np.maximum(own.sum(1, keepdims=True), 1)
        gap = (left.mean - right.mean).square().sum(-1).double().mean().item()
        rows.append(
            [
                pairs.mean(),
                others.mean(),
                (farther / np.maximum(negative.sum(1), 1)).mean(),
                np.minimum(*share).sum(),
                gap,
                *(_uniformity(side.mean) for side in (left, right)),
                *(_effective_rank(side.mean) for side in (left, right)),
                1 - gap / max(pairs.mean(), 1e-12),
            ]
        )
        sigmas.append([side.sigma.mean(0).double().cpu().numpy() for side in (left, right)])
        plane = plane or _plane(left, right, negative, target.cpu().numpy())
    found = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    by_side = np.sort(np.mean(sigmas, axis=0), axis=1)
    return {
        "numbers": np.mean(rows, axis=0),
        "histogram_pairs": found[0],
        "histogram_negatives": found[1],
        "sigma_source": by_side[0],
        "sigma_target": by_side[1],
        **plane,
    }


def _distances(left: Gaussian, right: Gaussian) -> NDArray[np.float64]:
    """Squared 2-Wasserstein distances of all rows to all rows, (B, B)."""
    found = sum(
        torch.cdist(a.double(), b.double()).square()
        for a, b in ((left.mean, right.mean), (left.sigma, right.sigma))
    )
    return np.asarray(torch.as_tensor(found).cpu().numpy())


def _answers(task: Task, target: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which targets of the rows answer which row, (B, B)."""
    same = target[:, None] == target[None]
    if task.relevant is None:
        return np.asarray(same)
    rows = np.flatnonzero(task.usable)
    return np.asarray(same | np.stack([np.isin(target, task.relevant[row]) for row in rows]))


def _uniformity(means: Tensor) -> float:
    """log of the mean of exp(-2 |x - y|^2) over pairs of different rows."""
    squared = torch.nn.functional.pdist(means.double().cpu()).square()
    return float((-2 * squared).exp().mean().log())


def _effective_rank(means: Tensor) -> float:
    """exp of the entropy of the centred means' singular values, as shares of their sum."""
    values = torch.linalg.svdvals((means - means.mean(0)).double())
    share = values / values.sum().clamp(min=1e-300)
    return float(torch.special.entr(share).sum().exp())


def _plane(
    left: Gaussian, right: Gaussian, negative: NDArray[np.bool_], target: NDArray[np.int64]
) -> Arrays:
    """What is drawn of one category."""
    both = torch.cat([left.mean, right.mean]).double()
    axes = torch.linalg.svd(both - both.mean(0), full_matrices=False).Vh[:2]
    chosen = np.linspace(0, len(target) - 1, min(DRAWN, len(target))).astype(np.int64)
    entries: list[tuple[int, int, Gaussian, int]] = []
    for number, row in enumerate(chosen.tolist()):
        entries += [(0, number, left, row), (1, number, right, row)]
        answers = np.flatnonzero(~negative[row] & (target != target[row]))[:ANSWERS]
        entries += [(2, number, right, int(place)) for place in answers]
    others = np.flatnonzero(negative[chosen].all(0))[:OTHERS]
    entries += [(3, -1, right, int(place)) for place in others]
    means = torch.stack([side.mean[row] for _, _, side, row in entries]).double()
    variances = torch.stack([side.sigma[row] for _, _, side, row in entries]).double().square()
    return {
        "plane_mean": ((means - both.mean(0)) @ axes.T).cpu().numpy(),
        "plane_covariance": torch.einsum("ad,nd,bd->nab", axes, variances, axes).cpu().numpy(),
        "plane_kind": np.array([kind for kind, *_ in entries]),
        "plane_query": np.array([number for _, number, *_ in entries]),
    }
