"""Techniques in a conversion: by --quant, or because a recipe names the lab's winner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pitool.catalog import manifest
from pitool.catalog.model_argument import find_runnable
from pitool.catalog.recipes import recipes
from pitool.checkpoint.source import find_source
from pitool.cli.commands import cli
from pitool.convert.plan import Names, split_names
from pitool.convert.techniques import find_technique
from pitool.convert.techniques.assemble import assemble, footprint
from pitool.convert.techniques.workbench import Workbench
from pitool.errors import BadInput, PitoolError, UsageError
from pitool.planning.shapes import header_shape
from tests.convert.helpers import checkpoint_of, names
from tests.tiny import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("techniques") / "tiny"
    return write_checkpoint(folder, num_hidden_layers=2)


def convert(*arguments: object) -> Result:
    order = ["convert", *map(str, arguments), "--ram", "1gb"]
    return CliRunner().invoke(cli, order, standalone_mode=False)


@pytest.mark.thorough
@pytest.mark.engine
def test_a_bundle_of_techniques(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "b"
    done = convert(checkpoint, "--quant", "rtn-int4,Q8_0,gptq-int4", "--out", target)
    assert done.exit_code == 0, done.output
    assert done.stderr.count("generating a calibration text ...") == 1
    made = manifest.read(target)
    found = {a.quantisation: a for a in made.artifacts}
    assert [*found] == ["Q8_0", "RTN-INT4", "GPTQ-INT4"]
    assert {"tiny-onnx-rtn-int4", "tiny-onnx-gptq-int4"} <= names(target)
    assert not any(name.startswith(".") for name in names(target))
    for name in ("RTN-INT4", "GPTQ-INT4"):
        entry = find_runnable(target, name).entry
        assert {file.path for file in found[name].files} == {
            f"{entry.name}/{path.name}" for path in entry.iterdir()
        }
        certificate = found[name].certificate
        assert certificate is not None
        assert certificate.reference == "tiny in pitool's own forward pass, float32"
        assert 0 < certificate.mean_kl < 1
        assert 4 < found[name].bits_per_weight < 9


@pytest.mark.thorough
@pytest.mark.engine
def test_it_is_what_the_lab_makes(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "b"
    done = convert(checkpoint, "--quant", "hqq-int4", "--out", target, "--context", 512)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "lab"
    folder.mkdir()
    lab = assemble(find_technique("hqq-int4"), Workbench(checkpoint_of(checkpoint), folder))
    ours = find_runnable(target, "hqq-int4")
    for path in lab.made.entry.iterdir():
        assert (ours.entry / path.name).read_bytes() == path.read_bytes()
    assert ours.artifact
    assert ours.artifact.bits_per_weight == pytest.approx(lab.bits_per_weight, abs=1e-3)
    assert convert(checkpoint, "--quant", "F32", "--out", tmp_path / "f").exit_code == 0
    from pitool.catalog import gguf

    (file,) = (tmp_path / "f").glob("*.gguf")
    shape = header_shape(gguf.read_header(file))
    assert ours.artifact.memory == footprint(lab.made, shape, 512).memory.lines


REFUSED: dict[str, tuple[list[str], type[PitoolError], str]] = {
    "no kernel": (["--quant", "kmeans-4bit"], UsageError, "no runtime has a kernel for kmeans"),
    "format": (["--quant", "gptq-int4", "--format", "gguf"], UsageError, "gguf excludes gptq"),
    "no text": (
        ["--quant", "awq-int4", "--calibration", "none"],
        UsageError,
        "needs a calibration text, but",
    ),
    "unknown": (["--quant", "gptq-int3"], UsageError, "did you mean 'GPTQ-INT4'"),
}  # fmt: skip


@pytest.mark.engine
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_nothing(checkpoint: Path, tmp_path: Path, case: str) -> None:
    options, kind, says = REFUSED[case]
    error = convert(checkpoint, *options, "--out", tmp_path / "b").exception
    assert isinstance(error, kind)
    assert says in str(error)
    assert names(tmp_path) == set()


def test_a_family_that_the_writer_does_not_know(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", model_type="olmo2")
    error = convert(folder, "--quant", "rtn-int4", "--out", tmp_path / "b").exception
    assert isinstance(error, BadInput)
    assert "rtn-int4 cannot be packed: the ONNX writer does not support 'olmo2'" in str(error)


def test_words_are_sorted_by_who_makes_them() -> None:
    words = "Q4_K_M, int4_b128 ,GPTQ-int4,q6_k-imatrix,FP16,static-int8"
    assert split_names(words) == Names("Q4_K_M,Q6_K", "int4_b128,FP16", "gptq-int4,static-int8")


RECIPES = {
    "auto": ("auto", [], "auto auto -"),
    "a type of GGUF": ("Q4_K_M", [], "Q4_K_M auto -"),
    "a technique": ("gptq-int4", [], "auto - gptq-int4"),
    "both": ("Q4_K_M,gptq-int4", [], "Q4_K_M - gptq-int4"),
    "GGUF alone": ("gptq-int4", ["--format", "gguf"], "auto - -"),
    "ONNX alone": ("Q4_K_M,gptq-int4", ["--format", "onnx"], "- - gptq-int4"),
    "auto is asked for": ("gptq-int4", ["--quant", "auto"], "auto auto -"),
    "another is asked for": ("gptq-int4", ["--quant", "INT4"], "- INT4 -"),
}


@pytest.mark.parametrize("case", RECIPES)
def test_a_recipe_may_name_a_technique(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    quantisation, options, wanted = RECIPES[case]
    recipe = replace(next(iter(recipes().values())), quantisation=quantisation, context=512)
    found: list[Names] = []

    def with_recipe(model: str, tier: str, *, gguf_too: bool) -> Any:
        return replace(find_source(model, tier, gguf_too=gguf_too), recipe=recipe)

    def make_plan(_: Any, _name: str, _tier: Any, gguf: str, context: int, **rest: Any) -> Any:
        assert context == 512
        found.append(Names(gguf, rest["onnx"], rest["techniques"]))
        raise UsageError("planned", "enough")

    monkeypatch.setattr("pitool.cli.convert_request.find_source", with_recipe)
    monkeypatch.setattr("pitool.cli.convert_request.make_plan", make_plan)
    error = convert(checkpoint, *options, "--out", tmp_path / "b", "--dry-run").exception
    assert "planned" in str(error)
    assert found == [Names(*("" if w == "-" else w for w in wanted.split()))]
