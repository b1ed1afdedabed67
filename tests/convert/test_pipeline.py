"""From a tiny checkpoint to a bundle, with the real engine and with ones that lie."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from pitool.catalog import bundles, gguf, manifest, staging
from pitool.convert import cache, pipeline
from pitool.convert.conversion import Job
from pitool.convert.engines import OpenEngine
from pitool.convert.gguf import origins
from pitool.convert.gguf.writer import write_gguf
from pitool.engine.base import Prompt
from pitool.errors import BadInput, DoesNotFit, PitoolError, UsageError, WorkerDied
from pitool.quality.health import LogitsEngine
from tests.convert.helpers import (
    Honest,
    always,
    checkpoint_of,
    convert_folder,
    engines_of,
    names,
    real_engine,
    write_float,
)
from tests.convert.test_writer import LLAMA3
from tests.tiny import write_checkpoint


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "bundles" / "b"


# -- the real engine -----------------------------------------------------------------------

MODELS: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied-f32": {"tie_word_embeddings": False, "kind": "F32"},
    "qwen2-f16": {"model_type": "qwen2", "kind": "F16"},
    "llama3": {"rope_scaling": LLAMA3},
    "head-dim-biases": {"head_dim": 64, "attention_bias": True, "mlp_bias": True},
    "one-layer-sharded": {"num_hidden_layers": 1, "shards": 2},
}


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.parametrize("case", MODELS)
def test_a_bundle_of_several_artifacts(tmp_path: Path, target: Path, case: str) -> None:
    settings = {"num_hidden_layers": 2, "intermediate_size": 256, **MODELS[case]}
    folder = write_checkpoint(tmp_path / "model.v1", **settings)
    made = convert_folder(folder, target, "F16,Q8_0,Q4_K_M")
    assert made == bundles.Bundle(target, manifest.read(target))
    assert names(target.parent) == {"b"}
    kinds = ("F16", "Q8_0", "Q4_K_M")
    files = {f"model.v1-{q}.{end}" for q in kinds for end in ("gguf", "Modelfile")}
    assert names(target) == {"manifest.json", "reference.npz", *files}
    assert [a.quantisation for a in made.manifest.artifacts] == ["F16", "Q8_0", "Q4_K_M"]
    for artifact in made.manifest.artifacts:
        file, beside = artifact.files
        assert beside.path == file.path.replace(".gguf", ".Modelfile")
        assert f"FROM ./{file.path}\n" in (target / beside.path).read_text()
        data = (target / file.path).read_bytes()
        assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        header = gguf.read_header(target / file.path)
        assert header.quantisation == artifact.quantisation
        assert header.parameters == artifact.parameters
        assert header.bytes * 8 / header.parameters == pytest.approx(
            artifact.bits_per_weight, abs=1e-3
        )
        assert {line.name: line.bytes for line in artifact.memory}["weights"] == header.bytes
        check_certificate(artifact)
        assert bundles.choose(made, artifact.quantisation).entry == target / file.path


def check_certificate(artifact: manifest.Artifact) -> None:
    certificate = artifact.certificate
    assert certificate is not None
    assert certificate.reference == "model.v1 in pitool's own forward pass, float32"
    assert certificate.text == "built-in"
    assert certificate.tokens > 50
    assert 0 <= certificate.mean_kl <= certificate.max_kl
    worst = {"F16": 1e-3, "Q8_0": 0.02, "Q4_K_M": 1.0}[artifact.quantisation]
    assert certificate.mean_kl < worst
    # Random weights hardly prefer any token, so that a small error changes the first.
    assert certificate.top1 >= {"F16": 0.97, "Q8_0": 0.8, "Q4_K_M": 0.2}[artifact.quantisation]
    assert certificate.perplexity == pytest.approx(certificate.reference_perplexity, rel=worst)


@pytest.mark.thorough
@pytest.mark.engine
def test_the_source_and_what_made_it_are_named(tmp_path: Path, target: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", shards=2, num_hidden_layers=1)
    made = convert_folder(folder, target, "Q4_K_M").manifest
    assert (made.name, made.tier, made.board, made.licence) == ("c", "1gb", None, None)
    assert (made.source.id, made.source.revision) == ("c", None)
    assert {f.path: f.sha256 for f in made.source.files} == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json",
                     "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    }  # fmt: skip
    packages = {"llama-cpp-python", "gguf", "numpy", "onnx", "onnxruntime"}
    assert set(made.versions) == {"pitool", "python", *packages}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", made.created)
    assert names(target) == {
        "manifest.json",
        "reference.npz",
        "c-Q4_K_M.gguf",
        "c-Q4_K_M.Modelfile",
    }


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_a_float_artifact_holds_what_the_writer_wrote(
    tmp_path: Path, target: Path, kind: str
) -> None:
    folder = write_checkpoint(tmp_path / "c", num_hidden_layers=1)
    convert_folder(folder, target, f"Q8_0,{kind}")
    alone = write_float(folder, tmp_path / "alone.gguf", kind).read_bytes()
    assert (target / f"c-{kind}.gguf").read_bytes() == alone


@pytest.mark.thorough
@pytest.mark.engine
def test_quantised_from_the_checkpoints_own_type(tmp_path: Path, target: Path) -> None:
    """Q8_0 of bfloat16 weights is that of gguf's own quantiser on the same weights."""
    from gguf import GGMLQuantizationType, quantize

    folder = write_checkpoint(tmp_path / "c", num_hidden_layers=1)
    convert_folder(folder, target, "F16,Q8_0")
    found = {t.name: t for t in GGUFReader(target / "c-Q8_0.gguf").tensors}
    weights = load_file(folder / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    wanted = quantize(weights.astype(np.float32), GGMLQuantizationType.Q8_0)
    assert found["blk.0.ffn_up.weight"].data.tobytes() == wanted.tobytes()


@pytest.mark.engine
def test_the_held_out_text_of_a_source(tmp_path: Path, target: Path) -> None:
    text = tmp_path / "heldout.txt"
    text.write_text("A Raspberry Pi has 4 cores. The quick brown fox jumps.\n" * 30)
    folder = write_checkpoint(tmp_path / "c", num_hidden_layers=1)
    made = convert_folder(folder, target, "F16", text=text).manifest
    certificate = made.artifacts[0].certificate
    assert certificate is not None
    assert certificate.text == "heldout.txt"


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.parametrize(
    "tensor", ["blk.1.attn_q.weight", "token_embd.weight", "blk.2.ffn_norm.weight"]
)
def test_a_damaged_tensor_is_noticed(tmp_path: Path, target: Path, tensor: str) -> None:
    folder = write_checkpoint(tmp_path / "c")

    def damage(path: Path, tokens: int) -> Any:
        (found,) = (t for t in GGUFReader(path).tensors if t.name == tensor)
        with path.open("r+b") as file:
            file.seek(int(found.data_offset))
            data = np.frombuffer(file.read(int(found.n_bytes)), np.uint8)
            file.seek(int(found.data_offset))
            file.write(np.roll(data, 64).tobytes())
        return real_engine(path, tokens)

    with pytest.raises(PitoolError, match="F16 differs from the checkpoint by a mean KL"):
        convert_folder(folder, target, "F16", engine=damage)
    assert names(target.parent) == set()


@pytest.mark.engine
def test_heads_in_the_order_of_transformers_are_noticed(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pitool.architectures import llama

    monkeypatch.setattr(llama, "interleave", lambda _: lambda rows: rows)
    folder = write_checkpoint(tmp_path / "c")
    with pytest.raises(
        PitoolError, match=r"differs from the checkpoint by .*, more than rounding explains"
    ):
        convert_folder(folder, target, "BF16")
    assert names(target.parent) == set()


# -- engines that answer as they are told ----------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("small") / "c", num_hidden_layers=1)


class Liar(Honest):
    """Changes the logits, or the tokens."""

    def __init__(
        self,
        folder: Path,
        change: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda x: x,
        retoken: Callable[[list[int]], list[int]] = lambda ids: ids,
    ) -> None:
        super().__init__(checkpoint_of(folder))
        self.change, self.retoken = change, retoken

    def tokenize(self, prompt: Prompt) -> list[int]:
        return self.retoken(super().tokenize(prompt))

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        return self.change(super().logits(ids))


def nan_once(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    logits = logits.copy()
    logits[3, 5] = np.nan
    return logits


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "rows moved": ({"change": lambda x: np.roll(x, 1, 0)}, "F16 differs from the checkpoint"),
    "tokens moved": ({"change": lambda x: np.roll(x, 1, 1)}, "F16 differs from the checkpoint"),
    "a tenth hotter": ({"change": lambda x: x * 1.1}, "F16 differs from the checkpoint"),
    "nothing": ({"change": np.zeros_like}, "F16 differs from the checkpoint"),
    "one is no number": ({"change": nan_once}, "F16 produces logits that are not finite"),
    "all are infinite": ({"change": lambda x: x * np.inf}, "not finite"),
    "other tokens": (
        {"retoken": lambda ids: [*ids[:7], 3, *ids[8:]]}, "differently from tokenizer.json: report",
    ),
    "a token more": ({"retoken": lambda ids: [*ids, 3]}, "differently from tokenizer.json"),
    "a token fewer": ({"retoken": lambda ids: ids[1:]}, "differently from tokenizer.json"),
    "no tokens": ({"retoken": lambda ids: []}, "differently from tokenizer.json"),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", LIES)
def test_an_engine_that_answers_wrongly_fails_the_conversion(
    small: Path, target: Path, case: str
) -> None:
    lie, message = LIES[case]
    with pytest.raises(PitoolError, match=message):
        convert_folder(small, target, "F16", engine=always(Liar(small, **lie)))
    assert names(target.parent) == set()


def test_an_honest_engine_does_not(small: Path, target: Path) -> None:
    made = convert_folder(small, target, "F16", engine=always(Honest(checkpoint_of(small))))
    certificate = made.manifest.artifacts[0].certificate
    assert certificate is not None
    assert (certificate.mean_kl, certificate.max_kl, certificate.top1) == (0, 0, 1)
    assert certificate.perplexity == certificate.reference_perplexity


def raising(error: BaseException) -> OpenEngine:
    def opener(_path: Path, _tokens: int) -> AbstractContextManager[LogitsEngine]:
        raise error

    return opener


@pytest.mark.parametrize(
    "error",
    [WorkerDied("gone"), BadInput("cannot load"), KeyboardInterrupt(), OSError(28, "full")],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("old", [False, True], ids=["new", "replacing"])
def test_an_engine_that_fails_leaves_what_was(
    small: Path, target: Path, error: BaseException, old: bool
) -> None:
    if old:
        target.mkdir(parents=True)
        (target / "manifest.json").write_text("old")
    with pytest.raises(type(error)):
        convert_folder(small, target, "F16", engine=raising(error), replace=old)
    assert names(target) == ({"manifest.json"} if old else set())
    assert names(target.parent) == ({"b"} if old else set())


def test_replacing_a_bundle(small: Path, target: Path) -> None:
    honest = always(Honest(checkpoint_of(small)))
    convert_folder(small, target, "F16", engine=honest)
    with pytest.raises(UsageError, match="already exists: use --force to replace it"):
        convert_folder(small, target, "BF16", engine=honest)
    convert_folder(small, target, "BF16", engine=honest, replace=True)
    assert names(target) == {"manifest.json", "reference.npz", "c-BF16.gguf", "c-BF16.Modelfile"}
    assert names(target.parent) == {"b"}


@pytest.mark.engine
def test_a_quantiser_that_fails_leaves_nothing(
    small: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_and_cut(path: Path, *rest: Any) -> None:
        write_gguf(path, *rest)
        path.write_bytes(path.read_bytes()[:-5000])

    monkeypatch.setattr(origins, "write_gguf", write_and_cut)
    with pytest.raises(PitoolError, match=r"is truncated") as caught:
        convert_folder(small, target, "Q8_0", engine=always(Honest(checkpoint_of(small))))
    assert "\n" not in str(caught.value)
    assert names(target.parent) == set()


def test_a_full_disk_is_found_before_anything_is_written(
    small: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": staging.SPARE_BYTES + 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DoesNotFit, match="of disk"):
        convert_folder(small, target, "F16", engine=raising(AssertionError()))
    assert names(target.parent) == set()


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.parametrize("quants", ["F16", "Q8_0", "F32,Q4_K_M", "F16,BF16,Q8_0"])
def test_the_disk_that_is_asked_for_is_the_disk_that_is_used(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, quants: str
) -> None:
    asked: dict[Path, int] = {}
    monkeypatch.setattr(pipeline, "check_disk", asked.update)
    folder = write_checkpoint(tmp_path / "c")
    honest = always(Honest(checkpoint_of(folder)))
    convert_folder(folder, target, quants, engine=honest)
    # Metadata, norms in float32 and padding are not counted: they are in the spare.
    for place, used in (target.parent, target), (cache.folder(), cache.folder()):
        found = [path.stat().st_size for path in used.iterdir()] if used.is_dir() else []
        assert asked[place] <= sum(found) < asked[place] + 200_000


def test_tensors_that_are_missing_are_found_before_anything_is_written(
    tmp_path: Path, target: Path
) -> None:
    folder = write_checkpoint(tmp_path / "c")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadInput, match=r"has no tensor 'model\.norm\.weight'"):
        convert_folder(folder, target)
    assert names(target.parent) == set()


def test_stages_are_told_with_their_whole_work(small: Path, target: Path) -> None:
    stages: list[list[Any]] = []

    class Record:
        def stage(self, title: str, total: int, *, bytes_: bool = False) -> None:
            stages.append([title, total, 0])

        def advance(self, count: int) -> None:
            stages[-1][2] += count

        def close(self) -> None: ...

    from pitool.catalog.tiers import tiers
    from pitool.checkpoint.config import read_config
    from pitool.convert.plan import make_plan
    from tests.convert.helpers import source_of

    plan = make_plan(read_config(small), "1gb", tiers()["1gb"], "F16,Q8_0", 512)
    honest = always(Honest(checkpoint_of(small)))
    job = Job(plan, target, replace=False, threads=1)
    pipeline.convert(source_of(small), job, engines_of(honest), Record())
    assert [title for title, _, _ in stages] == [
        "hashing the checkpoint", "writing BF16", "writing F16", "looking for grids",
        "quantising to Q8_0",
        "opening the checkpoint", "computing the reference with pitool's own forward pass",
        "measuring rounding errors", "verifying BF16", "verifying F16", "verifying Q8_0", "hashing",
    ]  # fmt: skip
    for title, total, done in stages:
        assert done == pytest.approx(total, rel=0.02), title
