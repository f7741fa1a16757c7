"""Benchmarks: time and memory of the library, next to the least work that gives the same result."""
