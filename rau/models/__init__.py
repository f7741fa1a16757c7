"""The head, its fusions and uncertainty blocks, the baselines, and the registry of methods."""
