"""Tests of `rau.datasets.garments`."""
