"""Prompts that were read before: found by whoever loads the bundle, with the answers of reading."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pitool.catalog import manifest
from pitool.catalog.bundles import Bundle, Runnable, choose
from pitool.catalog.manifest import Artifact, Manifest, Source
from pitool.device.detect import detect
from pitool.device.settings import untuned
from pitool.engine import worker
from pitool.engine.base import ChatPrompt, Message, Sampling, Settings
from pitool.engine.prefills import bundled as prefills
from pitool.engine.prefills.keys import portable_model_of
from pitool.engine.worker import WorkerEngine
from pitool.errors import DoesNotFit, UsageError
from tests.convert.helpers import write_float
from tests.engine.onnx_graph import write_folder
from tests.tiny import write_checkpoint

pytestmark = pytest.mark.engine

GREEDY = Sampling(temperature=0, max_tokens=12)
TOOLS = ({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}},)
SYSTEM = ChatPrompt((Message("system", "You know boards. " * 40),))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a GGUF and an ONNX folder in float32."""
    folder = tmp_path_factory.mktemp("prefills")
    checkpoint = write_checkpoint(folder / "tiny", num_hidden_layers=2)
    path = folder / "bundle"
    path.mkdir()
    write_float(checkpoint, path / "tiny-F32.gguf", "F32")
    write_folder(checkpoint, path / "onnx-fp32")
    files = {
        "F32": [path / "tiny-F32.gguf"],
        "FP32": sorted((path / "onnx-fp32").rglob("*.*"), key=lambda each: each.suffix != ".onnx"),
    }
    artifacts = tuple(
        Artifact(
            form, kind, tuple(manifest.file_entry(each, path) for each in files[kind]), "llama", 1,
            1024, 32.0, (), (), kv_type="f32",
        )
        for form, kind in (("gguf", "F32"), ("onnx", "FP32"))
    )  # fmt: skip
    source = Source("tiny", None, ())
    manifest.write(path, Manifest("tiny", source, "1gb", None, "2026", {}, artifacts))
    return path


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(made, tmp_path / "bundle")
    return Bundle(tmp_path / "bundle", manifest.read(tmp_path / "bundle"))


def settings(runnable: Runnable) -> Settings:
    return replace(untuned(runnable, 1024, detect()), decode_threads=1, prefill_threads=1)


@contextmanager
def loaded(runnable: Runnable, chosen: Settings | None = None) -> Iterator[WorkerEngine]:
    chosen = chosen or settings(runnable)
    places = prefills.places_of(runnable, chosen)
    with worker.start(runnable.format, runnable.entry, chosen, prefixes=places) as engine:
        yield engine


def read(runnable: Runnable, name: str = "system", *, compact: bool = False) -> int:
    assert runnable.bundle is not None
    text = runnable.bundle.parent / f"{name}.txt"
    text.write_text(SYSTEM.messages[0].content)
    prefills.add_prompt(runnable.bundle, text)
    told: list[tuple[int, int]] = []
    with loaded(runnable) as engine:
        done = prefills.read(
            engine, runnable, name, SYSTEM, lambda *each: told.append(each), compact=compact
        )
    assert told[-1] == (done.tokens, done.tokens)
    (path,) = prefills.states(runnable.bundle, name, runnable.quantisation)
    assert done.bytes == path.stat().st_size
    return done.tokens


def asked(engine: WorkerEngine, question: str = "Which board?") -> tuple[int, list[int]]:
    """Return how many tokens of the prompt were there, and the answer."""
    prompt = ChatPrompt((*SYSTEM.messages, Message("user", question)))
    tokens = list(engine.stream(prompt, GREEDY))
    return tokens[-1].timings.reused_tokens, [t.id for t in tokens if t.id is not None]


@pytest.mark.thorough
@pytest.mark.parametrize("quantisation", ["F32", "FP32"])
def test_the_answers_are_those_of_reading(bundle: Bundle, quantisation: str) -> None:
    runnable = choose(bundle, quantisation)
    with loaded(runnable) as engine:
        expected = {text: asked(engine, text)[1] for text in ("Which board?", "1", "é")}
    assert not prefills.is_read(runnable, settings(runnable), "system")
    count = read(runnable)
    assert prefills.is_read(runnable, settings(runnable), "system")
    for text, answer in expected.items():
        with loaded(runnable) as engine:
            assert asked(engine, text) == (count, answer)


@pytest.mark.thorough
def test_settings_that_change_no_key_or_value_find_it_and_others_do_not(bundle: Bundle) -> None:
    runnable = choose(bundle, "F32")
    count = read(runnable)
    usual = settings(runnable)
    for alike in (
        replace(usual, context=2048, sequences=2), replace(usual, micro_batch=64, repack=False),
        replace(usual, load_mode="read", flash_attention="on"),
    ):  # fmt: skip
        with loaded(runnable, alike) as engine:
            assert asked(engine)[0] == count
    for other in (replace(usual, kv_type="f16"), replace(usual, flash_attention="off")):
        assert "not read yet" in prefills.words(runnable, other)
        with loaded(runnable, other) as engine:
            assert asked(engine)[0] == 0
    assert prefills.words(runnable, usual) == "read before: system"


