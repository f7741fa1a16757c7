"""Stages: `python -m pipeline.<stage>`, each a thin command over `rau`."""
