"""``pitool compare`` as a user runs it: rows, forms, resuming, and what goes wrong."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pitool.catalog import bundles
from pitool.checkpoint.source import Source
from pitool.convert.techniques import find_technique
from pitool.convert.techniques.base import Technique
from pitool.errors import PitoolError, UsageError
from pitool.lab import making, output
from pitool.lab.compare import CompareOptions, compare, with_baseline
from pitool.lab.page import to_html
from pitool.lab.result import Comparison
from pitool.report.progress import Stages
from tests.cli.conftest import Pitool
from tests.cli.conftest import call as call
from tests.convert.helpers import convert_folder
from tests.small_tokenizers import write as write_tokenized
from tests.tiny import write_checkpoint

pytestmark = pytest.mark.engine

TEXT = "A Raspberry Pi has 4 cores and 8 GB of memory; it costs less than 100 dollars. " * 60
NAMES = ("fp32", "q8_0", "block-int8-64", "kmeans-4bit", "gptq-int4")


def options(tmp_path: Path, *names: str, **changes: Any) -> CompareOptions:
    path = tmp_path / "notes.txt"
    path.write_text(TEXT)
    plain = CompareOptions(tuple(map(find_technique, names)), ("Hello", "What is a Pi?"), path)
    return replace(plain, **changes)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = write_checkpoint(tmp_path_factory.mktemp("lab") / "tiny", num_hidden_layers=1)
    return Source("tiny", None, folder)


def run(source: Source, asked: CompareOptions) -> Comparison:
    with Stages() as progress:
        return compare(source, asked, progress)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``comparison``, with its ``home`` and what it ``saved``."""
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(scope="module")
def comparison(source: Source, done: Path) -> Comparison:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PITOOL_HOME", str(done / "home"))
        patch.setenv("PITOOL_CACHE", str(done / "cache"))
        return run(source, options(done, *NAMES, save=done / "saved", tier=("1gb", 10**9)))


