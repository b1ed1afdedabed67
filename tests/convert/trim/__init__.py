"""Tests of cut vocabularies."""
