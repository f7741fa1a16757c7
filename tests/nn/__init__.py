"""Tests of `rau/nn`."""
