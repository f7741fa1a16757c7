"""Tests of `rau/datasets`."""
