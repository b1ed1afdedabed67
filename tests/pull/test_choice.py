"""What is chosen of real repositories, by sizes that were published and the real shapes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pitool.catalog.gguf import Header, StoredTensor
from pitool.catalog.profiles import find_profile
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.errors import BadInput, DoesNotFit
from pitool.planning.places import Place, Verdict
from pitool.planning.report import find_places
from pitool.planning.shapes import sizes
from pitool.planning.type_mixture import assign_types
from pitool.pull import choice
from pitool.pull.choice import Choice
from pitool.pull.connection import Connection
from pitool.pull.hub import Hub, RemoteFile, Repository
from pitool.pull.variants import Variant, find_variants, label, named_variants

BALANCED = find_profile("balanced")
NO_HUB = Hub(Connection("http://127.0.0.1:9", None, lambda _: None), False, Path("nowhere"))
# The maker's files hold the embedding twice, which is why they are larger than others'.
SHAPE = replace(sizes()[1.5e9], tied=False).shape
NUMBERS = {
    "block_count": SHAPE.layers,
    "embedding_length": SHAPE.hidden,
    "feed_forward_length": SHAPE.feed_forward,
    "attention.head_count": SHAPE.heads,
    "attention.head_count_kv": SHAPE.kv_heads,
    "context_length": SHAPE.context,
}


def place(board: str, ram: str) -> Place:
    (found,) = find_places(ram, board)
    return found


def repository(folder: Path, name: str) -> Repository:
    """Return a repository with the files and sizes that were published of it."""
    rows = json.loads((folder / "gguf_sizes.json").read_text())
    files = tuple(RemoteFile(r["file"], r["bytes"]) for r in rows if r["repo"] == name)
    return Repository(name, "c" * 40, files)


@pytest.fixture
def headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The headers of Qwen2.5-1.5B, as llama.cpp would write them."""

    def read(_hub: Hub, _repository: Repository, variant: Variant) -> Header:
        kind = QUANTISATIONS[variant.quantisation.removeprefix("UD-")]
        tensors = tuple(
            StoredTensor(t.tensor.name, t.tensor.shape, t.type, 6_000_000)
            for t in assign_types(SHAPE, kind)
        )
        keys = {f"qwen2.{key}": value for key, value in NUMBERS.items()}
        said = {"general.architecture": "qwen2", "general.file_type": kind.number}
        return Header(Path(variant.name), {**said, **keys}, tensors)

    monkeypatch.setattr(choice, "read_gguf_header", read)


def choose(found: Repository, where: Place, context: int | None = None) -> Choice:
    return Choice(NO_HUB, found, find_variants(found), where, BALANCED, context)


@pytest.mark.parametrize(
    ("board", "ram", "quant", "why"),
    [
        # By hand, at 11.3 GB/s over the file less its embedding: Q8_0 (1895 - 248) MB is 6.9
        # tokens/s, below the 8 of reading; Q5_K_M (1285 - 160) MB is 10.0.
        ("pi5", "8gb", "Q5_K_M", "at reading speed"),
        # Of 1.60 GB for a model: Q5_K_M 1.29 + cache 0.12 + buffers 0.07 + runtime 0.08 + chat
        # 0.05 = 1.61; Q4_K_M is 0.17 less.
        ("pi5", "2gb", "Q4_K_M", "at reading speed"),
        # A Pi 4 decodes nothing of it at 8 tokens/s: 3.7 GB/s over 1.1 GB.
        ("pi4b", "2gb", "Q4_K_M", "a smaller model would be faster"),
    ],
)
def test_of_qwen_the_best_that_fits_and_is_fast(
    shared_data: Path, headers: None, board: str, ram: str, quant: str, why: str
) -> None:
    found = choose(repository(shared_data, "Qwen/Qwen2.5-1.5B-Instruct-GGUF"), place(board, ram))
    best, reason = found.best()
    assert best.variant.quantisation == quant
    assert best.header is not None
    assert why in reason
    assert [c.variant.quantisation for c in found.candidates] == [
        "Q8_0",
        "Q5_K_M",
        "Q4_K_M",
        "Q3_K_M",
    ]


def test_the_preferred_file_is_taken_where_it_fits(shared_data: Path, headers: None) -> None:
    found = repository(shared_data, "Qwen/Qwen2.5-1.5B-Instruct-GGUF")
    wanted = next(f.path for f in found.files if "q8_0" in f.path)
    best, reason = choose(found, place("pi5", "8gb")).best(wanted)
    assert best.variant.quantisation == "Q8_0"
    assert "recommends" in reason
    best, reason = choose(found, place("pi5", "2gb"), 8192).best(wanted)
    assert best.variant.quantisation != "Q8_0"


