"""Benchmarks: stores of any size, and whole commands measured side by side."""
