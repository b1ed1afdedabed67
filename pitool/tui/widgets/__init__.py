"""Widgets: each shows one thing it is given; none runs a model or changes the session."""
