"""Benchmarks: what the code needs beside what the hardware would need."""
