"""Evidential classification of hits: a network that outputs evidence for a hit and for a miss.

The evidence parametrises a Beta distribution over the probability of a hit. The mean of the
distribution is the predicted probability; the total evidence is the certainty of the network
(Sensoy et al. 2018, arXiv 1806.01768, equations 2 to 5, for two classes).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float64]
HIDDEN, STEPS, RATE = 32, 150, 1e-2
# Steps over which the weight of the regularisation increases to one.
ANNEALING = 75


@dataclass(frozen=True)
class Evidential:
    """A fitted network.

    Attributes:
        mean, scale: mean and standard deviation of the inputs it was fitted on, (D,) each.
    """

    network: nn.Module
    mean: Tensor
    scale: Tensor

    def __call__(self, rows: Floats) -> tuple[Floats, Floats]:
        """Probability of a hit and total evidence, (Q,) each, for inputs (Q, D)."""
        with torch.no_grad():
            hit, miss = self._concentrations(torch.from_numpy(rows))
        total = hit + miss
        return np.asarray((hit / total).numpy()), np.asarray((total - 2).numpy())

    def _concentrations(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of the Beta distributions: evidence plus one."""
        found = nn.functional.softplus(self.network((rows - self.mean) / self.scale)) + 1
        return found[:, 0], found[:, 1]

    def loss(self, rows: Tensor, hits: Tensor, weight: float) -> Tensor:
        """Expected squared error, summed over both classes, plus a penalty on evidence for the
        wrong class (equation 5).

        Args:
            rows: inputs (Q, D).
            hits: zero or one, (Q,).
            weight: weight of the divergence from the uniform distribution.
        """
        hit, miss = self._concentrations(rows)
        total = hit + miss
        mean = hit / total
        score = 2 * ((hits - mean) ** 2 + mean * (1 - mean) / (total + 1))
        wrong = torch.where(hits > 0, miss, hit)
        divergence = wrong.log() + 1 / wrong - 1  # Of Beta(1, wrong).
        return (score + weight * divergence).mean()


def fit(rows: Floats, hits: Floats, decay: float) -> Evidential:
    """Fit a network to inputs (Q, D) and hits (Q,), deterministically.

    Args:
        decay: weight decay of AdamW.
    """
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        network = nn.Sequential(
            nn.Linear(rows.shape[1], HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2)
        ).double()
    inputs, labels = torch.from_numpy(rows), torch.from_numpy(hits)
    model = Evidential(network, inputs.mean(0), inputs.std(0).clamp(min=1e-9))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=decay)
    for step in range(STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(model.loss(inputs, labels, min(1.0, step / ANNEALING)))
        optimizer.step()
    return model
