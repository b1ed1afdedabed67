"""What clients that alternate, and one that comes back after a restart, have read again.

With the sample model in float32: a prefix that is found again changes no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.engine.prefills.files import Place
from tests.convert.helpers import write_float
from tests.serve.harness import CHAT, Serving, ask, serving

pytestmark = [pytest.mark.engine, pytest.mark.network]

SAMPLE = Path(__file__).parents[2] / "recipes" / "sample" / "checkpoint"
QUESTIONS = ("What is a Raspberry Pi?", "How much RAM does the Pi 5 have?", "Which board is best?")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_float(SAMPLE, tmp_path_factory.mktemp("sample") / "sample-F32.gguf", "F32")


@contextmanager
def served(file: Path, folder: Path, sequences: int) -> Iterator[Serving]:
    settings = Settings(
        512 * sequences, 1, 1, sequences=sequences, kv_type="f32", flash_attention="off"
    )
    engine = worker.start("gguf", file, settings, prefixes=[Place(str(folder), "m" * 32)])
    with serving(engine) as server:
        yield server


class Talk:
    """A conversation: its turns, and how many tokens of each prompt were read."""

    def __init__(self, subject: str) -> None:
        self.turns = [{"role": "system", "content": f"You help with {subject}. " * 30}]
        self.answers: list[str] = []

    def ask(self, server: Serving, question: str) -> int:
        """Ask a question and return how many tokens of the prompt were not in a cache."""
        self.turns.append({"role": "user", "content": question})
        body = {"messages": self.turns, "max_tokens": 12, "temperature": 0}
        status, reply = ask(server, CHAT, body)
        assert status == 200, reply
        self.answers.append(reply["choices"][0]["message"]["content"])
        self.turns.append({"role": "assistant", "content": self.answers[-1]})
        usage: dict[str, Any] = reply["usage"]
        return int(usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"])


def talks(server: Serving, *subjects: str) -> list[list[str]]:
    """Return the answers of conversations that each have the server for themselves."""
    found = []
    for subject in subjects:
        talk = Talk(subject)
        for question in QUESTIONS:
            talk.ask(server, question)
        found.append(talk.answers)
    return found


@pytest.mark.thorough
def test_clients_that_alternate_do_not_read_their_prompts_again(file: Path, tmp_path: Path) -> None:
    with served(file, tmp_path / "alone", 1) as server:
        alone = talks(server, "gardens", "cars")
    with served(file, tmp_path / "both", 2) as server:
        both = [Talk("gardens"), Talk("cars")]
        first = [talk.ask(server, QUESTIONS[0]) for talk in both]
        later = [talk.ask(server, question) for question in QUESTIONS[1:] for talk in both]
    assert [talk.answers for talk in both] == alone
    assert min(first) > 100
    assert max(later) < 40  # the question and the marks around it


@pytest.mark.thorough
def test_a_client_comes_back_after_a_restart(file: Path, tmp_path: Path) -> None:
    """One conversation made room for others before, another was there at the end."""
    early, late = Talk("gardens"), Talk("old and new cars")
    with served(file, tmp_path, 1) as server:
        assert early.ask(server, QUESTIONS[0]) > 100
        assert late.ask(server, QUESTIONS[0]) > 100
    with served(file, tmp_path, 1) as server:
        assert [talk.ask(server, QUESTIONS[1]) < 40 for talk in (early, late)] == [True, True]
    with served(file, tmp_path / "new", 1) as server:
        fresh = [Talk("gardens"), Talk("old and new cars")]
        for talk in fresh:
            for question in QUESTIONS[:2]:
                talk.ask(server, question)
    assert [talk.answers for talk in (early, late)] == [talk.answers for talk in fresh]
