"""States of engines with one and with several buffers: each reads what any other wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pitool.engine.base import Settings
from pitool.engine.llamacpp import LlamaCpp, streams
from pitool.engine.llamacpp.states import HEAD
from tests.engine.test_llamacpp import ids
from tests.engine.test_windows import GREEDY, LONG, file

pytestmark = pytest.mark.engine

__all__ = ["file"]  # a fixture: a model with windows

ONE = Settings(512, decode_threads=1, prefill_threads=1)
CACHES = {
    "f32, values transposed": replace(ONE, kv_type="f32", flash_attention="off"),
    "f16": replace(ONE, kv_type="f16", flash_attention="on"),
    "q8_0": replace(ONE, kv_type="q8_0", flash_attention="on"),
}


@pytest.fixture(params=["plain", "windows"])
def model(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue("tiny_gguf" if request.param == "plain" else "file")
    return found


def opened(model: Path, cache: str, sequences: int) -> LlamaCpp:
    chosen = replace(CACHES[cache], context=512 * sequences, sequences=sequences)
    return LlamaCpp(model, chosen)


@pytest.mark.thorough
@pytest.mark.parametrize("cache", CACHES)
def test_a_state_is_the_same_whichever_slot_of_how_many_wrote_it(
    model: Path, cache: str, tmp_path: Path
) -> None:
    """The oracle is what llama.cpp itself writes of a cache with one buffer."""
    written = {}
    for sequences, slot in ((1, 0), (2, 0), (2, 1), (5, 2), (5, 4)):
        engine = opened(model, cache, sequences)
        for number in range(slot + 1):  # each text finds another slot
            text = LONG[:300] if number == slot else [20 + number] * 30
            list(engine.stream(text, replace(GREEDY, max_tokens=1)))
        (found,) = [s for s in engine._sequences.slots if s.tokens[:300] == LONG[:300]]
        assert found.sequence == slot
        engine._sequences.rewind(found, 300)
        assert engine._sequences.write(found, tmp_path / "s")
        data = bytearray((tmp_path / "s").read_bytes())
        engine.close()
        target = opened(model, cache, 1)
        assert target.load_state(tmp_path / "s") == 300
        target.save_state(tmp_path / "again")  # by llama.cpp alone: the slot's number is gone
        target.close()
        again = (tmp_path / "again").read_bytes()
        assert len(again) == len(data)
        written[sequences, slot] = again
    assert len(set(written.values())) == 1


@pytest.mark.parametrize("cache", CACHES)
def test_a_state_goes_into_any_slot(model: Path, cache: str, tmp_path: Path) -> None:
    first = opened(model, cache, 1)
    expected = ids(list(first.stream(LONG[:301], GREEDY)))
    first.rewind(300)
    first.save_state(tmp_path / "s")
    first.close()
    engine = opened(model, cache, 3)
    for slot in engine._sequences.slots:
        assert engine._sequences.read(slot, tmp_path / "s", 512)
        assert slot.tokens == LONG[:300]
        tokens = list(engine.stream(LONG[:301], GREEDY))
        assert ids(tokens) == expected
        assert tokens[-1].timings.reused_tokens == 300
        engine._sequences.clear([slot])
    engine.close()


@pytest.mark.parametrize("damage", ["cut", "cells", "streams", "layers", "empty"])
def test_what_is_no_state_is_refused(damage: str, tiny_gguf: Path, tmp_path: Path) -> None:
    engine = opened(tiny_gguf, "f16", 1)
    list(engine.stream(LONG[:100], GREEDY))
    engine.rewind(100)
    engine.save_state(tmp_path / "s")
    engine.close()
    data = bytearray((tmp_path / "s").read_bytes())
    start = HEAD.size + 4 * 100
    match damage:
        case "cut":
            del data[-100:]
        case "cells":
            data[start + 4 : start + 8] = b"\xff\xff\xff\xff"
        case "streams":
            data[start : start + 4] = b"\x02\0\0\0"
        case "layers":
            at = start + 8 + 12 * 100 + 4
            data[at : at + 4] = b"\xff\xff\xff\xff"
        case "empty":
            data.clear()
    (tmp_path / "s").write_bytes(data)
    engine = opened(tiny_gguf, "f16", 2)
    slot = engine._sequences.slots[1]
    assert not engine._sequences.read(slot, tmp_path / "s", 512)
    assert not slot.tokens
    assert list(engine.stream(LONG[:50], GREEDY))[-1].finish
    engine.close()


@pytest.mark.parametrize("buffers", [1, 3])
def test_a_file_of_other_buffers_is_left_as_it_is(
    buffers: int, tiny_gguf: Path, tmp_path: Path
) -> None:
    engine = opened(tiny_gguf, "f16", 1)
    list(engine.stream(LONG[:100], GREEDY))
    engine.save_state(tmp_path / "s")
    engine.close()
    before = (tmp_path / "s").read_bytes()
    if buffers == 1:
        streams.leave_one(tmp_path / "s", 1)
    else:
        with pytest.raises(ValueError, match="another number of buffers"):
            streams.leave_one(tmp_path / "s", buffers)
    assert (tmp_path / "s").read_bytes() == before
