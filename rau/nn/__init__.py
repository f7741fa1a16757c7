"""Building blocks that losses and models share: random numbers, dropout, Gaussians."""
