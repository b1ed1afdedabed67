"""From a repository of the hub to a bundle, on a laptop or on a board.

Needs no host package: the hub's protocol is spoken with the standard library.
"""
