"""Tests of `rau/download`."""
