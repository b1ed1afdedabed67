"""Text that is no Unicode: half of a surrogate pair, or a byte that is no UTF-8, becomes U+FFFD.

Python brings both in as lone surrogates: JSON may hold half a pair (RFC 8259, section 8.2), and
arguments and names of files have their undecodable bytes as surrogates (PEP 383). No encoder takes
those, so that one in a prompt would end a worker. What carries text to an engine, a database or a
document cleans it when it is made; a path is left as it is, for it names a file.
"""

from __future__ import annotations


def well_formed(text: str) -> str:
    """Return a text that every encoder takes; what was well formed comes back as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        # By UTF-16, so that two halves that belong together become the character that they mean.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def clean(thing: object, *fields: str) -> None:
    """Make texts of a frozen dataclass well formed, from its ``__post_init__``."""
    for field in fields:
        object.__setattr__(thing, field, well_formed(getattr(thing, field)))
