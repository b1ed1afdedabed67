"""The chat without a screen: conversation, queue, engine slot, answer, context policy, commands.

The terminal interface, ``pitool run`` and the server stand on it. Knows no Textual, never prints.
"""
