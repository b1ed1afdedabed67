"""Headers of files on the hub, by their first bytes: enough to plan what is not here yet."""

from __future__ import annotations

from pathlib import Path

from pitool.catalog import gguf, reading
from pitool.errors import BadInput
from pitool.pull.connection import TRANSPORT_ERRORS, TRIES
from pitool.pull.hub import Hub, RemoteFile, Repository
from pitool.pull.variants import Variant

# Most headers are between 2 and 16 MB: nearly all of it is the vocabulary.
FIRST_BYTES = 4 << 20
LARGEST_HEADER = 64 << 20


def read_gguf_header(hub: Hub, repository: Repository, variant: Variant) -> gguf.Header:
    """Return the header of a GGUF on the hub; BadInput where it is none that can be run."""
    return gguf.join([_header(hub, repository, file) for file in variant.files])


def read_json(hub: Hub, repository: Repository, file: RemoteFile) -> dict[str, object]:
    """Return the object of a JSON file on the hub."""
    name = f"{repository.id}/{file.path}"
    if file.bytes > reading.LARGEST:
        raise BadInput(f"{name} is larger than {reading.LARGEST >> 20} MiB", "choose another model")
    try:
        value = reading.parse_json(_beginning(hub, repository, file, file.bytes))
    except ValueError as error:
        raise BadInput(f"cannot read {name} ({error})", "choose another model") from None
    if not isinstance(value, dict):
        raise BadInput(f"{name} is not a JSON object", "choose another model")
    return value


def _header(hub: Hub, repository: Repository, file: RemoteFile) -> gguf.Header:
    path = Path(repository.id) / file.path
    data, wanted = b"", FIRST_BYTES
    while wanted <= LARGEST_HEADER:
        data = _beginning(hub, repository, file, min(wanted, file.bytes), data)
        if found := gguf.parse_header(path, data, file.bytes):
            return found
        wanted *= 2
    raise BadInput(f"{path} has a header of more than {LARGEST_HEADER >> 20} MiB", "choose another")


def _beginning(
    hub: Hub, repository: Repository, file: RemoteFile, count: int, data: bytes = b""
) -> bytes:
    """Return the first ``count`` bytes of a file, of which ``data`` is known."""
    if file.local:
        with file.local.open("rb") as opened:
            return opened.read(count)
    error: Exception = EOFError("the line was cut")
    for _ in range(TRIES):
        if len(data) >= count:
            return data
        response = hub.open(repository, file, len(data), count)
        try:
            if response.status == 200:  # it sends all of the file
                data = b""
            while len(data) < count and (more := response.read(count - len(data))):
                data += more
        except TRANSPORT_ERRORS as cut:
            error = cut
        finally:
            response.close()
    if len(data) >= count:
        return data
    raise hub.connection.unreachable(error)
