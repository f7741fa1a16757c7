"""How far apart two diagonal Gaussians are, in closed form: the choices of `ua.dr`.

All take Gaussians of the same shape, (..., d), compute in float32 at least and return (...). With
mu, sigma of the left one and nu, tau of the right one, sums over the d dimensions:

* wasserstein: sum (mu - nu)^2 + (sigma - tau)^2, the squared 2-Wasserstein distance
* means: sum (mu - nu)^2, which reads no variance
* kl: 1/2 sum (log tau^2/sigma^2 + (sigma^2 + (mu - nu)^2)/tau^2 - 1), from left to right
* jeffreys: kl in both directions, added
* bhattacharyya: sum (mu - nu)^2/(4 v) + 1/2 log(v/(2 sigma tau)) with v = sigma^2 + tau^2
* mmd: squared maximum mean discrepancy of the kernel exp(-|x - y|^2/2)
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from rau.nn.gaussian import Gaussian, at_least_float32, squared_distance

Divergence = Callable[[Gaussian, Gaussian], Tensor]


def wasserstein(left: Gaussian, right: Gaussian) -> Tensor:
    """Squared 2-Wasserstein distance (Dowson and Landau 1982, equation 16)."""
    return left.wasserstein2(right)


def means(left: Gaussian, right: Gaussian) -> Tensor:
    """Squared distance of the means."""
    return squared_distance(left.mean, right.mean)


def kl(left: Gaussian, right: Gaussian) -> Tensor:
    """Kullback-Leibler divergence of the right one from the left one."""
    gap, own, other = _widened(left, right)
    # Ratios of variances by their logarithms, which do not overflow before they must.
    terms = other - own + (own - other).exp() + gap.square() * (-other).exp() - 1
    return terms.sum(-1) / 2


def jeffreys(left: Gaussian, right: Gaussian) -> Tensor:
    """The sum of both Kullback-Leibler divergences (Jeffreys 1946)."""
    return kl(left, right) + kl(right, left)


def bhattacharyya(left: Gaussian, right: Gaussian) -> Tensor:
    """Bhattacharyya distance, -log of the overlap integral of sqrt(p q) (Kailath 1967)."""
    gap, own, other = _widened(left, right)
    both = torch.logaddexp(own, other)
    terms = gap.square() * (-both).exp() / 4 + (both - (own + other) / 2 - math.log(2)) / 2
    return terms.sum(-1)


def mmd(left: Gaussian, right: Gaussian) -> Tensor:
    """Squared maximum mean discrepancy (Gretton et al. 2012, lemma 6) of a Gaussian kernel.

    The kernel's width is 1, the norm of a mean.
    """
    gap, own, other = _widened(left, right)
    none = torch.zeros_like(gap)
    return (
        _kernel_mean(none, own, own)
        + _kernel_mean(none, other, other)
        - 2 * _kernel_mean(gap, own, other)
    )


def _kernel_mean(gap: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """Mean of exp(-|x - y|^2 / 2) over x and y of two Gaussians, (...)."""
    width = 1 + own.exp() + other.exp()
    return (-(gap.square() / width + width.log()).sum(-1) / 2).exp()


def _widened(left: Gaussian, right: Gaussian) -> tuple[Tensor, Tensor, Tensor]:
    """The difference of the means and both log variances."""
    gap = at_least_float32(left.mean) - at_least_float32(right.mean)
    return gap, at_least_float32(left.log_var), at_least_float32(right.log_var)


DIVERGENCES: Mapping[str, Divergence] = {
    "wasserstein": wasserstein,
    "kl": kl,
    "jeffreys": jeffreys,
    "bhattacharyya": bhattacharyya,
    "mmd": mmd,
    "means": means,
}
