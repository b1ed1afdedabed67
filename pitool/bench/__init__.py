"""Measures an engine: what a test is, how often it runs, and how its results are judged."""