def test_nothing_fits(shared_data: Path, headers: None) -> None:
    found = choose(repository(shared_data, "Qwen/Qwen2.5-1.5B-Instruct-GGUF"), place("pi5", "1gb"))
    with pytest.raises(
        DoesNotFit, match=r"nothing of Qwen.* the smallest, Q3_K_M, needs 1\.\d+ GB"
    ):
        found.best()


def test_an_unknown_mixture_is_planned_by_its_size(headers: None) -> None:
    """Its memory is that of the nearest known type, set right by the bytes that it really has."""
    sizes_ = {"Q4_K_M": 1_117_320_736, "UD-Q4_K_XL": 1_150_000_000, "IQ5_ODD": 1_200_000_000}
    files = tuple(RemoteFile(f"m-{name}.gguf", size) for name, size in sizes_.items())
    found = choose(Repository("a/b", "c" * 40, files), place("pi5", "2gb"))
    by_name = {c.variant.quantisation: c for c in found.candidates}
    needed = {name: c.needed or 0 for name, c in by_name.items()}
    assert needed["IQ5_ODD"] - needed["Q4_K_M"] == pytest.approx(82_679_264, abs=40e6)
    assert needed["UD-Q4_K_XL"] > needed["Q4_K_M"]


def test_what_cannot_be_run_is_passed_over(
    shared_data: Path, headers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(choice, "read_gguf_header")  # noqa: B009 - not exported

    def read(hub: Hub, of: Repository, variant: Variant) -> Header:
        if variant.quantisation == "Q4_K_M":
            raise BadInput("tensor 'a' has the unknown type 99")
        found: Header = real(hub, of, variant)
        return found

    monkeypatch.setattr(choice, "read_gguf_header", read)
    found = choose(repository(shared_data, "Qwen/Qwen2.5-1.5B-Instruct-GGUF"), place("pi5", "2gb"))
    best, reason = found.best()
    assert best.variant.quantisation == "Q3_K_M"
    assert "Q4_K_M was skipped: tensor 'a' has the unknown type 99" in reason
    assert best.verdict(BALANCED) is Verdict.FITS


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Qwen3-1.7B-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-1.5b-instruct-q8_0.gguf", "Q8_0"),
        ("tinyllama-1.1b-chat-v1.0.Q4_K_S.gguf", "Q4_K_S"),
        ("Qwen3-4B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("UD-Q4_K_XL/x-UD-Q4_K_XL-00001-of-00002.gguf", "UD-Q4_K_XL"),
        ("Q6_K/model-00001-of-00002.gguf", "Q6_K"),
        ("gemma-3-1b-it-IQ4_XS.gguf", "IQ4_XS"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("model-bf16.gguf", "BF16"),
        ("model-fp16.gguf", "F16"),
        ("Ternary-Bonsai-1.7B-Q2_0_g64.gguf", "Q2_0_G64"),
        ("model.gguf", "GGUF"),
    ],
)
def test_the_quantisation_by_a_name(path: str, name: str) -> None:
    assert label(path) == name


def test_what_is_no_model_is_left_out() -> None:
    names = ("m-Q4_0.gguf", "mmproj-F16.gguf", "m-imatrix.gguf", "lora-F16.gguf", "README.md",
             "onnx/genai_config.json", "onnx/model.onnx", "onnx/model.onnx.data",
             "onnx/tokenizer.json", "onnx/notes.pdf", "m-Q8_0-00002-of-00002.gguf")  # fmt: skip
    found = find_variants(Repository("a/b", "c" * 40, tuple(RemoteFile(n, 9) for n in names)))
    gguf, onnx = sorted(found, key=lambda v: v.format)
    assert [f.path for f in gguf.files] == ["m-Q4_0.gguf"]
    assert {f.name for f in onnx.files} == {
        "genai_config.json", "model.onnx", "model.onnx.data", "tokenizer.json",
    }  # fmt: skip
    assert onnx.files[0].name == "model.onnx"


def test_a_makers_prefix_may_be_left_out() -> None:
    found = [Variant("gguf", "UD-Q4_K_XL", (RemoteFile("a.gguf", 1),))]
    assert named_variants(found, "q4_k_xl") == found
