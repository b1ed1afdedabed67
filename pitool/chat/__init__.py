"""The chat without a screen: what ``tui`` and ``run`` stand on. Knows no Textual, never prints.

``session`` is what a user can do. It hands ``tasks`` to a thread or does them at once; those are
``operations`` on the one engine of ``engine_slot``, whose answers ``answer`` writes. What is shown
is ``status`` and the rows of the conversation; ``commands`` are the slash commands as data.
"""
