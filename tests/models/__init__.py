"""Tests of `rau/models`."""
