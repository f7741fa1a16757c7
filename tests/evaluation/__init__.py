"""Tests of `rau/evaluation`."""
