"""Tests of `rau/training`."""
