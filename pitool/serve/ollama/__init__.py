"""Ollama's interface: what Home Assistant, oterm and its own client ask."""
