"""Statistics of an epoch: sums accumulated on the device, and their means."""

from typing import Any

import torch
from torch import Tensor

from rau.losses.criterion import Terms

STATISTICS = (
    "loss",
    "base",
    "csu",
    "dr",
    "sigma_source",
    "sigma_target",
    "gradient_norm",
    "csu_added",
    "csu_true",
    "csu_wanted",
    "pairs",
)


def csu_counts(positives: Tensor, base: Tensor, truth: Tensor | None) -> Tensor:
    """Pairs that CSU adds, those of them that are true, and all true pairs it could add: (3,).

    All are (B, B) of 1 and 0; without `truth` the last two are 0.
    """
    added = (positives - base).sum()
    if truth is None:
        return torch.stack([added, torch.zeros_like(added), torch.zeros_like(added)])
    known = (truth * base).sum()
    found = (truth * positives).sum() - known
    return torch.stack([added, found, truth.sum() - known])


@torch.no_grad()
def statistics(
    terms: Terms,
    sigma_source: Tensor,
    sigma_target: Tensor,
    gradient_norm: Tensor,
    truth: Tensor | None,
) -> Tensor:
    """The values of `STATISTICS` for one step, (11,), without waiting for the device.

    Args:
        terms: of the step.
        sigma_source, sigma_target: norms of sigma, (B,).
        gradient_norm: a scalar.
        truth: pairs that are true, (B, B) of 1 and 0; None where not known or not wanted.
    """
    base = terms.base_positives
    rows = len(base)
    losses = rows * torch.stack([terms.total, terms.base, terms.csu, terms.dr]).detach()
    others = torch.stack([sigma_source.sum(), sigma_target.sum(), gradient_norm])
    pairs = (rows * rows - base.sum())[None]
    return torch.cat([losses, others, csu_counts(terms.positives, base, truth), pairs])


def summary(
    values: dict[str, float], queries: int, steps: int, truth_known: bool
) -> dict[str, Any]:
    """Means of an epoch: losses and sigma per query, gradient norm per step, rates of CSU."""
    row: dict[str, Any] = {name: values[name] / queries for name in STATISTICS[:6]}
    added, true, wanted = (values[name] for name in ("csu_added", "csu_true", "csu_wanted"))
    row["gradient_norm"] = values["gradient_norm"] / steps
    row["csu_added_per_row"] = added / queries
    row["csu_share"] = added / values["pairs"] if values["pairs"] else None
    row["csu_precision"] = true / added if truth_known and added else None
    row["csu_recall"] = true / wanted if truth_known and wanted else None
    return row


def summary_names() -> list[str]:
    """Keys of an epoch's row, without the holdout's."""
    nothing = dict.fromkeys(STATISTICS, 0.0)
    return [*summary(nothing, 1, 1, False), "temperature", "lr"]
