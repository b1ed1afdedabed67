"""GPTQ, AWQ and mixed precision: the papers' properties on a layer, and on the sample model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.checkpoint.source import find_source, open_checkpoint
from pitool.convert.numpy_forward import reference_logits
from pitool.convert.techniques import awq, find_technique, gptq, mixed
from pitool.convert.techniques.base import ArtifactFiles, Technique
from pitool.convert.techniques.spool import Spool
from pitool.convert.techniques.workbench import Workbench
from pitool.quality.divergence import compare
from tests.convert.helpers import checkpoint_of
from tests.tiny import write_checkpoint

Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def layer() -> tuple[Array, Array, Array]:
    """Weights (48, 96), correlated inputs (400, 96) with some large columns, and their Hessian."""
    rng = np.random.default_rng(6)
    mixing = rng.standard_normal((96, 96)) * 0.3 + np.eye(96)
    inputs = rng.standard_normal((400, 96)) @ mixing
    inputs[:, ::12] *= 8
    x = inputs.astype(np.float32)
    return (
        rng.standard_normal((48, 96)).astype(np.float32),
        x,
        (2 * x.T @ x / len(x)).astype(np.float32),
    )


def output_error(back: Array, rows: Array, inputs: Array) -> float:
    return float(((inputs @ (back - rows).T) ** 2).mean())


def test_gptqs_outputs_differ_less_than_those_of_the_nearest_levels(
    layer: tuple[Array, Array, Array],
) -> None:
    rows, inputs, hessian = layer
    grid = gptq.quantise("m", rows, hessian)
    nearest = awq.round_to_nearest("m", rows, np.diag(hessian))
    np.testing.assert_array_equal(grid.scales, nearest.scales)  # the same grid
    ours, plain = (output_error(g.values, rows, inputs) for g in (grid, nearest))
    assert ours < 0.6 * plain


def test_gptq_is_the_papers_algorithm_column_by_column(layer: tuple[Array, Array, Array]) -> None:
    """OBQ's update with the remaining Hessian's inverse at each step, without any blocks."""
    rows, _, hessian = layer
    grid = gptq.quantise("m", rows[:4], hessian)
    scales = np.repeat(gptq.scales_of(rows[:4], np.diag(hessian)), gptq.BLOCK, axis=1)
    damped = hessian.astype(np.float64) + 0.01 * np.diag(hessian).mean() * np.eye(96)
    left, order = rows[:4].astype(np.float64), np.argsort(-np.diag(hessian), kind="stable")
    remaining = list(order)
    for column in order:
        inverse = np.linalg.inv(damped[np.ix_(remaining, remaining)])
        rounded = np.clip(np.rint(left[:, column] / scales[:, column]), -8, 7) * scales[:, column]
        error = (left[:, column] - rounded) / inverse[0, 0]
        left[:, remaining] -= np.outer(error, inverse[0])
        np.testing.assert_allclose(grid.values[:, column], rounded, atol=1e-5)
        remaining = remaining[1:]


def test_inputs_without_correlation_leave_nothing_to_make_up_for() -> None:
    rows = np.random.default_rng(7).standard_normal((8, 64)).astype(np.float32)
    hessian = np.eye(64, dtype=np.float32)
    grid = gptq.quantise("m", rows, hessian)
    plain = awq.round_to_nearest("m", rows, np.ones(64, np.float32))
    np.testing.assert_array_equal(grid.levels, plain.levels)


def test_awqs_outputs_differ_less_than_unscaled_ones(layer: tuple[Array, Array, Array]) -> None:
    rows, inputs, hessian = layer
    scales = awq.search([rows], np.abs(inputs).mean(0), hessian)
    importance = np.diag(hessian)
    scaled = awq.round_to_nearest("m", rows * scales, importance / scales**2).values / scales
    plain = awq.round_to_nearest("m", rows, importance).values
    assert output_error(scaled, rows, inputs) < 0.9 * output_error(plain, rows, inputs)
    assert scales[::12].mean() > np.delete(scales, np.s_[::12]).mean()  # large inputs, large scales


def with_norms_after(folder: Path) -> Path:
    """Make OLMo 2 of a Llama: norms after attention and MLP and of queries and keys."""
    from safetensors.numpy import load_file, save_file

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "olmo2"}))
    turned = {"post_attention": "post_attention", "input": "post_feedforward"}
    tensors = {
        re.sub(r"(\w+)_layernorm", lambda m: f"{turned[m[1]]}_layernorm", name): values
        for name, values in load_file(folder / "model.safetensors").items()
    }
    for name in [name for name in tensors if re.search(r"\.[qk]_proj\.weight$", name)]:
        tensors[name.replace("_proj", "_norm")] = np.ones(len(tensors[name]), np.float32)
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("after", [False, True], ids=["norms before", "norms after"])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_awqs_scales_cancel_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kv_heads: int, *, after: bool
) -> None:
    """With rounding switched off the scaled layers compute what the checkpoint does."""
    folder = write_checkpoint(
        tmp_path / "c",
        kind="F32",
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
    )
    checkpoint = checkpoint_of(with_norms_after(folder) if after else folder)
    ids = np.random.default_rng(8).integers(3, 500, 40).tolist()
    bench = Workbench(checkpoint, tmp_path, (tuple(ids),))

    def exact(name: str, rows: Array, _importance: Array) -> object:
        return type("Exact", (), {"name": name, "values": rows, "bytes": 1, "bits": 32})()

    monkeypatch.setattr(awq, "round_to_nearest", exact)
    monkeypatch.setattr(awq, "search", lambda w, m, h: np.sqrt(np.maximum(m, 1e-3)))
    spool = Spool(checkpoint, tmp_path / "spool")
    spool.store(awq.make(bench))
    monkeypatch.setattr("pitool.convert.techniques.spool.head_matrix", lambda n, v: exact(n, v, v))
    spool.finish()
    np.testing.assert_allclose(
        reference_logits(spool.checkpoint, ids), reference_logits(checkpoint, ids), atol=2e-3
    )


def test_bits_go_where_they_gain_most_within_the_mean() -> None:
    costs = {
        "small": mixed.Cost(0.5, 0.0, 100), "large": mixed.Cost(0.6, 0.0, 1000),
        "idle": mixed.Cost(0.001, 0.0, 1000),
    }  # fmt: skip
    assert mixed.choose(costs, 6.2) == {"small": 8, "large": 8, "idle": 4}
    assert mixed.choose(costs, 4.5) == {"small": 8, "large": 4, "idle": 4}
    assert set(mixed.choose(costs, 8.0).values()) == {8}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workbench, list[int], Array]:
    """The sample model with 2048 calibration tokens, and logits of 256 others."""
    from tokenizers import Tokenizer

    source = find_source("sample", "1gb")
    assert source.text
    checkpoint = open_checkpoint(source)
    tokenizer = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    ids = tokenizer.encode(source.text.read_text(encoding="utf-8")).ids
    held, rest = ids[:256], ids[256 : 256 + 2048]
    windows = tuple(tuple(rest[i : i + 512]) for i in range(0, len(rest), 512))
    bench = Workbench(checkpoint, tmp_path_factory.mktemp("sample"), windows)
    return bench, held, reference_logits(checkpoint, held)


def divergence(technique: Technique, sample: tuple[Workbench, list[int], Array]) -> float:
    """Return the mean KL divergence with a technique's values in the layers."""
    bench, ids, base = sample
    spool = Spool(bench.checkpoint, bench.folder / technique.name)
    stream = technique.make(bench)
    assert not isinstance(stream, ArtifactFiles)
    spool.store(stream)
    spool.finish()
    return compare(base, reference_logits(spool.checkpoint, ids), ids).mean_kl


