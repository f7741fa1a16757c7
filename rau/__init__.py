"""Composed image retrieval with an uncertainty-augmented head (arXiv 2308.08131)."""

__version__ = "0.1.0"
