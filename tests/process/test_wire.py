"""Messages over two pipes: what is whole arrives, what is cut is the end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pitool.errors import BadInput, PitoolError
from pitool.process.wire import Wire, error_from_json, error_to_json


@pytest.fixture
def ends() -> Iterator[tuple[Wire, int]]:
    """A wire whose own messages come back to it, and the descriptor that they go through."""
    read, write = os.pipe()
    wire = Wire(os.fdopen(read, "rb", buffering=0), os.fdopen(write, "wb", buffering=0))
    yield wire, write
    wire.close(1.0)


def test_messages_and_payloads_arrive_in_order(ends: tuple[Wire, int]) -> None:
    wire, _ = ends
    wire.send({"id": 1, "text": "é\n"}, b"\n\x00\n")
    wire.send({"id": 2})
    assert wire.receive() == ({"id": 1, "text": "é\n"}, b"\n\x00\n")
    assert wire.receive() == ({"id": 2}, b"")
    assert wire.hang_up()
    assert wire.receive() is None


@pytest.mark.parametrize("part", [b'{"id": 1', b'{"payload": 5}\nabc'])
def test_a_message_that_was_cut_is_the_end(ends: tuple[Wire, int], part: bytes) -> None:
    wire, write = ends
    os.write(write, part)
    wire.hang_up()
    assert wire.receive() is None


def test_errors_keep_their_kind() -> None:
    error = error_from_json(error_to_json(BadInput("what", "do")))
    assert (type(error), error.what, error.do) == (BadInput, "what", "do")
    unknown = error_from_json({"kind": "NewerError", "what": "w", "do": "d"})
    assert type(unknown) is PitoolError
