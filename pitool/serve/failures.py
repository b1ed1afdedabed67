"""What errors are over HTTP: a status, and a document in the interface's own shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pitool.errors import BadInput, DoesNotFit, MissingPart, PitoolError, UsageError

_INVALID = "invalid_request_error"
RETRY_SECONDS = 5
OLLAMA_PATHS = "/api/"


class BusyError(DoesNotFit):
    """All places are taken."""


class StoppingError(DoesNotFit):
    """The server is about to end."""

    def __init__(self) -> None:
        super().__init__("the server is stopping", "send the request again when it is back")


class NoRoom(DoesNotFit):
    """A model does not fit into the memory that is left."""


class NoSuchModel(BadInput):
    """A request names a model that is not served."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error for a client: its status, OpenAI's type and code, and the field at fault."""

    status: int
    message: str
    kind: str = _INVALID
    code: str | None = None

    def document(self, path: str = "") -> dict[str, Any]:
        """Return the JSON, as the interface of the path has it: OpenAI's, or Ollama's."""
        if path.startswith(OLLAMA_PATHS):
            return {"error": self.message}
        error = {"message": self.message, "type": self.kind, "param": None, "code": self.code}
        return {"error": error}

    @property
    def headers(self) -> dict[str, str]:
        """What is sent with it."""
        return {"Retry-After": str(RETRY_SECONDS)} if self.status == 503 else {}


# Status, OpenAI's type and its code; the first that an error is counts.
_STATUS: dict[type[PitoolError], tuple[int, str, str | None]] = {
    BusyError: (503, "server_error", "server_busy"),
    StoppingError: (503, "server_error", "server_stopping"),
    NoRoom: (500, "server_error", "model_does_not_fit"),
    NoSuchModel: (404, _INVALID, "model_not_found"),
    MissingPart: (501, _INVALID, None),
    UsageError: (400, _INVALID, None),
    BadInput: (400, _INVALID, None),
    DoesNotFit: (400, _INVALID, "context_length_exceeded"),
}


def failure_of(error: PitoolError) -> Failure:
    """Return what an error is for a client."""
    status, kind, code = next(
        (row for cls, row in _STATUS.items() if isinstance(error, cls)),
        (500, "server_error", None),
    )
    return Failure(status, error.sentence, kind, code)
