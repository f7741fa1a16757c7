"""Triplets, holdout, epochs, optimisation and model selection."""
