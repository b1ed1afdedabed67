"""The worker process: the protocol survives the pipe, and a death is one sentence."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pitool.engine import serialisation, worker
from pitool.engine.base import (
    ChatPrompt,
    Message,
    Prompt,
    Sampling,
    Settings,
    Timings,
    Token,
    TokenProbability,
    ToolCall,
)
from pitool.engine.scripted import Scripted
from pitool.engine.worker import WorkerEngine
from pitool.errors import BadInput, Interrupted, PitoolError, WorkerDied
from pitool.process.child import Child

SETTINGS = Settings(context=512, decode_threads=1, prefill_threads=2)


def script(tmp_path: Path, **arguments: Any) -> Path:
    path = tmp_path / "script.json"
    path.write_text(json.dumps(arguments))
    return path


def open_script(tmp_path: Path, **arguments: Any) -> WorkerEngine:
    return worker.start("script", script(tmp_path, **arguments), SETTINGS)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[WorkerEngine]:
    """An engine that talks for a minute."""
    with open_script(
        tmp_path, answers=["word " * 600], decode_rate=10.0, real_time=True, prefill_rate=1e6
    ) as engine:
        yield engine


def test_a_worker_answers_as_the_engine_itself_would(tmp_path: Path) -> None:
    arguments = {"answers": ["one two three", "four"], "decode_rate": 20.0}
    here = Scripted(**arguments, settings=SETTINGS)  # type: ignore[arg-type]
    prompts: list[Any] = ["raw", [Message("user", "hé")], [1, 2, 3]]
    with open_script(tmp_path, **arguments) as there:
        assert asdict(there.info) == asdict(here.info)
        for prompt in prompts:
            assert there.tokenize(prompt) == here.tokenize(prompt)
            sampling = Sampling(seed=1, stop=("x",))
            assert list(there.stream(prompt, sampling)) == list(here.stream(prompt, sampling))
        assert there.detokenize([104, 105]) == "hi"
        assert there.time_forward([1] * 40, one_by_one=True) == pytest.approx(2.0)
        np.testing.assert_array_equal(there.logits([3, 4]), here.logits([3, 4]))
        texts: list[str | list[int]] = ["hello", [1, 2, 2]]
        np.testing.assert_array_equal(there.embed(texts).vectors, here.embed(texts).vectors)
        assert there.embed(texts).tokens == (5, 3)
        there.clear()
        there.save_state(tmp_path / "state")
        assert there.load_state(tmp_path / "state") == 0


@pytest.mark.parametrize("prompt", ["half \ud83d", [Message("user", "caf\udce9")]])
def test_text_that_is_no_unicode_is_replaced(tmp_path: Path, prompt: Prompt) -> None:
    with open_script(tmp_path) as engine:
        assert engine.detokenize(engine.tokenize(prompt)).rstrip().endswith("\ufffd")
        assert list(engine.stream(prompt, Sampling()))[-1].finish == "stop"


def test_a_load_that_is_given_up_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    class Noted(Child):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            started.append(self.pid)

    monkeypatch.setattr(worker, "Child", Noted)

    def refuse(_: float) -> None:
        raise Interrupted("the load was stopped")

    with pytest.raises(Interrupted):
        worker.start("script", script(tmp_path), SETTINGS, refuse)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_progress_of_loading_is_told(tmp_path: Path) -> None:
    shares: list[float] = []
    with worker.start("script", script(tmp_path), SETTINGS, shares.append):
        assert shares[-1] == 1.0


def test_an_error_in_the_child_is_raised_here_and_the_child_lives(tmp_path: Path) -> None:
    with open_script(tmp_path, answers=["a b c d"], fail_after=2) as engine:
        came = ""
        with pytest.raises(PitoolError, match="told to fail") as caught:
            for token in engine.stream("go", Sampling()):
                came += token.text
        assert (came, caught.value.do) == ("a b", "ask again")
        assert engine.tokenize("still there")


def test_an_error_while_loading_ends_the_child(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        worker.start("gguf", tmp_path / "none.gguf", SETTINGS)


def test_cancel_from_another_thread_ends_the_answer(slow: WorkerEngine) -> None:
    threading.Timer(0.3, slow.cancel).start()
    tokens = list(slow.stream("go", Sampling()))
    assert tokens[-1].finish == "cancelled"
    assert 0 < tokens[-1].timings.decoded_tokens < 600


def test_leaving_a_stream_early_frees_the_engine(slow: WorkerEngine) -> None:
    stream = slow.stream("go", Sampling())
    next(t for t in stream if t.text)
    stream.close()  # type: ignore[attr-defined]
    assert next(iter(slow.stream("again", Sampling()))).timings.prompt_tokens == 5


def test_leaving_a_stream_that_has_ended_in_the_pipe_waits_for_nothing(tmp_path: Path) -> None:
    with open_script(tmp_path, answers=["all at once"]) as engine:
        for token in (stream := engine.stream("go", Sampling())):
            if token.text:
                break
        stream.close()  # type: ignore[attr-defined]
        assert list(engine.stream("go", Sampling()))[-1].finish == "stop"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "killed, most likely because memory ran out"),
        (signal.SIGILL, "an instruction that this CPU does not have"),
        (signal.SIGSEGV, "a memory fault"),
        (signal.SIGTERM, "terminated by another process"),
    ],
)
def test_a_death_in_the_middle_of_an_answer_is_one_sentence(
    slow: WorkerEngine, number: signal.Signals, words: str
) -> None:
    said = []
    with pytest.raises(WorkerDied, match=words) as caught:
        for token in slow.stream("go", Sampling()):
            said.append(token.text)
            if token.text:
                os.kill(slow.pid, number)
    assert any(said)
    assert caught.value.do
    with pytest.raises(WorkerDied):
        slow.tokenize("dead for good")


def test_close_returns_when_the_child_is_gone(tmp_path: Path) -> None:
    engine = open_script(tmp_path)
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(engine.pid, 0)
    engine.close()


def test_the_child_does_not_outlive_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal\nfrom pathlib import Path\nfrom pitool.engine import worker\n"
        "from pitool.engine.base import Settings\n"
        "e = worker.start('script', Path(sys.argv[1]), Settings(512, 1, 1))\n"
        "print(e.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(script(tmp_path))],
        capture_output=True,
        text=True,
        check=False,
    )
    child = int(process.stdout)
    for _ in range(500):
        if not Path(f"/proc/{child}").exists() or _is_zombie(child):
            return
        time.sleep(0.02)
    pytest.fail("the child is still there")


def _is_zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


TIMINGS = Timings(1, 2, 3, 4.5, 5.5, 6, 7.5)


@pytest.mark.parametrize(
    "token",
    [
        Token("é", 7, TIMINGS, "stop"),
        Token("", None, TIMINGS),
        Token("a", 7, TIMINGS, chosen=TokenProbability(7, b"a\xc3", -0.5)),
        Token(
            "a",
            7,
            TIMINGS,
            chosen=TokenProbability(7, b"a", -2.0),
            top=(TokenProbability(8, b"", -0.25), TokenProbability(7, b"a", -math.inf)),
        ),
    ],
)
def test_tokens_survive_the_wire(token: Token) -> None:
    sent = json.loads(json.dumps(serialisation.token_to_json(token)))
    assert serialisation.token_from_json(sent) == token


CALL = ToolCall("Ab3dEf9hI", "weather", '{"city": "Köln"}')
TURNS = (
    Message("user", "Rain?"),
    Message("assistant", "", (CALL,), reasoning="They ask for rain."),
    Message("tool", "none", call_id=CALL.id, name="weather"),
)


@pytest.mark.parametrize(
    "prompt",
    [
        "text",
        "",
        [1, 2],
        list(TURNS),
        ChatPrompt(TURNS),
        ChatPrompt(
            TURNS[:2],
            ({"type": "function", "function": {"name": "weather"}},),
            {"enable_thinking": False},
            continue_last=True,
        ),
    ],
    ids=["text", "empty", "ids", "conversation", "chat", "chat with all"],
)
def test_prompts_survive_the_wire(prompt: Prompt) -> None:
    sent = json.loads(json.dumps(serialisation.prompt_to_json(prompt)))
    assert serialisation.prompt_from_json(sent) == prompt


def test_sampling_survives_the_wire() -> None:
    sampling = Sampling(
        stop=("a", "b"),
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logit_bias=((3, -100.0), (4, 1.5)),
        grammar='root ::= "a"',
        triggers=("<tool_call>",),
        top_logprobs=3,
        max_tokens=5,
        seed=-1,
    )
    changed = [f.name for f in fields(Sampling) if getattr(sampling, f.name) != f.default]
    sent = json.loads(json.dumps(asdict(sampling)))
    assert serialisation.sampling_from_json(sent) == sampling
    assert {"stop", "logit_bias", "triggers"} <= set(changed)


def test_what_is_loaded_survives_the_wire() -> None:
    info = replace(
        Scripted(settings=SETTINGS).info,
        chat_format="hermes",
        template_names=("messages", "tools"),
        task="embed",
        embedding=384,
    )
    sent = json.loads(json.dumps(serialisation.info_to_json(info)))
    assert serialisation.info_from_json(sent) == info


@pytest.mark.timeout(120)
def test_a_worker_that_was_stopped_is_closed_from_another_thread(slow: WorkerEngine) -> None:
    stream = slow.stream("go", Sampling())
    next(t for t in stream if t.text)
    os.kill(slow.pid, signal.SIGSTOP)
    said: list[str] = []

    def wait() -> None:
        with pytest.raises(WorkerDied) as caught:
            list(stream)
        said.append(caught.value.sentence)

    waiting = threading.Thread(target=wait)
    waiting.start()
    slow.close()
    waiting.join()
    assert said == ["the model process was closed; load the model again"]
    with pytest.raises(ProcessLookupError):
        os.kill(slow.pid, 0)
