"""The built-in data set: garments drawn by this package, in FashionIQ's layout."""

from rau.datasets.garments.generate import draw_pairs, generate, plan

__all__ = ["draw_pairs", "generate", "plan"]
