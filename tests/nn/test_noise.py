"""The head's own random numbers."""

import pytest
import torch

from rau.nn.noise import Noise


@pytest.mark.parametrize("share", [0.0001, 0.3, 0.5, 0.9, 1.0])
def test_dropout_keeps_its_share_and_the_mean(share: float) -> None:
    torch.manual_seed(0)
    factors = Noise().dropout_mask(torch.empty(1000, 999), share)
    kept = (factors > 0).float().mean().item()
    assert kept == pytest.approx(share, abs=4 * (share * (1 - share) / 999_000) ** 0.5 + 1e-5)
    assert factors.max().item() == pytest.approx(1 / share, rel=0.2)
    assert factors.mean().item() == pytest.approx(1, rel=0.5 if share < 0.01 else 0.01)


def test_a_seed_fixes_what_is_drawn() -> None:
    def drawn(seed: int) -> list[torch.Tensor]:
        noise = Noise()
        noise.seed(seed, torch.device("cpu"))
        like = torch.empty(5, 7)
        return [noise.normal(like), noise.normal(like), noise.dropout_mask(like, 0.5)]

    one, again, other = drawn(0), drawn(0), drawn(1)
    for place, value in enumerate(one):
        assert torch.equal(value, again[place])
        assert not torch.equal(value, other[place])
    assert not torch.equal(one[0], one[1])


def test_a_heads_noise_is_its_own() -> None:
    noise, like = Noise(), torch.empty(3)
    noise.seed(0, torch.device("cpu"))
    first = noise.normal(like)
    noise.seed(0, torch.device("cpu"))
    torch.rand(9)  # From the default generator.
    assert torch.equal(noise.normal(like), first)
