"""Tests of `rau.studies.defined`."""
