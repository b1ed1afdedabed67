"""Several models: which is loaded, which goes, and who comes first."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from pitool.engine.base import Engine
from pitool.engine.scripted import DEFAULT_SETTINGS, Scripted
from pitool.errors import BadInput, UsageError
from pitool.serve.failures import BusyError, NoRoom, StoppingError
from pitool.serve.models import Models
from pitool.serve.shelf import Offer
from pitool.serve.times import FOREVER, parse_time
from pitool.serve.turns import Loaded
from tests.serve.harness import CHAT, HELLO, Engines, Slow, ask, offer, serving, until

A, B, C = offer("a"), offer("b"), offer("c")


class Closing(Scripted):
    """Remembers that it was closed."""

    def __init__(self, sequences: int = 1) -> None:
        super().__init__(settings=dataclasses.replace(DEFAULT_SETTINGS, sequences=sequences))
        self.closed = False

    def close(self) -> None:
        self.closed = True


def models(*engines: Engine, room: int = 99, **named: Any) -> tuple[Models, Engines]:
    loader = Engines(engines, room)
    return Models(loader, **named), loader


async def hold(here: Models, wanted: Offer, log: list[str], gate: asyncio.Event) -> None:
    async with here.turn(wanted):
        log.append(wanted.id)
        await gate.wait()


async def settle() -> None:
    """Let everything that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0.005)


async def test_a_model_stays_loaded_for_the_next_request() -> None:
    here, loader = models(Closing())
    for _ in range(3):
        async with here.turn(A):
            pass
    assert loader.loads == ["a"]
    await here.close()


async def test_models_stay_beside_each_other_while_they_fit() -> None:
    engines = [Closing(), Closing(), Closing()]
    here, loader = models(*engines, room=2)
    for wanted in (A, B, A, C):  # C makes room by B, which was used longest ago
        async with here.turn(wanted):
            pass
    assert loader.loads == ["a", "b", "c"]
    assert [engine.closed for engine in engines] == [False, True, False]
    assert set(here.loaded) == {"a", "c"}
    await here.close()
    assert all(engine.closed for engine in engines)


async def test_a_model_in_use_is_waited_for_and_nobody_overtakes() -> None:
    here, loader = models(Closing(), Closing(), Closing(), room=1)
    log: list[str] = []
    gates = [asyncio.Event() for _ in range(3)]
    tasks = []
    for wanted, gate in zip((A, B, A), gates, strict=True):
        tasks.append(asyncio.create_task(hold(here, wanted, log, gate)))
        await settle()
    assert log == ["a"]
    for gate, came in zip(gates, ("ab", "aba", "aba"), strict=True):
        gate.set()
        await settle()
        assert "".join(log) == came
    await asyncio.gather(*tasks)
    assert loader.loads == ["a", "b", "a"]
    await here.close()


async def test_another_model_is_not_held_up_by_a_full_one() -> None:
    here, _ = models(Closing(), Closing())
    log: list[str] = []
    gate = asyncio.Event()
    tasks = []
    for wanted in (A, A, B):
        tasks.append(asyncio.create_task(hold(here, wanted, log, gate)))
        await settle()
    assert log == ["a", "b"]
    gate.set()
    await asyncio.gather(*tasks)
    await here.close()


async def test_as_many_at_once_as_an_engine_has_sequences() -> None:
    here, _ = models(Closing(sequences=3), waiting=1, places=3)
    log: list[str] = []
    gate = asyncio.Event()
    tasks = [asyncio.create_task(hold(here, A, log, gate)) for _ in range(5)]
    await settle()
    assert (len(log), here.running, here.waiting) == (3, 3, 1)
    gate.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in done].count(BusyError) == 1
    await here.close()


async def test_a_model_that_nobody_uses_goes() -> None:
    engines = [Closing(), Closing(), Closing()]
    here, _ = models(*engines, keep=0.05)
    async with here.turn(A):
        await asyncio.sleep(0.2)
        assert not engines[0].closed
    async with here.turn(A):
        pass
    await asyncio.sleep(0.3)
    assert [engine.closed for engine in engines] == [True, False, False]
    async with here.turn(A, keep=FOREVER):
        pass
    await asyncio.sleep(0.3)
    assert [engine.closed for engine in engines] == [True, False, False]
    async with here.turn(A, keep=0):
        pass
    await settle()
    assert [engine.closed for engine in engines] == [True, True, False]
    await here.close()


