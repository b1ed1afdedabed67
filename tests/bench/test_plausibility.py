"""Rates against the memory's ceiling and the prediction, and the reasons for a low one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pitool.bench.artifact import MeasuredArtifact
from pitool.bench.plausibility import assess
from pitool.bench.run import Result, Workload, measure
from pitool.catalog.boards import boards
from pitool.catalog.manifest import Speed
from pitool.device.activity import Look
from pitool.device.detect import Machine
from pitool.device.sensors import Reading, Throttled
from pitool.planning.formats import GGUF, find_format
from tests.bench.conftest import SETTINGS, Recorder

PI5 = Machine(
    "pi5", "Raspberry Pi 5", "aarch64", 4, 4, ("neon", "dotprod"), 16, 64, 8 << 30, 7 << 30, 0
)
QUIET = Look(0.0, Reading(50.0, 2400.0, Throttled(0)))
MODEL_BYTES = 1_000_000_000


def subject(predicted: float = 10.0) -> MeasuredArtifact:
    speed = Speed("pi5", 100.0, predicted)
    return MeasuredArtifact(
        Path("toy.gguf"),
        "toy",
        "Q4_0",
        None,
        None,
        speed=speed,
        machine=PI5,
        streamed_bytes=MODEL_BYTES,
    )


def decoding(rate: float, look: Look = QUIET, backend: str = "NEON DOTPROD") -> Result:
    test = Workload(generate=100)
    result = list(measure(Recorder([100 / rate]), [test], 2, lambda: look))[-1]
    settings = replace(SETTINGS, decode_threads=boards()["pi5"].decode_threads)
    return replace(result, info=replace(result.info, backend=backend, settings=settings))


def test_the_bandwidth_measured_here_goes_before_the_table_s() -> None:
    verdict = assess(decoding(9.0), replace(subject(), read_gbs=12.0))
    assert verdict
    assert verdict.ceiling_share == pytest.approx(9.0 / 12.0)
    assert "75% of the memory's 12.0 GB/s (measured here)" in verdict.lines[0]


def test_a_prediction_for_onnxruntime_is_called_an_assumption() -> None:
    result = decoding(5.0)
    verdict = assess(replace(result, info=replace(result.info, engine="onnx")), subject())
    assert verdict
    assert verdict.predicted_share == pytest.approx(0.5)
    assert any("are estimates" in line for line in verdict.lines)
    plain = assess(result, subject())
    assert plain
    assert not any("are estimates" in line for line in plain.lines)


def test_weights_in_the_cache_have_no_ceiling() -> None:
    verdict = assess(decoding(90.0), replace(subject(), cache_bytes=MODEL_BYTES))
    assert verdict
    assert verdict.ceiling_share is None
    assert "caches" in verdict.lines[0]


def test_shares_are_of_the_board_s_bandwidth_and_of_the_prediction() -> None:
    verdict = assess(decoding(9.0), subject())
    assert verdict
    assert verdict.read_gbs == pytest.approx(9.0)
    assert verdict.ceiling_share == pytest.approx(9.0 / boards()["pi5"].bandwidth_gbs)
    assert verdict.predicted_share == pytest.approx(0.9)
    assert verdict.checked == ()
    assert any("90% of the prediction" in line for line in verdict.lines)


def test_a_low_rate_without_a_reason_says_what_was_checked() -> None:
    verdict = assess(decoding(7.9), subject())
    assert verdict
    assert verdict.reasons == ()
    assert "dotprod" in verdict.checked
    assert "cause: not found" in verdict.lines[-2]
    # Nobody looked at these, so they are not said to have been checked.
    assert verdict.unchecked == ("swapping", "other processes", "bootloader")
    assert "swapping, other processes, bootloader" in verdict.lines[-1]


HOT = Look(0.0, Reading(85.0, 1500.0, Throttled(0x4)))


def test_every_reason_is_found_where_it_holds_and_only_there() -> None:
    busy = [
        replace(QUIET, seconds=float(s), busy_seconds=2.0 * s, own_seconds=0.0) for s in range(3)
    ]
    swapping = [replace(QUIET, swap_ins=100 * i) for i in range(3)]

    def reasons(result: Result) -> str:
        verdict = assess(result, subject(100.0))
        assert verdict
        return "; ".join(verdict.reasons)

    assert reasons(decoding(10.0)) == ""
    old = assess(decoding(10.0), replace(subject(100.0), firmware="2023-10-30"))
    assert old
    assert old.reasons == ("the bootloader is from 2023-10-30: run sudo rpi-eeprom-update -a",)
    new = assess(decoding(10.0), replace(subject(100.0), firmware="2025-01-22"))
    assert new
    assert new.reasons == ()
    assert "bootloader" in new.checked
    assert "without dotprod" in reasons(decoding(10.0, backend="NEON"))
    hot = reasons(decoding(10.0, HOT))
    assert "throttled" in hot
    assert "1500 of 2400 MHz" in hot
    weak = replace(QUIET, reading=Reading(50.0, 2400.0, Throttled(0x1)))
    assert "power supply" in reasons(decoding(10.0, weak))
    assert "free memory" in reasons(replace(decoding(10.0), looks=tuple(swapping)))
    assert "other processes" in reasons(replace(decoding(10.0), looks=tuple(busy)))
    wide = decoding(10.0)
    info = replace(wide.info, settings=replace(SETTINGS, decode_threads=4))
    assert "pitool tune" in reasons(replace(wide, info=info))


def test_more_than_the_memory_gives_is_called_impossible() -> None:
    verdict = assess(decoding(1000.0), subject(1000.0))
    assert verdict
    assert any("more than is possible" in line for line in verdict.lines)


@pytest.mark.parametrize("test", [Workload(prompt=8), Workload(generate=8, depth=8)])
def test_only_decode_at_an_empty_context_is_judged(test: Workload) -> None:
    assert assess(list(measure(Recorder(), [test], 1))[-1], subject()) is None


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_beside_a_head_is_not_streamed(tied: bool, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "toy.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("general.file_type", 0)
    writer.add_block_count(1)
    writer.add_embedding_length(8)
    writer.add_head_count(1)
    writer.add_tensor("token_embd.weight", np.zeros((64, 8), np.float32))
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((8, 8), np.float32))
    if not tied:
        writer.add_tensor("output.weight", np.zeros((64, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    # The head, tied or not, and the one matrix.
    assert GGUF.streamed_bytes(path) == 4 * (64 * 8 + 8 * 8)


def test_nothing_known_is_nothing_said(bundle: Callable[..., Path]) -> None:
    unknown = MeasuredArtifact(Path("toy"), None, "Q4_0", None, None)
    verdict = assess(decoding(1.0), unknown)
    assert verdict
    assert verdict.lines == []
    assert find_format("script").streamed_bytes(bundle()) is None
