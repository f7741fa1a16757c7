"""The head's own random numbers."""

import pytest
import torch

from rau.nn.noise import Noise


@pytest.mark.parametrize("share", [0.0001, 0.3, 0.5, 0.9, 1.0])
def test_dropout_keeps_its_share_and_the_mean(share: float) -> None:
    torch.manual_seed(0)
    factors = Noise().keep(torch.empty(1000, 999), share)
    kept = (factors > 0).float().mean().item()
    assert kept == pytest.approx(share, abs=4 * (share * (1 - share) / 999_000) ** 0.5 + 1e-5)
    assert factors.max().item() == pytest.approx(1 / share, rel=0.2)
    assert factors.mean().item() == pytest.approx(1, rel=0.5 if share < 0.01 else 0.01)