@pytest.fixture
def resumed(comparison: Comparison, done: Path, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """A comparison whose results a test finds in its home, so that none is made twice."""
    monkeypatch.setenv("PITOOL_HOME", str(done / "home"))
    return comparison


@pytest.mark.thorough
def test_rows_have_figures_and_only_what_runs_has_speeds(comparison: Comparison) -> None:
    rows = {row.technique: row for row in comparison.rows}
    assert list(rows) == list(NAMES)
    assert all(row.done for row in rows.values()), [row.error for row in rows.values()]
    for name, row in rows.items():
        assert row.quality
        assert len(row.answers) == 2
        assert row.bytes > 0
        assert (row.running is None) == (name == "kmeans-4bit")
        assert comparison.fits(row) is (None if name == "kmeans-4bit" else True)
    base = rows["fp32"]
    assert base.quality
    assert base.quality.mean_kl < 1e-5
    assert base.similarity == 1.0
    losses = [rows[n].quality.mean_kl for n in ("q8_0", "kmeans-4bit")]  # type: ignore[union-attr]
    assert losses[0] < losses[1]
    assert comparison.compression(rows["q8_0"]) == pytest.approx(32 / 8.5, rel=0.1)
    assert rows["kmeans-4bit"].bits_per_weight < rows["q8_0"].bits_per_weight
    assert rows["gptq-int4"].format == "onnx"


def test_every_form_has_every_row(comparison: Comparison) -> None:
    document = json.loads(json.dumps(output.to_json(comparison)))
    assert [row["technique"] for row in document["rows"]] == list(NAMES)
    assert {each["use"] for each in document["recommendations"]} == {
        "quick deployment", "edge device", "efficient fine-tuning", "best 4-bit quality",
    }  # fmt: skip
    table = list(csv.DictReader(io.StringIO(output.to_csv(comparison))))
    assert [row["technique"] for row in table] == list(NAMES)
    markdown = output.to_markdown(comparison)
    assert all(f"| {name} |" in markdown or f"`{name}`" in markdown for name in NAMES)
    page = to_html(comparison)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert page.count("<svg") >= 2
    HTMLParser().feed(page)
    assert all(name in page for name in NAMES)


def test_what_is_done_is_not_done_again(
    source: Source, resumed: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(making, "make", fail)
    again = run(source, options(tmp_path, *NAMES, tier=("1gb", 10**9)))
    assert again == resumed
    with pytest.raises(AssertionError, match="made again"):  # another text is another comparison
        (tmp_path / "other").mkdir()
        changed = options(tmp_path / "other", "q8_0")
        assert changed.text
        changed.text.write_text(TEXT + "More.")
        run(source, changed)


@pytest.mark.thorough
def test_one_that_fails_has_its_reason_and_the_rest_goes_on(
    source: Source, resumed: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = making.make

    def fail(order: Any, progress: Any) -> Any:
        if order.technique == "q6_k":
            raise PitoolError("it broke", "mend it")
        if order.technique == "q4_0":
            raise OSError(28, "No space left on device")
        return make(order, progress)

    monkeypatch.setattr(making, "make", fail)
    found = run(source, options(tmp_path, "q6_k", "q4_0", "fp16"))
    errors = {row.technique: row.error for row in found.rows}
    assert errors == {
        "fp32": None, "q6_k": "it broke; mend it", "q4_0": "disk error: No space left on device",
        "fp16": None,
    }  # fmt: skip
    assert "- `q6_k`: it broke; mend it." in output.to_markdown(found)
    monkeypatch.setattr(making, "make", make)
    again = run(source, options(tmp_path, "q6_k"))  # a failure is no result that is kept
    assert again.rows[1].done


@pytest.mark.thorough
def test_an_empty_text_leaves_out_what_calibrates_only(source: Source, tmp_path: Path) -> None:
    asked = options(tmp_path, "gptq-int4")
    assert asked.text
    asked.text.write_text("")
    found = run(source, asked)
    rows = {row.technique: row for row in found.rows}
    assert found.text == f"the built-in text instead of {asked.text.name}, which has 0 tokens"
    assert "needs a calibration text" in (rows["gptq-int4"].error or "")
    assert rows["fp32"].done


def test_saved_bundles_run(call: Pitool, resumed: Comparison, done: Path) -> None:
    """Of kmeans-4bit there is none, which no runtime has a kernel for."""
    saved = done / "saved"
    assert {path.name for path in saved.iterdir()} == {
        f"tiny-{row.technique}" for row in resumed.rows if row.technique != "kmeans-4bit"
    }
    made = bundles.open_bundle(saved / "tiny-gptq-int4")
    assert made.manifest.artifacts[0].certificate
    ran = call("run", made.path, "Hello", "--max-tokens", 4)
    assert ran.code == 0, ran.err
    assert call("verify", made.path).code == 0


@pytest.mark.thorough
def test_a_saved_bundle_is_tokenized_as_a_converted_one(tmp_path: Path) -> None:
    """Of Mistral's kind, which llama.cpp cannot do by metadata: by the bundle's tokenizer.json."""
    folder, saved = write_tokenized(tmp_path / "spaced", "mistral-0.3"), tmp_path / "saved"
    run(Source("spaced", None, folder), options(tmp_path, "q8_0", save=saved))
    converted = convert_folder(folder, tmp_path / "converted", "Q8_0").manifest.artifacts[0]
    (artifact,) = bundles.open_bundle(saved / "spaced-q8_0").manifest.artifacts
    assert artifact.tokenization
    assert artifact.tokenization == converted.tokenization
    assert artifact.tokenization.folder
    assert {f.path for f in artifact.files} >= {f"{artifact.tokenization.folder}/tokenizer.json"}


def test_the_baseline_comes_first_and_once() -> None:
    found = with_baseline(tuple(map(find_technique, ("q8_0", "fp32", "q8_0"))))
    assert [technique.name for technique in found] == ["fp32", "q8_0"]


WRONG: dict[str, tuple[list[str], int, str]] = {
    "no model": ([], 2, "no model given"),
    "unknown technique": (["sample", "--techniques", "gptq-int5"], 2, "did you mean 'gptq-int4'"),
    "no technique": (["sample", "--techniques", ","], 2, "--techniques is empty"),
    "two forms": (["sample", "--json", "--csv"], 2, "choose one of them"),
    "no prompts": (["sample", "--prompts", "nothing.txt"], 4, "nothing.txt does not exist"),
    "no text": (["sample", "--text", "nothing.txt"], 4, "nothing.txt does not exist"),
    "no folder for the page": (["sample", "--html", "no/where.html"], 2, "no is not a folder"),
    "no such model": (["nowhere"], 4, "'nowhere' is not a folder, a hub id or a recipe"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs_are_one_sentence(call: Pitool, case: str) -> None:
    words, code, said = WRONG[case]
    result = call("compare", *words)
    assert (result.code, result.out) == (code, "")
    assert said in result.sentence
    assert "Traceback" not in result.err


def test_the_list_says_what_each_is(call: Pitool) -> None:
    rows = json.loads(call("compare", "--list", "--json").out)
    by_name = {row["name"]: row for row in rows}
    assert by_name["gptq-int4"]["kernel"] == "onnxruntime"
    assert by_name["kmeans-4bit"]["kernel"] is None
    assert by_name["qat-int4"]["needs"] == ["calibration text", "torch"]


def test_a_technique_is_found_by_any_case() -> None:
    assert isinstance(find_technique("GPTQ-INT4"), Technique)
    with pytest.raises(UsageError):
        find_technique("")
