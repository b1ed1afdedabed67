"""What a damaged, incomplete or malicious ONNX folder gives: one sentence, through the worker."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import external_data_helper

from pitool.catalog.onnx import external_files
from pitool.engine import worker
from pitool.engine.base import Settings
from pitool.errors import BadInput
from tests.engine.onnx_graph import write_folder

pytestmark = pytest.mark.engine

SETTINGS = Settings(context=256, decode_threads=1, prefill_threads=1)


@pytest.fixture(scope="module")
def whole(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tiny_checkpoint, tmp_path_factory.mktemp("onnx") / "whole")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def refusal(folder: Path) -> str:
    """Return the one sentence in which the worker refuses a folder."""
    with pytest.raises(BadInput) as caught:
        worker.start("onnx", folder, SETTINGS)
    assert "\n" not in str(caught.value)
    assert caught.value.do
    return caught.value.what


def cut(name: str, size: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: size if size >= 0 else len(data) + size])

    return change


def relocate(location: str) -> Callable[[Path], None]:
    """Let the first weight lie elsewhere."""

    def change(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        tensor = next(t for t in model.graph.initializer if t.external_data)
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return change


def config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "genai_config.json"
        data = json.loads(path.read_text())
        change(data["model"])
        path.write_text(json.dumps(data))

    return edit


def link_outside(folder: Path) -> None:
    data = folder / "model.onnx.data"
    data.rename(folder.parent / "elsewhere")
    data.symlink_to(folder.parent / "elsewhere")


def garble(folder: Path) -> None:
    """Keep the protobuf as it is and rename an operator."""
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes().replace(b"GroupQueryAttention", b"GroupQueryAttentiom"))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "graph empty": (cut("model.onnx", 0), "model.onnx is damaged or truncated"),
    "graph cut early": (cut("model.onnx", 100), "model.onnx is damaged or truncated"),
    "graph cut late": (cut("model.onnx", -1), "model.onnx is damaged or truncated"),
    "graph is text": (lambda f: (f / "model.onnx").write_text("no model"), "model.onnx is damaged"),
    "graph missing": (lambda f: (f / "model.onnx").unlink(), "is missing"),
    "operator unknown": (garble, "onnxruntime cannot load .*GroupQueryAttentiom"),
    "data cut": (cut("model.onnx.data", -1), r"truncated: it has \d+ of \d+ bytes"),
    "data empty": (cut("model.onnx.data", 0), r"truncated: it has 0 of \d+ bytes"),
    "data missing": (lambda f: (f / "model.onnx.data").unlink(), "is missing"),
    "path up": (relocate("../secret"), "'../secret', which is outside"),
    "path absolute": (relocate("/etc/passwd"), "'/etc/passwd', which is outside"),
    "path hidden": (relocate("a/../../secret"), "which is outside"),
    "path empty": (relocate(""), "which is outside"),
    "link outside": (link_outside, "which is outside"),
    "tokenizer missing": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "tokenizer broken": (cut("tokenizer.json", 500), "tokenizer.json is not a tokenizer"),
    "settings broken": (cut("tokenizer_config.json", 9), r"cannot read .*tokenizer_config\.json"),
    "config missing": (lambda f: (f / "genai_config.json").unlink(), "config.json does not exist"),
    "config broken": (cut("genai_config.json", 50), r"cannot read .*genai_config\.json"),
    "config a list": (lambda f: (f / "genai_config.json").write_text("[]"), "is not a JSON object"),
    "config empty": (config(dict.clear), "not an onnxruntime-genai configuration"),
    "graph elsewhere": (
        config(lambda m: m["decoder"].update(filename="../model.onnx")),
        "which is outside",
    ),
    "heads too many": (
        config(lambda m: m["decoder"].update(num_key_value_heads=8)),
        "has a KV cache of",
    ),
    "layers too many": (
        config(lambda m: m["decoder"].update(num_hidden_layers=4)),
        "does not match its configuration: past_key_values.3.key",
    ),
    "layers too few": (
        config(lambda m: m["decoder"].update(num_hidden_layers=2)),
        "does not match its configuration: past_key_values.2.key",
    ),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_refused_in_a_sentence(folder: Path, case: str) -> None:
    change, expected = BAD[case]
    change(folder)

    assert re.search(expected, refusal(folder))


def test_external_files_are_those_that_onnx_finds(whole: Path, tmp_path: Path) -> None:
    model = onnx.load(whole / "model.onnx", load_external_data=False)
    found = {
        external_data_helper.ExternalDataInfo(tensor).location
        for tensor in model.graph.initializer
        if external_data_helper.uses_external_data(tensor)
    }
    assert {path.name for path in external_files(whole / "model.onnx")} == found == {
        "model.onnx.data"
    }  # fmt: skip


def test_external_data_is_found_wherever_a_tensor_may_be(tmp_path: Path) -> None:
    """In a node's attribute, in the graph of a branch, in a function, in a sparse tensor."""
    from onnx import TensorProto, helper

    def outside() -> TensorProto:
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../secret")
        return tensor

    constant = helper.make_node("Constant", [], ["c"], value=outside())
    branch = helper.make_graph([constant], "branch", [], [])
    nested = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    sparse = onnx.SparseTensorProto(values=outside(), dims=[1])
    function = helper.make_function("f", "F", [], ["c"], [constant], [helper.make_opsetid("", 21)])
    models = [
        helper.make_model(helper.make_graph([constant], "g", [], [])),
        helper.make_model(helper.make_graph([nested], "g", [], [])),
        helper.make_model(helper.make_graph([], "g", [], [], sparse_initializer=[sparse])),
        helper.make_model(helper.make_graph([], "g", [], []), functions=[function]),
    ]
    for model in models:
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(BadInput, match="is outside"):
            external_files(path)
