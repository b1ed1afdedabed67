"""Keeps web pages out: a browser sends what a page asks for to every address that it reaches.

What a page of another site sends, a browser marks with its Origin. A site that gives its own name
the address of this server (DNS rebinding) is taken for this server's own page, but sends that name
as Host; it has to be a name of the public DNS, which its owner controls.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

# Names that nobody can register: RFC 6761, 6762, 8375, ICANN's .internal; .lan by custom.
LOCAL_ENDINGS = (".localhost", ".local", ".home.arpa", ".internal", ".lan")
ANY = "*"

# An address in brackets, its zone left out, or a name; and a port (RFC 9110, 7.2).
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)(?:%[^\]]*)?\]|([a-z0-9._-]+))(?::\d*)?")


def refusal(
    host: str, origin: str | None, *, key: bool, allowed: Collection[str] = ()
) -> str | None:
    """Return why a request is refused; None for one of a program, or of a page that may ask.

    ``host`` and ``origin`` are its headers, empty and None without; ValueError where one is no
    such header. ``key``: a key is asked for, which no page of others knows: then any name will do.
    ``allowed``: origins of other sites whose pages may ask, ``*`` for all.
    """
    if origin is not None and not may_ask(host, origin, allowed):
        return "web pages of other sites may not send requests; allow one with --origin"
    if not key and host and not _is_local(host):
        return "the Host header is a public name; set PITOOL_API_KEY to serve under it"
    return None


def may_ask(host: str, origin: str, allowed: Collection[str]) -> bool:
    """Tell whether a page of ``origin`` may ask: this server's own, or one that is allowed."""
    return urlsplit(origin).netloc == host or origin in allowed or ANY in allowed


def _is_local(host: str) -> bool:
    """Tell whether a Host is an address, or a name that the public DNS cannot hold."""
    match = _HOST.fullmatch(host.lower())
    if match is None:
        return False
    name = (match[1] or match[2]).rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        own = socket.gethostname().lower()
        return "." not in name or name.endswith(LOCAL_ENDINGS) or name == own
    return True
