"""The chat without a screen, used by ``tui`` and ``run``. Knows no Textual, never prints.

``session`` is what a user can do. It hands ``tasks`` to a thread or does them at once; those are
``operations`` on the one engine of ``engine_slot``, whose answers ``answer`` writes. What is shown
is ``status`` and the rows of the conversation; ``commands`` are the slash commands as data.
"""