@pytest.mark.thorough
def test_on_the_sample_gptq_and_awq_beat_rounding_to_nearest(
    sample: tuple[Workbench, list[int], Array],
) -> None:
    kl = {n: divergence(find_technique(n), sample) for n in ("rtn-int4", "gptq-int4", "awq-int4")}
    assert kl["gptq-int4"] < kl["rtn-int4"]
    assert kl["awq-int4"] < kl["rtn-int4"]


def test_on_the_sample_training_beats_plain_blocks(
    sample: tuple[Workbench, list[int], Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    from pitool.convert.techniques import blockwise, qat

    monkeypatch.setattr(qat, "STEPS", 12)
    plain = Technique(
        "plain", "Plain.", "Rounds.", "here",
        lambda bench: (blockwise.quantise(n, w, 32, 4) for n, w in bench.weights()), 5,
    )  # fmt: skip
    assert divergence(find_technique("qat-int4"), sample) < divergence(plain, sample)


def test_on_the_sample_adapters_learn_the_text(
    sample: tuple[Workbench, list[int], Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """QLoRA is trained on text, so that the text's loss is what falls."""
    pytest.importorskip("transformers")
    from pitool.convert.techniques import qlora

    monkeypatch.setattr(qlora, "STEPS", 12)
    bench, _, _ = sample
    text = list(bench.calibration[0][:256])

    def loss(name: str) -> float:
        spool = Spool(bench.checkpoint, bench.folder / f"loss-{name}")
        spool.store(find_technique(name).make(bench))  # type: ignore[arg-type]
        spool.finish()
        logits = reference_logits(spool.checkpoint, text)[:-1].astype(np.float64)
        picked = logits[np.arange(len(logits)), text[1:]]
        return float((np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1))
                      + logits.max(1) - picked).mean())  # fmt: skip

    assert loss("qlora") < loss("nf4")
