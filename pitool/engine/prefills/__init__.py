"""Saved prefills: KV caches as files, so that a text is not read twice."""
