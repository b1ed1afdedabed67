"""Conversations, the database that keeps them, their exports, and saved prefills.

Owns what the chat stores on disk. Never draws anything and never runs an engine.
"""
