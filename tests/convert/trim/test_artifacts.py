"""What is made of a model with a part of its vocabulary, against the whole model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from gguf import GGUFReader, GGUFValueType, GGUFWriter, Keys
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata
from tokenizers import Tokenizer

from pitool.catalog import manifest
from pitool.catalog.gguf import read_header
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.checkpoint.selected import select
from pitool.checkpoint.source import Source
from pitool.checkpoint.tensors import Tensor
from pitool.cli.commands import cli
from pitool.convert.gguf import quantise
from pitool.convert.trim import source as trim_source
from pitool.convert.trim.gguf import MATRICES
from pitool.convert.trim.texts import Texts
from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.errors import PitoolError, UsageError
from pitool.quality.divergence import log_softmax
from tests.convert.helpers import write_float
from tests.convert.trim.helpers import write
from tests.tiny import write_checkpoint

pytestmark = pytest.mark.engine

TEXT = "The quick brown fox has 4 cores and costs less than 100 dollars.\n\nWhy? Because!"
OTHER = "naïve café 日本語 🚀 Größe über alles"
ROWS = 512


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "mine.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trim") / "model"
    return write_checkpoint(folder, num_hidden_layers=2, tie_word_embeddings=False)


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(
        cli,
        ["convert", *map(str, arguments), "--ram", "1gb", "--calibration", "none"],
        standalone_mode=False,
    )


def kept_of(bundle: Path) -> list[int]:
    ids: list[int] = json.loads((bundle / "kept-tokens.json").read_text())
    return ids


def run(path: Path, ids: list[int]) -> np.ndarray:
    """Return the logits of an artifact."""
    kind = "onnx" if path.is_dir() else "gguf"
    with worker.start(kind, path, Settings(256, 1, 1, outputs=64)) as engine:
        return engine.logits(ids)


def tokens(path: Path, text: str) -> list[int]:
    kind = "onnx" if path.is_dir() else "gguf"
    with worker.start(kind, path, Settings(256, 1, 1)) as engine:
        return list(engine.tokenize(text))


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convert the checkpoint to both formats in floats, with the tokens of a text."""
    out = tmp_path_factory.mktemp("bundles") / "cut"
    done = convert(checkpoint, "--keep-text", text, "--quant", "F32,Q8_0,FP32", "--out", out)
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.thorough
def test_the_artifacts_have_the_logits_of_the_whole_model(
    bundle: Path, checkpoint: Path, tmp_path: Path
) -> None:
    whole = write_float(checkpoint, tmp_path / "whole.gguf", "F32")
    kept = kept_of(bundle)
    assert len(kept) < ROWS
    for path in (bundle / "model-F32.gguf", bundle / "model-onnx-fp32"):
        ids = tokens(path, TEXT)
        assert [kept[i] for i in ids] == tokens(whole, TEXT)
        before, after = run(whole, [kept[i] for i in ids])[:, kept], run(path, ids)
        # onnxruntime keeps what llama.cpp rounds to float16 on the way.
        close = 1e-9 if path.suffix == ".gguf" else 0.03
        assert np.abs(log_softmax(before) - log_softmax(after)).max() <= close


def test_llama_cpp_makes_the_tokens_of_tokenizer_json(bundle: Path) -> None:
    """Of texts of which tokens are gone, too."""
    folder = bundle / "model-onnx-fp32"
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for each in (TEXT, OTHER, "<|im_start|>user\nHi<|im_end|>"):
        made = tokens(bundle / "model-F32.gguf", each)
        assert made == reference.encode(each).ids
        assert reference.decode(made, skip_special_tokens=False) == each


def test_the_certificate_says_what_is_left(bundle: Path) -> None:
    made = manifest.read(bundle)
    kept = kept_of(bundle)
    for artifact in made.artifacts:
        certificate = artifact.certificate
        assert certificate and certificate.vocabulary
        assert certificate.vocabulary.kept == len(kept)
        assert certificate.vocabulary.whole == ROWS
        assert certificate.vocabulary.text == "mine.txt"
        assert certificate.vocabulary.tokens > 20
        assert certificate.vocabulary.changed == 0
        assert "over the tokens that are kept" in certificate.reference
        assert certificate.mean_kl < 0.01
        rows = ROWS - len(kept)
        width = {"F32": 4 * 256, "FP32": 4 * 256, "Q8_0": 34 * 8}[artifact.quantisation]
        assert certificate.bytes_saved and certificate.bytes_saved >= 2 * rows * width
        assert certificate.memory_saved and certificate.memory_saved > 0
    shown = CliRunner().invoke(cli, ["show", str(bundle)], standalone_mode=False)
    assert f"vocabulary: {len(kept)} of 512 tokens are kept, chosen by mine.txt" in shown.output
    assert "Q8_0: the smaller vocabulary saves" in shown.output


