"""Tests of `rau/studies`."""
