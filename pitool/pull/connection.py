"""One request to the hub: the token stays with the hub, and a refusal becomes a sentence.

Follows redirects, waits where the hub asks for it, tries again what a bad line cut. Knows nothing
of repositories or models.
"""

from __future__ import annotations

import http.client
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from pitool import __version__
from pitool.errors import BadInput, PitoolError

# Seconds without a byte after which a line counts as cut.
PATIENCE = 30.0
# Tries without any progress, and the seconds before the second one; then twice as long each time.
TRIES = 5
PAUSE = 1.0
# A wait that the hub asks for and that is longer is left to the user.
LONGEST_WAIT = 120.0
TRANSPORT_ERRORS = (OSError, http.client.HTTPException)

sleep: Callable[[float], object] = time.sleep


class Response(Protocol):
    """What an answer is read by."""

    status: int
    headers: Mapping[str, str]

    def read(self, amount: int = ..., /) -> bytes:
        """Return the next bytes, none at the end."""

    def geturl(self) -> str:
        """Return the address that answered, after redirects."""

    def close(self) -> None:
        """End it."""


class Unavailable(BadInput):
    """The hub gives nothing of a repository, whichever file is asked for."""


class Refused(Exception):  # noqa: N818 - its caller says what it means
    """The hub answered with an error; ``code`` is HTTP's, ``word`` the hub's own for it."""

    def __init__(self, code: int, word: str, message: str) -> None:
        self.code, self.word, self.message = code, word, message
        super().__init__(f"HTTP {code}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; the token goes to no other host, and nothing from HTTPS to HTTP."""

    max_redirections = 8

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request for the new address."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if old.scheme == "https" and new.scheme != "https":
            raise PitoolError(
                f"{old.hostname} redirects to an address without encryption ({new.hostname})",
                "try again later, or choose another HF_ENDPOINT",
            )
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        if made is not None and token and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            made.add_unredirected_header("Authorization", token)
        return made


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens HTTP and HTTPS, by the user's proxies, and nothing else."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _Redirects,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


@dataclass(frozen=True, slots=True)
class Connection:
    """The hub at ``endpoint``; ``say`` hears why something is waited for."""

    endpoint: str
    token: str | None
    say: Callable[[str], object]

    def open(self, address: str, *, begin: int = 0, end: int | None = None) -> Response:
        """Return the answer to a GET of an address, or of a path of the hub's.

        ``begin`` and ``end``: of a range in bytes, the end not included. Refused for an error of
        HTTP's that waiting does not mend; BadInput where nobody answers.
        """
        for attempt in range(1, TRIES + 1):
            try:
                return self._open(address, begin, end)
            except urllib.error.HTTPError as error:
                with error:
                    wait = _wait(error, attempt)
                    refused = Refused(
                        error.code,
                        error.headers.get("X-Error-Code", ""),
                        error.headers.get("X-Error-Message", ""),
                    )
                if wait is None or attempt == TRIES:
                    raise refused from None
                if error.code == http.HTTPStatus.TOO_MANY_REQUESTS:
                    self.say(f"the hub asks to wait {round(wait)} seconds")
            except TRANSPORT_ERRORS as error:
                if attempt == TRIES:
                    raise self.unreachable(error) from None
                wait = PAUSE * 2 ** (attempt - 1)
            sleep(wait)
        raise AssertionError  # the last attempt returns or raises

    def _open(self, address: str, begin: int, end: int | None) -> Response:
        url = f"{self.endpoint}{address}" if address.startswith("/") else address
        request = urllib.request.Request(url)  # noqa: S310 - the opener knows HTTP and HTTPS only
        request.add_header("User-Agent", f"pitool/{__version__}")
        if begin or end is not None:
            last = "" if end is None else end - 1
            request.add_header("Range", f"bytes={begin}-{last}")
        if self.token and urlsplit(url).netloc == urlsplit(self.endpoint).netloc:
            # Not redirected: urllib would send it to any host.
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        found: Any = _opener().open(request, timeout=PATIENCE)
        response: Response = found
        return response

    def unreachable(self, error: Exception) -> Unavailable:
        """Return the error of a hub that does not answer, or whose line is cut again and again."""
        why = getattr(error, "reason", None) or error
        if isinstance(why, socket.gaierror):
            why = "its name is not found"
        elif isinstance(why, TimeoutError):
            why = "it does not answer in time"
        elif isinstance(why, OSError):
            why = why.strerror or why
        host = urlsplit(self.endpoint).netloc
        text = str(why) or type(error).__name__
        return Unavailable(
            f"cannot reach {host} ({text})", "check the network, then run the same command again"
        )


def _wait(error: urllib.error.HTTPError, attempt: int) -> float | None:
    """Return the seconds after which an error may have passed; None for one that will not."""
    if error.code == http.HTTPStatus.TOO_MANY_REQUESTS:
        wait = asked_wait(error.headers)
        return wait if wait <= LONGEST_WAIT else None
    passing = error.code == http.HTTPStatus.REQUEST_TIMEOUT or error.code >= 500
    return PAUSE * 2 ** (attempt - 1) if passing else None


def asked_wait(headers: Message) -> float:
    """Return the seconds that an answer asks to wait: by Retry-After, or by the hub's RateLimit."""
    after = headers.get("Retry-After", "").strip()
    if after.isdecimal():
        return float(after)
    if after:
        try:
            return max(parsedate_to_datetime(after).timestamp() - time.time(), 0.0)
        except ValueError:
            pass
    limit = re.search(r"\bt=(\d+)", headers.get("RateLimit", ""))
    return float(limit[1]) if limit else PAUSE
