"""Benchmarks against peers: each prints ratios from one run, its last stdout line is JSON."""
