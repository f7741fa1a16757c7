"""Tests of `rau.search.engines`."""
