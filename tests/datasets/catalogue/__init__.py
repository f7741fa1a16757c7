"""Tests of `rau.datasets.catalogue`."""
