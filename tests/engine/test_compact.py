"""States in q8_0: against gguf-py's blocks, and states that llama.cpp wrote, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pitool.engine.base import Settings
from pitool.engine.llamacpp import LlamaCpp
from pitool.engine.llamacpp import compact as packing
from pitool.errors import UsageError
from tests.engine.test_recurrent import file as recurrent  # noqa: F401 - a fixture

pytestmark = pytest.mark.engine

ONE = Settings(512, decode_threads=1, prefill_threads=1)
TOKENS = [(7 * i) % 490 + 5 for i in range(300)]
KINDS: dict[str, np.dtype[Any]] = {"f16": np.dtype("<f2"), "f32": np.dtype("<f4")}
ROW, LAYERS = 128, 3  # of the tiny model: four key-value heads of 32
HEAD = 12 + 4 * len(TOKENS) + 4 + 4 + 12 * len(TOKENS) + 8


def test_blocks_are_those_of_gguf_py() -> None:
    quants = pytest.importorskip("gguf.quants")
    numbers = np.random.default_rng(0).normal(0, 3, (50, 64)).astype(np.float32)
    numbers[3] = 0
    kind = quants.GGMLQuantizationType.Q8_0
    packed = packing.pack(numbers)
    assert packed.tobytes() == quants.quantize(numbers, kind).tobytes()
    expected = quants.dequantize(packed.reshape(50, -1), kind)
    np.testing.assert_array_equal(packing.unpack(packed).reshape(50, 64), expected)


def saved(tiny_gguf: Path, path: Path, kind: str, **changes: object) -> bytes:
    """Save a state of the tiny model, and return its bytes."""
    engine = LlamaCpp(tiny_gguf, replace(ONE, kv_type=kind, **changes))  # type: ignore[arg-type]
    engine.time_forward(TOKENS, one_by_one=False)
    engine.save_state(path)
    engine.close()
    return path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_all_but_the_rows_comes_back_bit_for_bit(
    kind: str, tiny_gguf: Path, tmp_path: Path
) -> None:
    before = saved(tiny_gguf, tmp_path / "s", kind)
    packing.compact(tmp_path / "s")
    size = (tmp_path / "s").stat().st_size
    assert size / len(before) == pytest.approx(34 / 32 / KINDS[kind].itemsize, rel=0.02)
    tokens, state = packing.read_state(tmp_path / "s")
    assert tokens == TOKENS
    after = before[: 12 + 4 * len(TOKENS)] + state.tobytes()
    assert len(after) == len(before)
    assert after[:HEAD] == before[:HEAD]
    rows = len(TOKENS) * ROW * KINDS[kind].itemsize
    for layer in range(2 * LAYERS):
        start = HEAD + layer * (12 + rows)
        assert after[start : start + 12] == before[start : start + 12]
        old, new = (
            np.frombuffer(data[start + 12 : start + 12 + rows], KINDS[kind])
            .reshape(-1, 32)
            .astype(np.float32)
            for data in (before, after)
        )
        # A step of q8_0 is a 127th of a block's largest number, its scale in half precision.
        assert (abs(old - new).max(1) <= abs(old).max(1) * (0.501 / 127 + 2**-10) + 1e-6).all()


def test_an_engine_goes_on_from_one_as_from_the_state_itself(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    """In float32 the packing alone makes a difference, and that of a cache in q8_0 is as large."""
    engine = LlamaCpp(tiny_gguf, replace(ONE, kv_type="q8_0"))
    rounded = engine.logits([*TOKENS, 9])[-1]
    engine.close()
    engine = LlamaCpp(tiny_gguf, replace(ONE, kv_type="f32"))
    expected = engine.logits([*TOKENS, 9])[-1]
    engine.time_forward(TOKENS, one_by_one=False)
    engine.save_state(tmp_path / "s")
    engine.compact_state(tmp_path / "s")
    engine.clear()
    assert engine.load_state(tmp_path / "s") == len(TOKENS)
    engine.time_forward([9], one_by_one=True)
    found = engine._logits(0).copy()
    engine.close()
    assert 0 < np.std(found - expected) < 1.3 * np.std(rounded - expected)
    assert np.std(found - expected) < 0.05 * np.std(expected)


def test_what_cannot_be_packed_is_refused(
    tiny_gguf: Path,
    tmp_path: Path,
    recurrent: Path,  # noqa: F811
) -> None:
    saved(tiny_gguf, tmp_path / "transposed", "f16", flash_attention="off")
    with pytest.raises(UsageError, match="without flash attention"):
        packing.compact(tmp_path / "transposed")
    saved(tiny_gguf, tmp_path / "small", "q8_0")
    with pytest.raises(UsageError, match="neither f16 nor f32"):
        packing.compact(tmp_path / "small")
    engine = LlamaCpp(recurrent, Settings(256, 1, 1))
    engine.time_forward(TOKENS[:20], one_by_one=False)
    engine.save_state(tmp_path / "state")
    engine.close()
    before = (tmp_path / "state").read_bytes()
    with pytest.raises(UsageError, match="leave out --compact"):
        packing.compact(tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == before


@pytest.mark.parametrize("keep", [0, 3, 11, 500, 5000, -1])
def test_a_cut_file_is_no_state(keep: int, tiny_gguf: Path, tmp_path: Path) -> None:
    saved(tiny_gguf, tmp_path / "s", "f16")
    packing.compact(tmp_path / "s")
    data = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(data[:keep])
    with pytest.raises(ValueError, match="it "):
        packing.read_state(tmp_path / "s")
