"""The terminal interface: the only room that knows Textual.

``session`` owns the engine and the conversation and knows nothing of screens; ``app`` joins it to
the screens, which show its state and never change it but by its methods.
"""
