"""Tests of `rau/retrieval`."""
