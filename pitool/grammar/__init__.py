"""Grammars for llama.cpp (GBNF), from JSON Schemas and from parts; standard library only.

A grammar allows what its schema does or less, never more: what cannot be said is refused by name.
"""

from pitool.grammar.rules import Rules
from pitool.grammar.schema import JSON_OBJECT, grammar_of_schema, schema_rule

__all__ = ["JSON_OBJECT", "Rules", "grammar_of_schema", "schema_rule"]