def test_the_source_is_the_checkpoint_itself(bundle: Path, checkpoint: Path) -> None:
    made = manifest.read(bundle)
    assert {file.path for file in made.source.files} == {p.name for p in checkpoint.iterdir()}
    assert [extra.path for extra in made.extras] == ["kept-tokens.json"]


def test_the_ids_of_settings_are_the_new_ones(bundle: Path, checkpoint: Path) -> None:
    kept = kept_of(bundle)
    header = read_header(bundle / "model-F32.gguf")
    assert header.metadata["llama.vocab_size"] == len(kept)
    assert kept[header.metadata["tokenizer.ggml.eos_token_id"]] == 2
    settings = json.loads((bundle / "model-onnx-fp32" / "genai_config.json").read_text())
    ends = settings["model"]["eos_token_id"]
    assert [kept[i] for i in ends] == [0, 2]  # <|endoftext|> and <|im_end|>


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["F32", "BF16", "Q8_0", "Q4_K_M"])
def test_a_gguf_keeps_the_rows_as_they_are_stored(
    kind: str, checkpoint: Path, text: Path, tmp_path: Path
) -> None:
    stored = "F32" if QUANTISATIONS[kind].quantised else kind
    whole = write_float(checkpoint, tmp_path / f"model-{kind}.gguf", stored)
    if QUANTISATIONS[kind].quantised:
        exact = whole.rename(tmp_path / "exact.gguf")
        quantise.quantise(exact, whole, QUANTISATIONS[kind], 1)
    out = tmp_path / "out"
    done = convert(whole, "--keep-text", text, "--quant", kind, "--out", out)
    assert done.exit_code == 0, done.output
    kept = kept_of(out)
    cut = out / f"model-{kind}.gguf"
    before = {t.name: t for t in GGUFReader(whole).tensors}
    for tensor in GGUFReader(cut).tensors:
        rows = before[tensor.name].data
        picked = rows[kept] if tensor.name in MATRICES else rows
        assert tensor.data.tobytes() == np.ascontiguousarray(picked).tobytes()
        assert tensor.tensor_type == before[tensor.name].tensor_type
    ids = tokens(cut, TEXT)
    assert [kept[i] for i in ids] == tokens(whole, TEXT)
    same = run(whole, [kept[i] for i in ids])[:, kept]
    assert np.abs(same - run(cut, ids)).max() < 1e-4
    certificate = manifest.read(out).artifacts[0].certificate
    assert certificate and certificate.mean_kl < 1e-8
    assert certificate.reference == "the GGUF of model in llama.cpp over the tokens that are kept"


@pytest.mark.thorough
def test_a_gguf_that_is_quantised_on_the_way_is_compared_with_the_whole_one(
    checkpoint: Path, text: Path, tmp_path: Path
) -> None:
    whole = write_float(checkpoint, tmp_path / "model-F32.gguf", "F32")
    done = convert(whole, "--keep-text", text, "--quant", "F32,Q8_0", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    exact, rounded = (a.certificate for a in manifest.read(tmp_path / "out").artifacts)
    assert exact and rounded
    assert exact.mean_kl < 1e-8 < rounded.mean_kl < 0.01


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["qwen", "phi-3", "llama-2", "mistral-0.3", "unigram"])
def test_every_kind_of_tokenizer(kind: str, text: Path, tmp_path: Path) -> None:
    """Convert refuses artifacts whose tokens are not the tokenizer's, so it compares them all."""
    folder = write(tmp_path / "model", kind)
    out = tmp_path / "out"
    done = convert(folder, "--keep-text", text, "--quant", "F32", "--out", out)
    assert done.exit_code == 0, done.output
    kept = kept_of(out)
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    bundle = manifest.read(out)
    folder_of_tokens = bundle.artifacts[0].tokenization
    assert folder_of_tokens
    if folder_of_tokens.folder:
        part = Tokenizer.from_file(str(out / folder_of_tokens.folder / "tokenizer.json"))
        made = part.encode(TEXT).ids
    else:
        made = tokens(out / "model-F32.gguf", TEXT)
    assert [kept[i] for i in made] == reference.encode(TEXT).ids


