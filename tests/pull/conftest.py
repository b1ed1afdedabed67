"""A hub with a tiny model in several quantisations, whole and split, made by other tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader, GGUFValueType, GGUFWriter

from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import read_config
from pitool.convert.conversion import Job
from pitool.convert.pipeline import convert
from pitool.convert.plan import make_plan
from pitool.pull import connection
from pitool.report.progress import Silent
from tests.convert.helpers import convert_folder, engines_of, real_engine, source_of
from tests.pull.hub_server import ID, FakeHub, running
from tests.tiny import write_checkpoint


@pytest.fixture(scope="session")
def ggufs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tiny model by the names of its files; the GGUFs of one conversion."""
    folder = tmp_path_factory.mktemp("pull")
    checkpoint = write_checkpoint(folder / "tiny", num_hidden_layers=1, intermediate_size=256)
    made = convert_folder(checkpoint, folder / "bundle", "F16,Q8_0,Q4_K_M").path
    return {path.name: path.read_bytes() for path in made.glob("*.gguf")}


@pytest.fixture(scope="session")
def onnx_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an ONNX folder as onnxruntime-genai lays it out, by their names."""
    folder = tmp_path_factory.mktemp("onnx")
    checkpoint = write_checkpoint(folder / "tiny", num_hidden_layers=1, intermediate_size=256)
    plan = make_plan(read_config(checkpoint), "1gb", tiers()["1gb"], "", 512, onnx="INT4")
    job = Job(plan, folder / "bundle", False, 1)
    made = convert(source_of(checkpoint), job, engines_of(real_engine), Silent()).path
    (config,) = made.rglob("genai_config.json")
    return {path.name: path.read_bytes() for path in config.parent.iterdir()}


@pytest.fixture(scope="session")
def parts(ggufs: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same model at 8 bits, split by the gguf package."""
    folder = tmp_path_factory.mktemp("split")
    whole = folder / "whole.gguf"
    whole.write_bytes(ggufs["tiny-Q8_0.gguf"])
    reader = GGUFReader(whole)
    writer = GGUFWriter(folder / "tiny-Q8_0.gguf", "llama", split_max_tensors=5)
    for key, field in reader.fields.items():
        if not key.startswith(("GGUF.", "general.architecture")):
            kind = field.types[0]
            inner = field.types[-1] if kind is GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = {path.name: path.read_bytes() for path in folder.glob("tiny-*.gguf")}
    assert len(found) >= 2
    return found


@pytest.fixture
def hub(ggufs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that the environment names, with one repository; nobody waits."""
    files: dict[str, bytes] = {
        **ggufs,
        "README.md": b"# Tiny",
        "mmproj-tiny-F16.gguf": b"GGUF and more",
        "imatrix.gguf": b"GGUF and more",
    }
    made = FakeHub({ID: files}, {ID: {"license": "apache-2.0"}})
    with running(made):
        monkeypatch.setenv("HF_ENDPOINT", made.endpoint)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        slept: list[Any] = []
        monkeypatch.setattr(connection, "sleep", slept.append)
        yield made


@pytest.fixture
def bundles(private_home: Path) -> Path:
    """The folder that bundles are pulled to."""
    return private_home / "bundles"
