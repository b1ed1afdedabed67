"""Engines run artifacts: one runtime a file, all behind the protocol in ``base``."""
