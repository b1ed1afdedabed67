"""Conversations: the nouns, the database they are kept in, their exports, and saved prefills.

Knows no screen and runs no engine; a chat, a server or a script may use it.
"""
