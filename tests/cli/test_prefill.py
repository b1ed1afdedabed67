"""``pitool prefill``, and those who use what it has read."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import Pitool, check_failure

pytestmark = pytest.mark.engine

SYSTEM = "You know every board and its memory. " * 12
TURNS = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": "Which?"},
    {"role": "assistant", "content": "The fifth."},
]


@pytest.fixture
def here(bundle: Path, tmp_path: Path) -> Path:
    """A folder with a bundle of its own and two prompts."""
    shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "system.txt").write_text(SYSTEM)
    (tmp_path / "talk.json").write_text(json.dumps({"messages": TURNS}))
    return tmp_path


def reused(pitool: Pitool, folder: Path, *words: object) -> tuple[int, int]:
    """Return how many tokens of a prompt were there, and how many it has."""
    done = pitool("run", folder / "bundle", "And?", "--max-tokens", 2, "--json", *words)
    assert done.code == 0, done.err
    made = json.loads(done.out)
    return made["reused_tokens"], made["prompt_tokens"]


@pytest.mark.thorough
def test_a_prompt_is_read_once_and_used_from_then_on(call: Pitool, here: Path) -> None:
    done = call("prefill", here / "bundle", here / "system.txt", "--json")
    assert done.code == 0, done.err
    (made,) = json.loads(done.out)
    assert (made["name"], made["quantisation"]) == ("system", "F16")
    for words in (("--prefill", "system"), ("--system", SYSTEM.strip())):
        found, whole = reused(call, here, *words)
        assert made["tokens"] == found > whole - 20
    assert reused(call, here, "--system", "Else.")[0] == 0
    said = call("run", here / "bundle", "And?", "--max-tokens", 2, "--prefill", "system")
    assert "read before: system" in said.err
    assert f"({made['tokens']} reused)" in said.err


@pytest.mark.thorough
def test_the_prompts_of_a_bundle_are_read_where_they_have_to_be(call: Pitool, here: Path) -> None:
    call("prefill", here / "bundle", here / "system.txt")
    call("prefill", here / "bundle", here / "talk.json", "--compact")
    assert call("prefill", here / "bundle").out == "read before: system, talk\n"
    shown = json.loads(call("show", here / "bundle", "--json").out)
    assert shown["prompts"] == {"system": ["F16"], "talk": ["F16"]}
    assert "prompt: talk, read with F16" in call("show", here / "bundle").out
    done = call("prefill", here / "bundle", "--quant", "Q8_0")
    assert [line.split(":")[0] for line in done.out.splitlines()] == [
        "system for Q8_0", "talk for Q8_0",
    ]  # fmt: skip
    found, whole = reused(call, here, "--prefill", "talk", "--quant", "Q8_0")
    assert found > whole - 20
    assert call("prefill", here / "bundle", "--remove", "talk").code == 0
    assert "not read" not in call("run", here / "bundle", "x", "--max-tokens", 1).err
    names = {path.name.partition(".")[0] for path in (here / "bundle/prefills").iterdir()}
    assert names == {"system"}


def test_a_file_that_was_not_read_begins_a_conversation_too(call: Pitool, here: Path) -> None:
    assert reused(call, here, "--prefill", here / "talk.json")[0] == 0
    assert reused(call, here, "--prefill", here / "talk.json")[1] > 256


@pytest.mark.thorough
def test_what_was_read_goes_with_the_archive(call: Pitool, here: Path) -> None:
    archive = here / "some.pi"
    words = ("--board", "pi5", "--model-only", "-o", archive, "--quant", "Q8_0")
    done = call("pack", here / "bundle", *words, "--prefill", here / "system.txt")
    assert done.code == 0, done.err
    assert "system for Q8_0" in done.err
    call("prefill", here / "bundle", here / "system.txt")  # for an artifact that is not packed
    assert call("pack", here / "bundle", *words).code == 0
    with tarfile.open(archive) as tar:
        tar.extractall(here / "there", filter="data")
    there = here / "there" / "bundles"
    found = sorted(path.name for path in (there / "bundle/prefills").iterdir())
    assert [name.partition("-")[0] for name in found] == ["system.Q8_0", "system.txt"]
    count, whole = reused(call, there, "--prefill", "system")
    assert count > whole - 20


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("bundle",), 2, "has no prompts"),
        (("bundle", "none.txt"), 4, "none.txt"),
        (("bundle", "bundle/manifest.json"), 4, "'messages' is not a list"),
        (("bundle", "short.txt"), 2, "tokens before a question"),
        (("bundle", "--remove", "x"), 2, "prompt of this bundle"),
        (("none", "system.txt"), 4, "does not exist"),
    ],
)
def test_what_cannot_be_read(
    words: tuple[str, ...], code: int, said: str, call: Pitool, here: Path
) -> None:
    (here / "short.txt").write_text("Hi.")
    paths = [word if word.startswith("--") or word == "x" else here / word for word in words]
    assert said in check_failure(call("prefill", *paths), code)
