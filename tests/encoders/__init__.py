"""Tests of `rau/encoders`."""
