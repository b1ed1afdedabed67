"""The terminal interface: the only room that knows Textual.

``app`` joins a session to the screens, which are handed a ``Context``, show the session's state and
change it only through its methods.
"""
