"""Conversations, the database that stores them, their exports, and saved prefills.

Owns what the chat stores on disk. Never draws anything and never runs an engine.
"""
