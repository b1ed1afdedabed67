"""How a board of a cluster is: versions, memory, bandwidth, sensors; told by the board over HTTP.

Nothing here can change anything on a board, and it tells nothing of models, chats or files.
"""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields

from pitool import __version__
from pitool.catalog import reading, tables, versions
from pitool.catalog.boards import boards
from pitool.device import probe
from pitool.device.detect import Machine, detect
from pitool.device.here import margin
from pitool.device.monitor import Monitor
from pitool.errors import BadInput
from pitool.planning.cluster import Link
from pitool.report.numbers import format_count

SECONDS = 5.0
# A decode gets this share of what plain reading does: bandwidth_gbs of read_gbs in boards.toml.
DECODE_SHARE = 0.75
_LARGEST = 1 << 16
# What is sent for the rate of the link: enough for a second of Fast Ethernet, a tenth of Gigabit.
SENT_BYTES = 8 << 20
ROUND_TRIPS = 8


@dataclass(frozen=True, slots=True)
class Status:
    """A board now: bytes, 1e9 bytes/s, °C; None is unknown.

    ``room``: bytes for a model; ``bandwidth_gbs``: of a decode on all cores; ``ready``: whether its
    server answers; ``client``: whether a model is loaded on it; ``restarts``: how often its server
    had to be started again.
    """

    pitool: str
    llama_cpp: str
    board: str
    board_id: str | None
    cores: int
    features: tuple[str, ...] = ()
    mem_total: int | None = None
    mem_available: int | None = None
    room: int | None = None
    bandwidth_gbs: float | None = None
    temperature_c: float | None = None
    cpu: float | None = None
    throttled: tuple[str, ...] = ()
    ready: bool = True
    client: bool = False
    restarts: int = 0
    cache_bytes: int = 0

    @property
    def words(self) -> str:
        """What is wrong with it, in a few words; empty for nothing."""
        said = [*self.throttled]
        if self.restarts:
            said.append(f"restarted {format_count(self.restarts, 'time')}")
        return ", ".join(said)


@dataclass
class Looker:
    """Looks at this machine, as often as it is asked."""

    machine: Machine = field(default_factory=detect)
    monitor: Monitor = field(default_factory=Monitor)

    def look(
        self, *, ready: bool = True, client: bool = False, restarts: int = 0, cache_bytes: int = 0
    ) -> Status:
        """Return how this machine is."""
        sample = self.monitor.look()
        free = sample.available_bytes
        return Status(
            pitool=__version__,
            llama_cpp=llama_cpp_version(),
            board=self.machine.board_name,
            board_id=self.machine.board_id,
            cores=self.machine.physical_cores,
            features=self.machine.features,
            mem_total=self.machine.mem_total,
            mem_available=free,
            room=None if free is None else max(free - margin(self.machine), 0),
            bandwidth_gbs=bandwidth(self.machine),
            temperature_c=sample.temperature_c,
            cpu=sample.cpu,
            throttled=sample.throttled_now or (),
            ready=ready,
            client=client,
            restarts=restarts,
            cache_bytes=cache_bytes,
        )


def llama_cpp_version() -> str:
    """Return the version of llama-cpp-python, and so of llama.cpp, that is installed here."""
    return versions.installed("llama-cpp-python") or ""


def bandwidth(machine: Machine) -> float | None:
    """Return what a decode reads here on all cores, in 1e9 bytes/s: measured, or the board's."""
    board = boards().get(machine.board_id or "")
    found = probe.find(machine)
    if board is not None:
        slow = 1.0
        if found and board.read_gbs:
            slow = min(found.read_gbs / board.read_gbs, 1.0)
        return round(board.bandwidth_all_gbs * slow, 2)
    return round(found.read_gbs * DECODE_SHARE, 2) if found else None


def to_json(status: Status) -> bytes:
    """Return a status as it is sent."""
    return json.dumps(asdict(status)).encode()


def from_json(data: bytes) -> Status:
    """Return a status that was sent; ValueError for something else. A newer one may say more."""
    value = reading.parse_json(data)
    if not isinstance(value, dict):
        raise ValueError("it is not the status of a board")  # noqa: TRY004 - of what was sent
    known = {each.name for each in fields(Status)}
    try:
        return tables.build(Status, {k: v for k, v in value.items() if k in known}, "the status")
    except BadInput as error:
        raise ValueError(error.what) from None


def fetch(host: str, port: int, seconds: float = SECONDS) -> Status:
    """Return the status that a board serves; OSError or ValueError where it does not."""
    with closing(_connect(host, port, seconds)) as connection:
        return from_json(_exchange(connection, "GET", "/status"))


def measure(host: str, port: int, count: int = SENT_BYTES, seconds: float = 30.0) -> Link:
    """Return the link to a board: the fastest of some round trips, and the slower direction.

    ``count``: bytes that are sent each way. OSError or ValueError as ``fetch``.
    """
    with closing(_connect(host, port, seconds)) as connection:
        latency = min(_timed(connection, "GET", "/nothing") for _ in range(ROUND_TRIPS))
        down = _timed(connection, "GET", f"/bytes/{count}", most=count)
        up = _timed(connection, "POST", "/bytes", bytes(count))
    return Link(latency, count / max(down - latency, up - latency, 1e-6))


def _timed(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes = b"",
    most: int = _LARGEST,
) -> float:
    begun = time.perf_counter()
    _exchange(connection, method, path, body, most)
    return time.perf_counter() - begun


def _connect(host: str, port: int, seconds: float) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(host, port, timeout=seconds)


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes = b"",
    most: int = _LARGEST,
) -> bytes:
    try:
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        data = answer.read(most + 1)
    except http.client.HTTPException as error:
        raise ValueError(f"it does not speak HTTP ({type(error).__name__})") from None
    if answer.status != 200 or len(data) > most:
        raise ValueError(f"it answered {path} with {answer.status}")
    return data
