"""Measures an engine: what a test is, how often it runs, and what is made of it."""
