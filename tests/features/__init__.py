"""Tests of `rau/features`."""
