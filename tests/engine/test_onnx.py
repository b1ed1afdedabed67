"""The ONNX engine on a real and a tiny model: same answers as transformers, state, cancel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pitool.engine import worker
from pitool.engine.base import Engine, Message, Sampling, Settings, Token
from pitool.engine.onnx import Onnx
from pitool.errors import BadInput, DoesNotFit
from tests.engine.onnx_graph import write_folder
from tests.engine.rewinding import check_rewinding

pytestmark = pytest.mark.engine

SETTINGS = Settings(context=256, decode_threads=1, prefill_threads=1, outputs=32)
GREEDY = Sampling(temperature=0, max_tokens=24)
PROMPT = "The quick brown fox"


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint: Path) -> Path:
    """The tiny checkpoint as a fused graph in float32."""
    return write_folder(tiny_checkpoint, tiny_checkpoint.parent / "tiny-fp32")


@pytest.fixture(scope="module")
def engine(tiny_onnx: Path) -> Iterator[Engine]:
    with worker.start("onnx", tiny_onnx, SETTINGS) as started:
        yield started


def answer(engine: Engine, prompt: object, sampling: Sampling = GREEDY) -> list[Token]:
    return list(engine.stream(prompt, sampling))  # type: ignore[arg-type]


def ids(tokens: list[Token]) -> list[int]:
    return [t.id for t in tokens if t.id is not None]


def test_greedy_ids_of_a_trained_model_are_those_of_transformers(
    shared_data: Path, tmp_path: Path
) -> None:
    checkpoint = shared_data / "models" / "tinystories-656k"
    folder = write_folder(checkpoint, tmp_path / "onnx")
    cases = json.loads((checkpoint / "golden_greedy.json").read_text())["cases"]
    assert len(cases) == 3
    with worker.start("onnx", folder, replace(SETTINGS, context=512)) as loaded:
        for case in cases:
            assert loaded.tokenize(case["prompt"]) == case["prompt_ids"]
            wanted = case["output_ids"][len(case["prompt_ids"]) :]
            sampling = Sampling(temperature=0, max_tokens=len(wanted))
            assert ids(answer(loaded, case["prompt"], sampling)) == wanted


def test_nothing_is_written_into_the_users_home(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime keeps a device id and telemetry there unless it is told not to."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    with worker.start("onnx", tiny_onnx, SETTINGS) as loaded:
        assert answer(loaded, PROMPT)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]


def test_a_conversation_goes_through_the_template(engine: Engine) -> None:
    found = engine.detokenize(engine.tokenize([Message("user", "Hi")]))
    assert found == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_reuse_of_a_prefix_changes_nothing(engine: Engine) -> None:
    longer = f"{PROMPT} jumps over the lazy dog"
    engine.clear()
    fresh = answer(engine, longer)
    engine.clear()
    answer(engine, PROMPT)
    reused = answer(engine, longer)
    assert fresh[-1].timings.reused_tokens == 0
    assert reused[-1].timings.reused_tokens == len(engine.tokenize(PROMPT))
    assert ids(reused) == ids(fresh)


def test_a_seed_makes_sampling_repeatable_and_others_differ(engine: Engine) -> None:
    warm = Sampling(temperature=1.5, max_tokens=24, seed=7)
    first, again = (ids(answer(engine, PROMPT, warm)) for _ in range(2))
    assert first == again
    assert first != ids(answer(engine, PROMPT, replace(warm, seed=8)))


def test_a_graph_that_gives_all_rows_answers_alike(
    engine: Engine, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = write_folder(tiny_checkpoint, tmp_path / "all-rows", num_logits=False)
    prompt = [(7 * i) % 500 for i in range(150)]
    with worker.start("onnx", folder, SETTINGS) as other:
        assert ids(answer(other, prompt)) == ids(answer(engine, prompt))
        np.testing.assert_allclose(other.logits(prompt), engine.logits(prompt), atol=1e-4)


def test_state_saved_and_loaded_goes_on_as_before(
    engine: Engine, tiny_onnx: Path, tmp_path: Path
) -> None:
    engine.clear()
    expected = answer(engine, PROMPT)
    engine.save_state(tmp_path / "state")
    assert [path.name for path in tmp_path.iterdir() if "state" in path.name] == ["state"]
    with worker.start("onnx", tiny_onnx, SETTINGS) as other:
        assert other.load_state(tmp_path / "state") >= len(engine.tokenize(PROMPT))
        tokens = answer(other, PROMPT)
        assert tokens[-1].timings.reused_tokens == len(engine.tokenize(PROMPT)) - 1
        assert ids(tokens) == ids(expected)


def test_a_foreign_state_is_refused(engine: Engine, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"not a state at all")
    other = write_folder(tiny_checkpoint, tmp_path / "other", num_logits=False)
    with worker.start("onnx", other, SETTINGS) as loaded:
        answer(loaded, PROMPT)
        loaded.save_state(tmp_path / "others")
    for name in ("state", "others", "missing"):
        with pytest.raises(BadInput, match="not a saved state of this model"):
            engine.load_state(tmp_path / name)
    assert answer(engine, PROMPT)[-1].timings.reused_tokens == 0


def test_a_cancel_in_the_middle_of_a_prefill(tiny_onnx: Path) -> None:
    """The engine is cancelled from its own thread, and goes on with what is in the cache."""
    settings = replace(SETTINGS, context=1024, micro_batch=64)
    loaded = Onnx(tiny_onnx, settings)
    stream = loaded.stream([5] * 900, GREEDY)
    first = next(stream)
    loaded.cancel()
    (last,) = stream
    assert last.finish == "cancelled"
    assert last.timings.prefilled_tokens == first.timings.prefilled_tokens < 900
    after = list(loaded.stream([5] * 100, GREEDY))
    assert after[-1].timings.reused_tokens == 64
    fresh = Onnx(tiny_onnx, settings)
    assert ids(after) == ids(list(fresh.stream([5] * 100, GREEDY)))


def test_a_cancel_while_decoding(tiny_onnx: Path) -> None:
    loaded = Onnx(tiny_onnx, SETTINGS)
    stream = loaded.stream(PROMPT, replace(GREEDY, temperature=1.0, max_tokens=100, seed=1))
    for token in stream:
        if token.timings.decoded_tokens == 3:
            loaded.cancel()
            break
    (last,) = stream
    assert (last.id, last.finish) == (None, "cancelled")


def test_load_modes_and_plain_weights_answer_alike(tiny_onnx: Path, engine: Engine) -> None:
    expected = engine.logits(list(range(40)))
    for settings in (replace(SETTINGS, load_mode="read"), replace(SETTINGS, repack=False)):
        with worker.start("onnx", tiny_onnx, settings) as other:
            np.testing.assert_allclose(other.logits(list(range(40))), expected, atol=1e-4)


def test_time_forward_fills_the_cache_and_takes_time(engine: Engine) -> None:
    engine.clear()
    assert engine.time_forward([5] * 64, one_by_one=False) > 0
    assert engine.time_forward([6] * 8, one_by_one=True) > 0
    engine.clear()


def test_the_settings_are_told_as_they_came_to_be(engine: Engine) -> None:
    info = engine.info
    assert (info.engine, info.name, info.quantisation) == ("onnx", "Tiny", "FP32")
    assert (info.parameters, info.layers, info.vocabulary) == (1234, 3, 512)
    assert info.settings.kv_type == "f32"
    assert info.chat_template


def test_a_context_that_the_model_does_not_have(tiny_onnx: Path) -> None:
    with pytest.raises(DoesNotFit, match="supports 1024 tokens of context, not 1025"):
        worker.start("onnx", tiny_onnx, replace(SETTINGS, context=1025))


def test_a_token_that_the_model_does_not_have(engine: Engine) -> None:
    with pytest.raises(BadInput, match="from 0 to 511"):
        answer(engine, [1, 512])


def test_a_rewound_cache_is_as_long_as_asked_and_goes_on_as_if_nothing_followed(
    engine: Engine,
) -> None:
    check_rewinding(engine)
