"""Tests of `rau/losses`."""
