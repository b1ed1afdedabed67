"""A GGUF as the source: the same files as from its checkpoint, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result
from gguf import GGUFWriter

from pitool.catalog import manifest
from pitool.catalog.gguf import model_name, read_header
from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES
from pitool.checkpoint.config import read_config
from pitool.checkpoint.source import Source
from pitool.cli.commands import cli
from pitool.convert.gguf import llama_quantise, quantise, stored
from pitool.convert.gguf.origins import GgufFile
from pitool.convert.gguf.stored import Stored, kind_of
from pitool.errors import BadInput, UsageError
from tests.convert.helpers import convert_folder, names, tensors, write_float
from tests.tiny import write_checkpoint

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "model.v1"
    return write_checkpoint(folder, num_hidden_layers=2, tie_word_embeddings=False)


@pytest.fixture(scope="module")
def exact(checkpoint: Path) -> Path:
    return write_float(checkpoint, checkpoint.parent / "model.v1-BF16.gguf", "BF16")


@pytest.fixture(scope="module")
def quantised(exact: Path) -> Path:
    target = exact.with_name("model.v1-Q8_0.gguf")
    quantise.quantise(exact, target, QUANTISATIONS["Q8_0"], 2)
    return target


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(
        cli,
        ["convert", *map(str, arguments), "--ram", "1gb", "--calibration", "none"],
        standalone_mode=False,
    )


@pytest.mark.thorough
def test_the_files_are_those_of_the_checkpoint(
    checkpoint: Path, exact: Path, tmp_path: Path
) -> None:
    kinds = "BF16,F32,Q8_0,Q4_K_M"
    theirs = convert_folder(checkpoint, tmp_path / "checkpoint", kinds).path
    ours = tmp_path / "gguf"
    done = convert(exact, "--quant", kinds, "--out", ours)
    assert done.exit_code == 0, done.output
    assert names(ours) == names(theirs)
    for path in (*ours.glob("*.gguf"), *ours.glob("*.Modelfile")):
        if path.suffix == ".gguf":
            assert path.read_bytes() == (theirs / path.name).read_bytes()
    made = manifest.read(ours)
    assert made.name == "model.v1"
    assert [file.path for file in made.source.files] == [exact.name]
    certificates = [a.certificate for a in made.artifacts]
    assert {c.reference for c in certificates if c} == {"the GGUF of model.v1 in llama.cpp"}
    kls = [c.mean_kl for c in certificates if c]
    assert kls[0] == 0
    assert kls[1] < 1e-3 < kls[3]


def test_only_what_is_asked_for_is_written(exact: Path, tmp_path: Path) -> None:
    before = exact.read_bytes()
    assert convert(exact, "--quant", "Q4_0", "--out", tmp_path / "b").exit_code == 0
    assert {p.name for p in (tmp_path / "b").glob("*.gguf")} == {"model.v1-Q4_0.gguf"}
    assert exact.read_bytes() == before


def test_the_size_of_the_file_is_known_before(exact: Path, tmp_path: Path) -> None:
    done = convert(exact, "--quant", "Q4_K_M", "--out", tmp_path / "b", "--json", "--dry-run")
    assert done.exit_code == 0, done.output
    assert convert(exact, "--quant", "Q4_K_M", "--out", tmp_path / "b").exit_code == 0
    (file,) = (tmp_path / "b").glob("*.gguf")
    assert f'"bytes": {file.stat().st_size},' in done.stdout


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["Q4_0", "Q6_K", "Q4_K_M", "Q8_0", "F16"])
def test_requantised_bytes_are_llama_cpps(quantised: Path, tmp_path: Path, kind: str) -> None:
    for module, name in ((quantise, "a"), (llama_quantise, "b")):
        module.quantise(quantised, tmp_path / name, QUANTISATIONS[kind], 1)
    assert tensors(tmp_path / "a") == tensors(tmp_path / "b")
    assert read_header(tmp_path / "a").metadata == read_header(tmp_path / "b").metadata


@pytest.mark.thorough
def test_a_quantised_source_needs_the_flag_and_is_warned_of(
    quantised: Path, tmp_path: Path
) -> None:
    target = tmp_path / "b"
    with pytest.raises(
        UsageError, match=r"is already quantised \(Q8_0\).*: convert the checkpoint"
    ):
        raise convert(quantised, "--quant", "Q4_0", "--out", target).exception or AssertionError
    assert not target.exists()
    done = convert(quantised, "--quant", "Q8_0,Q4_K_M", "--requantise", "--out", target)
    assert done.exit_code == 0, done.output
    assert "warning: model.v1 is already quantised (Q8_0)" in done.stderr
    assert (target / quantised.name).read_bytes() == quantised.read_bytes()
    assert [a.quantisation for a in manifest.read(target).artifacts] == ["Q8_0", "Q4_K_M"]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["Q8_0", "Q1_0", "Q2_0", "TQ1_0", "TQ2_0", "MXFP4_MOE", "NVFP4"])
def test_a_quantised_source_is_carried_over_unchanged(
    exact: Path, tmp_path: Path, kind: str
) -> None:
    quantisation = QUANTISATIONS[kind]
    source, target = tmp_path / f"model.v1-{kind}.gguf", tmp_path / "b"
    types = {
        t.name: TENSOR_TYPES[quantisation.base]
        for t in read_header(exact).tensors
        if t.name.startswith("blk.") and len(t.shape) > 1
    }
    quantise.quantise(exact, source, quantisation, 2, types=types)
    done = convert(source, "--out", target)
    assert done.exit_code == 0, done.output
    assert f"is already quantised ({kind})" in done.stderr
    (artifact,) = manifest.read(target).artifacts
    assert artifact.quantisation == kind
    assert artifact.files[0].path == source.name
    assert (target / source.name).read_bytes() == source.read_bytes()
    assert artifact.certificate
    assert artifact.certificate.mean_kl == 0
    assert kind in CliRunner().invoke(cli, ["show", str(target)]).stdout
    planned = CliRunner().invoke(cli, ["plan", str(source), "--board", "pi5", "--ram", "8gb"])
    assert kind in planned.stdout


REFUSED = {
    "a format": (["--format", "onnx"], "a GGUF source can only become GGUF"),
    "a quantisation": (["--quant", "INT4"], "can only become GGUF: drop INT4 from --quant"),
    "a revision": (["--revision", "main"], "is a local model and has no revisions"),
    "a size": (["--size", "2mb", "--requantise"], "and --size and --fit need float weights"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_with_a_gguf(quantised: Path, tmp_path: Path, case: str) -> None:
    options, says = REFUSED[case]
    flags = [] if "--requantise" in options else ["--requantise"]
    error = convert(quantised, *options, *flags, "--out", tmp_path / "b").exception
    assert isinstance(error, UsageError)
    assert says in str(error)


ALIGNMENT = "general.alignment"


def other(path: Path, keys: dict[str, int], architecture: str = "llama") -> Source:
    """Write a GGUF that holds one tensor and these keys."""
    import numpy as np

    writer = GGUFWriter(path, architecture)
    for key, value in keys.items():
        if key == ALIGNMENT:
            writer.add_custom_alignment(value)
        else:
            writer.add_uint32(key, value)
    writer.add_tensor("token_embd.weight", np.zeros((32, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Source("m", None, path)


SIZES = {
    "llama.block_count": 1,
    "llama.embedding_length": 32,
    "llama.attention.head_count": 1,
}
ODD: dict[str, tuple[dict[str, int], str]] = {
    "an adapter": ({}, "is not a language model"),
    "a part": ({**SIZES, "split.count": 3}, "is one part of a split GGUF"),
    "an alignment": ({**SIZES, ALIGNMENT: 64}, "are not aligned to 32 bytes"),
}


@pytest.mark.parametrize("case", ODD)
def test_files_that_are_no_source(tmp_path: Path, case: str) -> None:
    keys, says = ODD[case]
    source = other(tmp_path / "m.gguf", keys)
    with pytest.raises(BadInput, match=says):
        stored.check(source, None, requantise=True, sized=False)


def test_a_lora_is_merged_into_a_checkpoint(exact: Path, tmp_path: Path) -> None:
    from pitool.checkpoint.lora import Adapter

    source = Source("m", None, exact, adapters=(Adapter(tmp_path, 1.0),))
    with pytest.raises(UsageError, match="cannot be merged into a GGUF"):
        stored.check(source, None, requantise=False, sized=False)


@pytest.mark.parametrize(
    ("architecture", "module"), [("llama", quantise), ("falcon", llama_quantise)]
)
def test_llama_cpp_quantises_what_no_family_knows(
    tmp_path: Path, architecture: str, module: ModuleType
) -> None:
    source = other(tmp_path / "m.gguf", {}, architecture)
    assert source.folder
    assert GgufFile(Stored(source.folder)).quantise is module.quantise


def test_the_type_of_a_file(exact: Path, quantised: Path) -> None:
    assert read_config(exact).model_type == "gguf"
    assert kind_of(read_header(exact)).name == "BF16"
    assert kind_of(read_header(quantised)).name == "Q8_0"
    header = read_header(quantised)
    unnamed = replace(header, metadata={**header.metadata, "general.file_type": 9999})
    assert kind_of(unnamed).base == "Q8_0"


@pytest.mark.parametrize(
    ("file", "name"),
    [("a-1b-Q4_K_M.gguf", "a-1b"), ("a.f16.gguf", "a"), ("q8_0.gguf", "q8_0"), ("x.gguf", "x")],
)
def test_the_name_is_without_the_type(file: str, name: str) -> None:
    assert model_name(Path(file)) == name
