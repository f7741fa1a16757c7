"""Tests of `rau/report`."""
