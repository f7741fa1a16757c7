"""Benchmarks: time and memory of the library, compared to the minimal work for the same result."""
