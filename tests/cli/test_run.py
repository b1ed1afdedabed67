"""``pitool run``: where the prompt comes from, what is printed where, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pitool.catalog import manifest
from tests.cli.conftest import Pitool, check_failure, environment

FIGURES = re.compile(
    r"prefill \d+ tokens, [\d.]+ t/s \| decode \d+ tokens, [\d.]+ t/s"
    r"( \| guessed \d+ of \d+)? \| TTFT [\d.]+ s \|"
    r" load [\d.]+ s \| memory \d+ MB( \| stopped at the token limit)?"
)
GREEDY = ("--temp", "0", "--max-tokens", "8")

pytestmark = pytest.mark.engine


def answer(pitool: Pitool, *arguments: object, **rest: Any) -> dict[str, Any]:
    result = pitool("run", *arguments, "--json", **rest)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert len(lines) == 1
    document: dict[str, Any] = json.loads(lines[0])
    return document


# -- what is printed where -----------------------------------------------------------------


@pytest.mark.thorough
def test_the_answer_is_on_stdout_and_the_figures_on_stderr(pitool: Pitool, bundle: Path) -> None:
    told = answer(pitool, bundle, "The quick", *GREEDY)
    result = pitool("run", bundle, "The quick", *GREEDY)
    assert result.code == 0
    assert result.out == told["text"] + "\n"
    assert FIGURES.fullmatch(result.sentence)
    assert "\x1b" not in result.out + result.err


def test_one_document_and_nothing_else(pitool: Pitool, bundle: Path) -> None:
    told = answer(pitool, bundle, "The quick", "--raw", *GREEDY)
    assert told["model"] == "Tiny"
    assert told["quantisation"] == "F16"
    assert told["finish"] in ("length", "stop")
    assert told["prompt_tokens"] == len(told["prompt_ids"])
    assert len(told["ids"]) <= 8
    assert told["ttft_seconds"] > 0
    assert told["peak_memory_bytes"] > 1_000_000


# -- the prompt ----------------------------------------------------------------------------


@pytest.mark.thorough
def test_the_prompt_from_standard_input(pitool: Pitool, bundle: Path) -> None:
    by_argument = answer(pitool, bundle, "naïve 日本 🚀", *GREEDY)
    piped = answer(pitool, bundle, *GREEDY, stdin="  naïve 日本 🚀\n")
    assert piped["prompt_ids"] == by_argument["prompt_ids"]
    assert piped["ids"] == by_argument["ids"]


def test_bytes_that_are_no_text(pitool: Pitool, bundle: Path) -> None:
    told = answer(pitool, bundle, "--raw", *GREEDY, stdin=b"caf\xe9")
    assert told["prompt_ids"]


@pytest.mark.thorough
def test_raw_continues_the_text_and_the_template_wraps_it(pitool: Pitool, bundle: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(checkpoint_of_bundle(bundle) / "tokenizer.json"))
    raw = answer(pitool, bundle, "The quick", "--raw", *GREEDY)
    assert raw["prompt_ids"] == tokenizer.encode("The quick").ids
    wrapped = answer(pitool, bundle, "The quick", "--system", "Be brief.", *GREEDY)
    assert (
        wrapped["prompt_ids"]
        == tokenizer.encode(
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nThe quick<|im_end|>\n"
            "<|im_start|>assistant\n"
        ).ids
    )


def checkpoint_of_bundle(bundle: Path) -> Path:
    return bundle.parent / "tiny"


def test_a_long_prompt_is_no_path(pitool: Pitool, private_home: Path, bundle: Path) -> None:
    place(bundle, private_home)
    told = answer(pitool, "fox " * 60, "--raw", *GREEDY)
    assert told["prompt_tokens"] >= 60


def test_a_prompt_of_several_lines(pitool: Pitool, private_home: Path, bundle: Path) -> None:
    place(bundle, private_home)
    assert answer(pitool, "one\ntwo/three\n", "--raw", *GREEDY)["prompt_ids"]


# -- the bundle ----------------------------------------------------------------------------


def place(bundle: Path, home: Path, name: str = "mine") -> Path:
    shutil.copytree(bundle, home / "bundles" / name)
    return home / "bundles" / name


def test_without_a_bundle_the_newest_is_named(
    pitool: Pitool, private_home: Path, bundle: Path
) -> None:
    old = place(bundle, private_home, "old")
    text = (old / "manifest.json").read_text()
    created = manifest.read(old).created
    (old / "manifest.json").write_text(
        text.replace(created, "2020-01-01T00:00:00+00:00").replace('"name": "tiny"', '"name": "x"')
    )
    place(bundle, private_home, "new")
    result = pitool("run", "The quick", *GREEDY)
    assert result.code == 0
    assert result.err.splitlines()[0] == "bundle: tiny (F16)"


@pytest.mark.thorough
def test_a_bundle_by_its_name(pitool: Pitool, private_home: Path, bundle: Path) -> None:
    place(bundle, private_home)
    assert answer(pitool, "mine", "The quick", *GREEDY)["model"] == "Tiny"
    assert answer(pitool, "mine", *GREEDY, stdin="The quick")["model"] == "Tiny"


def test_quant_picks_an_artifact(pitool: Pitool, bundle: Path) -> None:
    assert answer(pitool, bundle, "x", "--quant", "q8_0", *GREEDY)["quantisation"] == "Q8_0"


def test_a_loose_file(pitool: Pitool, bundle: Path) -> None:
    told = answer(pitool, bundle / "tiny-Q8_0.gguf", "The quick", *GREEDY)
    assert told["quantisation"] == "Q8_0"


# -- sampling ------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_seed_makes_it_repeatable(pitool: Pitool, bundle: Path) -> None:
    def ids(*options: object) -> list[int]:
        told = answer(pitool, bundle, "The", "--max-tokens", 12, "--temp", 1.5, *options)
        return list(told["ids"])

    assert ids("--seed", 7) == ids("--seed", 7)
    assert ids("--seed", 7) != ids("--seed", 8)


def test_max_tokens(pitool: Pitool, bundle: Path) -> None:
    told = answer(pitool, bundle, "The quick", "--raw", "--temp", "0", "--max-tokens", 3)
    assert (len(told["ids"]), told["finish"], told["decoded_tokens"]) == (3, "length", 3)


@pytest.mark.thorough
def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(pitool: Pitool, bundle: Path) -> None:
    whole = answer(pitool, bundle, "The quick", "--raw", *GREEDY)["text"]
    stop = whole[3:5]
    told = answer(pitool, bundle, "The quick", "--raw", *GREEDY, "--stop", stop, "--stop", "zzz")
    assert told["text"] == whole[: whole.index(stop)]
    assert told["finish"] == "stop"


def test_the_context_ends_the_answer(pitool: Pitool, bundle: Path) -> None:
    told = answer(
        pitool, bundle, "fox " * 30, "--raw", "--context", 256, "--temp", 1.5, "--seed", 1
    )
    assert told["finish"] in ("context", "stop")
    assert told["prompt_tokens"] + told["decoded_tokens"] <= 256 + 1


# -- refusals ------------------------------------------------------------------------------


@pytest.mark.thorough
def test_guesses_are_counted_and_can_be_turned_off(pitool: Pitool, bundle: Path) -> None:
    asked = ("one two three four " * 12, "--raw", "--temp", "0", "--max-tokens", "32")
    plain = answer(pitool, bundle, *asked, "--no-speculate")
    guessing = answer(pitool, bundle, *asked)
    assert plain["guessed_tokens"] == 0
    assert guessing["guessed_tokens"] >= guessing["accepted_tokens"]
    assert guessing["ids"] == plain["ids"]


@pytest.mark.thorough
def test_a_draft_model_gives_the_same_answer(pitool: Pitool, bundle: Path) -> None:
    asked = ("The quick", "--temp", "0", "--max-tokens", "32")
    plain = answer(pitool, bundle, *asked, "--no-speculate")
    assert answer(pitool, bundle, *asked, "--draft", bundle)["ids"] == plain["ids"]
    both = pitool("run", bundle, "Hi", "--draft", bundle, "--no-speculate")
    assert "cannot be combined" in check_failure(both, 2)


def test_no_prompt(pitool: Pitool, bundle: Path) -> None:
    sentence = check_failure(pitool("run", bundle, stdin=" \n"), 2)
    assert "the prompt on standard input is empty" in sentence


def test_no_bundle(pitool: Pitool) -> None:
    assert "pitool convert sample" in check_failure(pitool("run", "Hello"), 4)


def test_too_many_words(pitool: Pitool) -> None:
    assert "quote the prompt" in check_failure(pitool("run", "Hello", "my", "friend"), 2)


def test_an_unknown_quantisation_names_the_nearest(pitool: Pitool, bundle: Path) -> None:
    sentence = check_failure(pitool("run", bundle, "x", "--quant", "Q8_1"), 2)
    assert sentence == "pitool: unknown artifact 'Q8_1'; did you mean 'Q8_0'?"


@pytest.mark.parametrize("path", ["./gone", "/gone/bundle", "gone.gguf", "../gone"])
def test_a_path_that_is_not_there(pitool: Pitool, path: str) -> None:
    assert "does not exist" in check_failure(pitool("run", path, stdin="x"), 4)


def test_a_folder_that_is_no_bundle(pitool: Pitool, tmp_path: Path) -> None:
    assert "it has no manifest.json" in check_failure(pitool("run", tmp_path, "x"), 4)


DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda data: data[: len(data) // 2], "is truncated"),
    "cut in the header": (lambda data: data[:2000], "is a damaged GGUF file"),
    "empty": (lambda data: b"", "is too short to be a GGUF file (0 bytes)"),
    "foreign magic": (lambda data: b"ggml" + data[4:], "begins with b'ggml'"),
    "a ZIP archive": (lambda data: b"PK\x03\x04" + data[4:], "begins with a ZIP archive"),
    "another version": (lambda data: data[:4] + b"\x63" + data[5:], "is GGUF version 99"),
    "an architecture that nobody knows": (
        lambda data: data.replace(b"llama", b"lxxxa"),
        "llama.cpp cannot load",
    ),
}


@pytest.mark.thorough
@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file(pitool: Pitool, bundle: Path, tmp_path: Path, case: str) -> None:
    change, message = DAMAGED[case]
    path = tmp_path / "m.gguf"
    path.write_bytes(change((bundle / "tiny-F16.gguf").read_bytes()))
    assert message in check_failure(pitool("run", path, "x"), 4)


def test_a_damaged_artifact_of_a_bundle(pitool: Pitool, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "tiny-F16.gguf").write_bytes(b"GGUF")
    sentence = check_failure(pitool("run", copy, "x"), 4)
    assert re.search(r"tiny-F16\.gguf has 4 bytes, not \d+; copy the bundle again", sentence)


def test_a_newer_manifest(pitool: Pitool, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    path = copy / "manifest.json"
    path.write_text(path.read_text().replace("pitool.schema/1", "pitool.schema/2"))
    assert "update pitool or convert" in check_failure(pitool("run", copy, "x"), 4)


def test_a_prompt_longer_than_the_context(pitool: Pitool, bundle: Path) -> None:
    sentence = check_failure(pitool("run", bundle, "x " * 600, "--context", 256), 3)
    assert "the context has 256" in sentence


def test_more_memory_than_there_is(pitool: Pitool, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    made = json.loads((copy / "manifest.json").read_text())
    made["artifacts"][0]["memory"][0]["bytes"] = 1 << 50
    (copy / "manifest.json").write_text(json.dumps(made))
    assert "--force" in check_failure(pitool("run", copy, "x", *GREEDY), 3)
    assert pitool("run", copy, "x", *GREEDY, "--force").code == 0


def test_a_reader_that_goes_away(bundle: Path) -> None:
    command = [
        sys.executable, "-m", "pitool", "run", str(bundle), "The quick", "--raw", "--temp", "0",
        "--max-tokens", "30",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2], env=environment(),
    ) as process:  # fmt: skip
        assert process.stdout and process.stderr
        # Before the model is loaded, so that nothing can have been written yet.
        process.stdout.close()
        try:
            code = process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        err = process.stderr.read().decode()
    assert code == 141
    assert err == ""
