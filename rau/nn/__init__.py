"""Building blocks that losses and models share: layers, random numbers, Gaussians."""