@pytest.mark.thorough
def test_a_unigram_model_in_a_gguf(text: Path, tmp_path: Path) -> None:
    """llama.cpp has it under the name of T5, with any architecture."""
    folder = write(tmp_path / "model", "unigram")
    reader = GGUFReader(write_float(folder, tmp_path / "float.gguf", "F32"))
    whole = tmp_path / "model-F32.gguf"
    writer = GGUFWriter(whole, "llama")
    changed = {
        Keys.Tokenizer.MODEL: MetadataDetails(GGUFValueType.STRING, "t5"),
        Keys.Tokenizer.ADD_PREFIX: MetadataDetails(GGUFValueType.BOOL, True),
    }
    copy_with_new_metadata(reader, writer, changed, [])
    out = tmp_path / "out"
    done = convert(whole, "--keep-text", text, "--quant", "F32", "--out", out)
    assert done.exit_code == 0, done.output
    kept, cut = kept_of(out), out / whole.name
    assert len(kept) < read_header(whole).tensors[0].shape[0]
    line = TEXT.split("\n")[0]  # llama.cpp falls back to no bytes here, and writes breaks so
    reference = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(line).ids
    assert tokens(whole, line) == [kept[i] for i in tokens(cut, line)] == reference
    certificate = manifest.read(out).artifacts[0].certificate
    assert certificate and certificate.mean_kl < 1e-8


def test_verify_compares_with_the_checkpoint_again(bundle: Path, checkpoint: Path) -> None:
    order = ["verify", str(bundle), "--reference", str(checkpoint), "--json"]
    done = CliRunner().invoke(cli, order, standalone_mode=False)
    assert done.exit_code == 0, done.output
    checked = json.loads(done.stdout)["artifacts"]
    assert [each["ok"] for each in checked] == [True] * 3
    assert all("over the tokens that are kept" in each["reference"] for each in checked)


def test_rows_of_other_tokens_are_found_out(
    checkpoint: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Tensor] = select
    wrong = lambda tensor, rows: real(tensor, rows // 2 * 2)  # noqa: E731
    monkeypatch.setattr("pitool.checkpoint.source.select", wrong)
    with pytest.raises(PitoolError, match="not converted correctly"):
        done = convert(checkpoint, "--keep-text", text, "--quant", "F32", "--out", tmp_path / "out")
        raise done.exception or AssertionError(done.output)


def test_the_plan_says_what_it_saves(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    order = ["convert", str(checkpoint), "--ram", "1gb", "--quant", "Q8_0", "--dry-run", "--json"]
    order += ["--keep-text", str(text), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, order, standalone_mode=False)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    (artifact,) = found["artifacts"]
    assert artifact["with_all_tokens"]["bytes"] > artifact["bytes"]
    assert found["vocabulary"]["kept"] < found["vocabulary"]["whole"] == ROWS
    assert "on disk with all tokens" in done.stderr
    order = ["plan", str(checkpoint), "--ram", "1gb", "--quant", "Q8_0"]
    shown = CliRunner().invoke(cli, [*order, "--keep-text", str(text)], standalone_mode=False)
    assert "Vocabulary, whole and cut" in shown.output, shown.output
    order += ["--keep-text", str(text), "--json"]
    made = CliRunner().invoke(cli, order, standalone_mode=False)
    planned = json.loads(made.stdout)
    assert planned["rows"][0]["bytes"] == artifact["bytes"]
    assert planned["rows_with_all_tokens"][0]["bytes"] == artifact["with_all_tokens"]["bytes"]


def test_what_needs_all_tokens_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = tmp_path / "all.txt"
    everything.write_text("Every token.", encoding="utf-8")
    monkeypatch.setattr(trim_source, "_tokenizer", lambda _: lambda _text: list(range(ROWS)))
    with pytest.raises(UsageError, match="tokens of the vocabulary are needed"):
        trim_source.trim(
            Source("model", None, checkpoint),
            Texts((), (everything,)),
            tmp_path,
            lambda *_: pytest.fail("no engine is needed"),
        )
