"""How an artifact is loaded: mapped, or read where ggml would hold its weights twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter

from pitool.catalog.bundles import Runnable
from pitool.catalog.gguf import read_header
from pitool.catalog.kv_types import CacheTypes
from pitool.catalog.manifest import Artifact, FileEntry, MemoryLine, Speed, Tokenization
from pitool.catalog.model_argument import find_runnable
from pitool.catalog.tensor_types import TENSOR_TYPES
from pitool.device.detect import Machine, detect
from pitool.device.settings import planned_bytes, settings_for, untuned, with_guesses
from pitool.errors import UsageError
from pitool.planning.memory import CHAT_BYTES
from tests.convert.helpers import write_float

FIT_NUMBER = 15  # a mixture of one's own is written with the number of Q4_K_M


def mixture(path: Path, *types: str) -> Path:
    """Write a GGUF of one matrix of each type."""
    writer = GGUFWriter(path, "llama")
    writer.add_file_type(FIT_NUMBER)
    for i, name in enumerate(types):
        raw = np.zeros((256, TENSOR_TYPES[name].size((256,))), np.uint8)
        writer.add_tensor(f"blk.{i}.ffn_up.weight", raw, raw_dtype=GGMLQuantizationType[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def machine(*features: str) -> Machine:
    return replace(detect(), board_id=None, features=features)


@pytest.mark.parametrize(
    ("types", "features", "mode"),
    [
        (("Q4_K", "Q4_K", "Q6_K"), ("dotprod",), "read"),
        (("Q4_K", "Q4_K", "Q6_K"), (), "mmap"),
        (("Q3_K", "Q3_K", "Q4_K"), ("dotprod",), "mmap"),
        (("Q2_K", "Q8_0", "Q8_0"), ("dotprod",), "read"),
        (("Q8_0", "Q8_0"), ("avx2",), "mmap"),
    ],
)
@pytest.mark.parametrize("name", ["Q4_K_M", "FIT"])
def test_the_types_of_the_file_decide_not_its_name(
    tmp_path: Path, types: tuple[str, ...], features: tuple[str, ...], mode: str, name: str
) -> None:
    file = mixture(tmp_path / "m.gguf", *types)
    runnable = replace(find_runnable(file), quantisation=name)
    assert untuned(runnable, None, machine(*features)).load_mode == mode


def test_a_draft_model_is_planned_with_the_model(tiny_checkpoint: Path, tmp_path: Path) -> None:
    runnable = find_runnable(write_float(tiny_checkpoint, tmp_path / "m.gguf", "F32"))
    settings = replace(settings_for(runnable), load_mode="mmap", repack=False)
    guessing = with_guesses(settings, runnable, speculate=True)
    assert guessing.draft == ("gguf", str(runnable.entry))
    draft = planned_bytes(runnable, guessing) - planned_bytes(runnable, settings)
    # It has weights, a KV cache and buffers of its own, and no process.
    assert draft > sum(tensor.bytes for tensor in read_header(runnable.entry).tensors)
    assert draft < planned_bytes(runnable, replace(settings, guesses=0)) - CHAT_BYTES
    off = with_guesses(settings, None, speculate=False)
    assert (off.guesses, off.draft) == (0, None)


def test_threads_that_are_named_go_before_those_of_the_board(tmp_path: Path) -> None:
    runnable = find_runnable(mixture(tmp_path / "m.gguf", "Q4_K"))
    pi = replace(machine("dotprod"), board_id="pi5-8gb", physical_cores=4)
    chosen = settings_for(runnable, None, pi, threads=2)
    assert (chosen.decode_threads, chosen.prefill_threads) == (2, 2)
    assert settings_for(runnable, None, pi) == untuned(runnable, None, pi)
    assert untuned(runnable, None, pi).prefill_threads == 4


def test_an_artifact_is_tokenized_as_its_manifest_says(tmp_path: Path) -> None:
    runnable = find_runnable(mixture(tmp_path / "m.gguf", "Q4_K"))
    plain = untuned(runnable, None, machine())
    assert (plain.ends, plain.nfc, plain.tokenizer) == ((), False, None)
    artifact = Artifact(
        "gguf", "Q4_K", (FileEntry("m.gguf", 1, ""),), "llama", 1, 256, 4.5, (), (),
        tokenization=Tokenization((2, 7), nfc=True),
    )  # fmt: skip
    found = untuned(replace(runnable, artifact=artifact, tokenizer="t"), None, machine())
    assert (found.ends, found.nfc, found.tokenizer) == ((2, 7), True, "t")


def test_passes_are_expected_to_cost_what_the_speeds_predicted_for_the_board_say(
    tmp_path: Path,
) -> None:
    runnable = find_runnable(mixture(tmp_path / "m.gguf", "Q4_K"))
    speed = (Speed("pi4b", 20.0, 10.0), Speed("pi5", 100.0, 10.0), Speed("cm5", 0.0, 10.0))
    artifact = Artifact(
        "gguf", "Q4_K", (FileEntry("m.gguf", 1, ""),), "llama", 1, 256, 4.5, (), speed,
    )  # fmt: skip
    planned = replace(runnable, artifact=artifact)

    def costs(board: str | None, model: Runnable = planned) -> dict[int, float]:
        return dict(untuned(model, None, replace(machine(), board_id=board)).costs)

    # A prefill takes a tenth of a decode for a token: at best four cost one, at worst 1.6.
    assert costs("pi5")[4] == pytest.approx(1.3)
    assert costs("pi4b")[4] == pytest.approx((2.0 + 4.0) / 2)
    assert costs("cm5") == costs(None) == costs("pi5", runnable) == {}


def test_an_onnx_folder_is_mapped(tmp_path: Path) -> None:
    runnable = Runnable("m", "onnx", "INT4", tmp_path, 1, 256)
    assert untuned(runnable, None, machine("dotprod")).load_mode == "mmap"


def test_types_of_the_cache_that_are_named_go_before_those_of_the_bundle(tmp_path: Path) -> None:
    runnable = find_runnable(mixture(tmp_path / "m.gguf", "Q4_K"))
    settings = settings_for(runnable, cache=CacheTypes("q8_0", "q5_1"))
    assert (settings.kv_type, settings.value_type) == ("q8_0", "q5_1")


def test_a_graph_takes_no_types_of_the_cache(tmp_path: Path) -> None:
    runnable = replace(find_runnable(mixture(tmp_path / "m.gguf", "Q4_K")), format="onnx")
    with pytest.raises(UsageError, match="--kv-type cannot be used with ONNX"):
        settings_for(runnable, cache=CacheTypes("q8_0", "q8_0"))


def test_a_smaller_cache_takes_less_of_the_planned_memory(tmp_path: Path) -> None:
    """Of a plan with f16: 17 of 32 parts in q8_0, 29 of 64 with values in q5_1."""
    artifact = Artifact(
        "gguf", "Q4_K_M", (FileEntry("m.gguf", 1, "00"),), "llama", 1, 1024, 4.5,
        memory=(MemoryLine("weights", 1000), MemoryLine("KV cache", 64_000)), speed=(),
    )  # fmt: skip
    runnable = replace(find_runnable(mixture(tmp_path / "m.gguf", "Q4_K")), artifact=artifact)
    usual = settings_for(runnable, 1024)
    assert planned_bytes(runnable, usual) == 65_000
    eight = settings_for(runnable, 1024, cache=CacheTypes("q8_0", "q8_0"))
    assert planned_bytes(runnable, eight) == 1000 + 34_000
    mixed = settings_for(runnable, 2048, cache=CacheTypes("q8_0", "q5_1"))
    assert planned_bytes(runnable, mixed) == 1000 + 2 * 29_000
