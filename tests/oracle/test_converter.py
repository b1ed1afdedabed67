"""Our GGUF against the one that llama.cpp's own converter makes of the same checkpoint."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.checkpoint.config import read_config
from pitool.convert.gguf import llama_quantise
from pitool.convert.gguf.model import model_shape
from pitool.convert.gguf.pretokenizers import _table
from pitool.convert.gguf.quantise import quantise
from pitool.planning.type_mixture import assign_types
from tests.convert.helpers import convert_folder, write_float
from tests.oracle import cases as families
from tests.oracle import short_tokenizer
from tests.oracle.cases import SHORT
from tests.oracle.conftest import Converter
from tests.oracle.gguf_files import compare
from tests.tiny import write_checkpoint

pytest.importorskip("torch")
pytest.importorskip("transformers")

SMALL: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
QWEN2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
# Settings, and the tokenizer with its size: a real one, ``SHORT``, or a tiny one.
CASES: dict[str, tuple[dict[str, Any], str, int]] = {
    "llama": ({}, "smollm2-135m-instruct", 49152),
    "llama-untied-head-dim": (
        {"tie_word_embeddings": False, "head_dim": 32}, "tinyllama-chat", 32000,
    ),
    "llama-padded": ({}, "tinyllama-chat", 32064),
    "llama3": ({"rope_scaling": LLAMA3}, "", 512),
    "llama-linear": (
        {"rope_scaling": {"type": "linear", "factor": 4.0}}, SHORT, short_tokenizer.SIZE,
    ),
    "qwen2": (QWEN2, "qwen2.5", 151936),
    "qwen2-untied-yarn": (
        {**QWEN2, "tie_word_embeddings": False, "rope_scaling": YARN}, "", 512,
    ),
}  # fmt: skip


def checkpoint(shared_data: Path, folder: Path, case: str) -> Path:
    changes, tokenizer, size = CASES[case]
    write_checkpoint(folder, **{**SMALL, **changes, "vocab_size": size})
    if tokenizer == SHORT:
        short_tokenizer.write(shared_data / "tokenizers" / "tinyllama-chat", folder)
    elif tokenizer:
        shutil.copytree(shared_data / "tokenizers" / tokenizer, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize("kind", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("case", CASES)
def test_the_same_file(
    converter: Converter, shared_data: Path, tmp_path: Path, case: str, kind: str
) -> None:
    if kind != "F16" and CASES[case][1] not in ("", SHORT):
        pytest.skip("a real tokenizer, which takes seconds to read, is the same in every type")
    folder = checkpoint(shared_data, tmp_path / "Tiny-Test-1B", case)
    ours = GGUFReader(write_float(folder, tmp_path / "ours.gguf", kind))
    theirs = GGUFReader(converter(folder, tmp_path / "theirs.gguf", kind))
    compare(ours, theirs)


# tests/convert/test_quantise.py has all others on one family.
QUANTISATIONS_TRIED = ("Q4_K_M", "Q8_0", "Q4_0", "Q6_K")


every_family = pytest.mark.parametrize(
    "case", [name for name, case in families.CASES.items() if case.converted]
)


@every_family
def test_every_family_is_the_same_file_in_bf16(
    converter: Converter, family_checkpoint: Callable[[str], Path], tmp_path: Path, case: str
) -> None:
    folder = family_checkpoint(case)
    ours = write_float(folder, tmp_path / "ours.gguf", "BF16")
    compare(GGUFReader(ours), GGUFReader(converter(folder, tmp_path / "theirs.gguf", "BF16")))


@every_family
def test_every_family_is_the_same_file_and_so_is_its_quantisation(
    converter: Converter, family_checkpoint: Callable[[str], Path], tmp_path: Path, case: str
) -> None:
    folder = family_checkpoint(case)
    ours = write_float(folder, tmp_path / "ours.gguf", "F16")
    theirs = converter(folder, tmp_path / "theirs.gguf", "F16")
    compare(GGUFReader(ours), GGUFReader(theirs))
    config = read_config(folder)
    for name in QUANTISATIONS_TRIED:
        kind = QUANTISATIONS[name]
        mine, llamas = ours.with_suffix(f".{name}"), theirs.with_suffix(f".{name}")
        quantise(ours, mine, kind, 2)
        llama_quantise.quantise(theirs, llamas, kind, 1)
        found = GGUFReader(mine)
        compare(found, GGUFReader(llamas))
        planned = assign_types(model_shape(config), kind)
        types = {t.name: t.tensor_type.name for t in found.tensors}
        assert {t.tensor.name: t.type.name for t in planned} == types


@pytest.mark.engine
def test_another_architecture_becomes_a_bundle_by_way_of_llama_cpps_converter(
    llama_cpp_source: Path, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PITOOL_LLAMA_CPP_SDIST", str(llama_cpp_source.parents[1]))
    folder = families.write_case(families.FOREIGN, tmp_path / "model", shared_data)
    made = convert_folder(folder, tmp_path / "bundle", "F16,Q8_0")
    by_name = {artifact.quantisation: artifact for artifact in made.manifest.artifacts}
    assert by_name.keys() == {"F16", "Q8_0"}
    certificate = by_name["Q8_0"].certificate
    assert certificate is not None
    assert "GGUF" in certificate.reference
    assert 0 < certificate.mean_kl < 0.01
    keys = GGUFReader(tmp_path / "bundle" / by_name["F16"].files[0].path).fields
    assert keys["general.architecture"].contents() == "olmo"


def test_the_table_of_pretokenizers_is_the_converters(llama_cpp_source: Path) -> None:
    text, names = _table()
    code = (llama_cpp_source / "conversion" / "base.py").read_text(encoding="utf-8")
    pairs = re.findall(r'chkhsh == "(\w{64})":\s*\n(?:\s*#.*\n)*\s*res = "([^"]+)"', code)
    assert len(pairs) > 90
    assert names == dict(pairs)
    assert text in _literals(code)


def _literals(code: str) -> set[str]:
    """Return the texts in a program."""
    return {
        node.value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
