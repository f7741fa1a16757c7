"""Tests of rau/cli."""