def test_the_key_is_the_same_on_another_machine(bundle: Bundle, tmp_path: Path) -> None:
    runnable = choose(bundle, "F32")
    shutil.copytree(bundle.path, tmp_path / "elsewhere")
    copied = choose(Bundle(tmp_path / "elsewhere", bundle.manifest), "F32")
    assert portable_model_of(copied, settings(copied)) == portable_model_of(
        runnable, settings(runnable)
    )
    assert runnable.artifact is not None
    file = replace(runnable.artifact.files[0], sha256="0" * 64)
    other = replace(runnable, artifact=replace(runnable.artifact, files=(file,)))
    assert portable_model_of(other, settings(other)) != portable_model_of(
        runnable, settings(runnable)
    )


def test_another_version_of_the_engine_reads_it_again(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    runnable = choose(bundle, "F32")
    read(runnable)
    monkeypatch.setattr("importlib.metadata.version", lambda _: "99")
    assert "pitool prefill reads it once" in prefills.words(runnable, settings(runnable))


@pytest.mark.thorough
def test_one_in_q8_0_is_found_too_and_half_as_large(bundle: Bundle) -> None:
    runnable = choose(bundle, "F32")
    read(runnable)
    (plain,) = prefills.states(bundle.path, "system", "F32")
    size = plain.stat().st_size
    count = read(runnable, compact=True)
    (packed,) = prefills.states(bundle.path, "system", "F32")
    assert packed.stat().st_size < 0.3 * size
    with loaded(runnable) as engine:
        assert asked(engine)[0] == count
    with pytest.raises(UsageError, match="leave out --compact"):
        read(choose(bundle, "FP32"), compact=True)


@pytest.mark.thorough
@pytest.mark.parametrize("quantisation", ["F32", "FP32"])
def test_a_damaged_one_is_left_alone_and_read_again(bundle: Bundle, quantisation: str) -> None:
    runnable = choose(bundle, quantisation)
    with loaded(runnable) as engine:
        expected = asked(engine)[1]
    read(runnable)
    (path,) = prefills.states(bundle.path, "system", quantisation)
    data = bytearray(path.read_bytes())
    data[-9] ^= 8
    path.write_bytes(data)
    with loaded(runnable) as engine:
        assert asked(engine) == (0, expected)
        assert asked(engine)[1] == expected
    assert path.read_bytes() == data


def test_a_prompt_that_changed_takes_what_was_read_of_it_along(bundle: Bundle) -> None:
    runnable = choose(bundle, "F32")
    read(runnable)
    file = bundle.path.parent / "system.txt"
    prefills.add_prompt(bundle.path, file)
    assert prefills.is_read(runnable, settings(runnable), "system")  # it is the same
    file.write_text("Something else. " * 200)
    prefills.add_prompt(bundle.path, file)
    assert prefills.states(bundle.path, "system", "F32") == []
    assert prefills.prompts(bundle.path)["system"].read_text().startswith("Something else")
    turned = file.with_suffix(".json")
    turned.write_text(json.dumps({"messages": [{"role": "system", "content": "x"}]}))
    prefills.add_prompt(bundle.path, turned)
    assert [path.suffix for path in prefills.prompts(bundle.path).values()] == [".json"]
    prefills.remove(bundle.path, "system")
    assert not (bundle.path / "prefills").exists()


@pytest.mark.parametrize("name", ["a b.txt", "*.txt", "system.md", ".txt", "x" * 80 + ".txt"])
def test_what_is_no_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the name of a prompt"):
        prefills.name_of(tmp_path / name)


def test_a_prompt_that_is_too_short_or_too_long(bundle: Bundle) -> None:
    runnable = choose(bundle, "F32")
    with loaded(runnable) as engine:
        for words, error in ((3, UsageError), (3000, DoesNotFit)):
            prompt = ChatPrompt((Message("system", "word " * words),))
            with pytest.raises(error, match="tokens"):
                prefills.read(engine, runnable, "system", prompt, lambda *_: None)
    assert prefills.states(bundle.path, "system", "F32") == []


def test_what_is_shared_ends_where_the_question_begins(bundle: Bundle) -> None:
    with loaded(choose(bundle, "F32")) as engine:
        ids = prefills.shared_beginning(engine, SYSTEM)
        whole = engine.tokenize([*SYSTEM.messages, Message("user", "Which?")])
        assert whole[: len(ids)] == ids
        assert engine.detokenize(ids).endswith("<|im_start|>user\n")
