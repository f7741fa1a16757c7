"""Tests of `rau.search`."""