async def test_what_does_not_fit_alone_is_an_error() -> None:
    here, _ = models(room=0)
    with pytest.raises(NoRoom, match="needs too much"):
        async with here.turn(A):
            pass
    assert not here.waiting and here.loading is None


async def test_a_load_that_fails_is_told_to_all_who_wait_and_tried_again() -> None:
    class Fails(Engines):
        def load(self, offer: Offer, beside: Sequence[Loaded]) -> Engine:
            self.loads.append(offer.id)
            if len(self.loads) == 1:
                raise BadInput("the file is damaged", "copy it again")
            return Closing()

    loader = Fails([])
    here = Models(loader)
    log: list[str] = []
    gate = asyncio.Event()
    gate.set()
    tasks = [asyncio.create_task(hold(here, A, log, gate)) for _ in range(3)]
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in done] == [BadInput] * 3
    await hold(here, A, log, gate)
    assert log == ["a"]
    await here.close()


async def test_one_that_gives_up_in_line_leaves_its_place() -> None:
    here, _ = models(Closing())
    log: list[str] = []
    gate = asyncio.Event()
    tasks = [asyncio.create_task(hold(here, A, log, gate)) for _ in range(3)]
    await settle()
    tasks[1].cancel()
    await settle()
    assert here.waiting == 1
    tasks[0].cancel()
    await settle()
    assert (here.running, here.waiting, len(log)) == (1, 0, 2)
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert here.running == 0
    await here.close()


async def test_one_that_is_cancelled_when_its_turn_comes_passes_it_on() -> None:
    here, _ = models(Closing())
    async with here.turn(A):
        second = asyncio.create_task(hold(here, A, [], asyncio.Event()))
        await settle()
    second.cancel()  # its turn was given in this very step
    await settle()
    assert here.running == 0
    async with asyncio.timeout(5), here.turn(A):
        pass
    await here.close()


async def test_nobody_comes_in_when_it_stops() -> None:
    here, _ = models(Closing())
    log: list[str] = []
    gate = asyncio.Event()
    tasks = [asyncio.create_task(hold(here, A, log, gate)) for _ in range(2)]
    await settle()
    stopping = asyncio.create_task(here.stop(5))
    await settle()
    with pytest.raises(StoppingError):
        await tasks[1]
    with pytest.raises(StoppingError):
        async with here.turn(A):
            pass
    assert not stopping.done()
    gate.set()
    await asyncio.gather(tasks[0], stopping)
    await here.close()


@pytest.mark.network
def test_models_over_http() -> None:
    engines = [Slow(3, rate=1e4), Slow(3, rate=1e4), Slow(3, rate=1e4)]
    with serving(*engines, names=("a", "b"), room=1) as server:
        status, reply = ask(server, CHAT, {**HELLO, "model": "b"})
        assert (status, reply["model"]) == (200, "b")
        status, reply = ask(server, CHAT, HELLO)
        assert (status, reply["model"]) == (200, "a")
        status, reply = ask(server, CHAT, {**HELLO, "model": "other"})
        assert (status, reply["error"]["code"]) == (404, "model_not_found")
        _, listed = ask(server, "/v1/models", method="GET")
        assert [each["id"] for each in listed["data"]] == ["a", "b"]
        status, reply = ask(server, "/api/chat", {"model": "a:F32", "keep_alive": 0})
        assert reply["done_reason"] == "unload"
        until(lambda: not server.models.loaded)


TIMES: dict[Any, float] = {
    "5m": 300, "1h30m": 5400, "90": 90, "0": 0, 0: 0, 12.5: 12.5, "1.5s": 1.5, "250ms": 0.25,
    1e30: FOREVER, 10**30: FOREVER, "999999999h": FOREVER, -1: FOREVER, "-1": FOREVER,
    "-1m": FOREVER,
}  # fmt: skip


@pytest.mark.parametrize("text", TIMES)
def test_times(text: Any) -> None:
    assert parse_time(text) == TIMES[text]


@pytest.mark.parametrize("text", ["", float("nan"), "5 minutes", "m", "1e9", True, [], "5x", "--5"])
def test_what_is_no_time(text: Any) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        parse_time(text)
