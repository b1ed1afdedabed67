"""Streams become artifacts: what onnxruntime computes from grids, what a float GGUF holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from pitool.convert.numpy_forward import reference_logits
from pitool.convert.techniques.assemble import assemble
from pitool.convert.techniques.base import Technique
from pitool.convert.techniques.rounding import FloatTensor, IntegerMatrix, QuantisedTensor
from pitool.convert.techniques.spool import Spool, head_matrix
from pitool.convert.techniques.workbench import Workbench
from pitool.errors import PitoolError
from pitool.quality.divergence import compare
from tests.convert.helpers import checkpoint_of
from tests.convert.onnx.helpers import Plain
from tests.tiny import write_checkpoint

IDS = np.random.default_rng(1).integers(0, 512, 100).tolist()
# What 8-bit activations of the kernel add (accuracy level 4).
KERNEL_KL = 2e-3


def bench_of(tmp_path: Path, **changes: Any) -> Workbench:
    source = write_checkpoint(tmp_path / "c", kind="F32", num_hidden_layers=2, **changes)
    folder = tmp_path / "made"
    folder.mkdir()
    return Workbench(checkpoint_of(source), folder)


def random_matrix(
    name: str, shape: tuple[int, ...], bits: int, block: int, kind: str
) -> IntegerMatrix:
    """Return a grid whose values are about as large as a layer's weights."""
    rng = np.random.default_rng(len(name) + bits)
    rows, columns = shape
    blocks = (rows, -(-columns // block))
    levels = rng.integers(0, 1 << bits, shape, dtype=np.uint8)
    scales = rng.uniform(0.5, 1.5, blocks).astype(np.float32) * np.float32(0.3 / (1 << bits))
    zeros = None
    if kind == "levels":
        zeros = rng.integers(6 << bits - 4, 11 << bits - 4, blocks, dtype=np.uint8)
    if kind == "floats":
        zeros = rng.uniform(6 << bits - 4, 10 << bits - 4, blocks).astype(np.float32)
    return IntegerMatrix(name, levels, scales, zeros, bits, block)


def technique(make: object, kernel: object = "onnxruntime") -> Technique:
    return Technique("t", "T", "Does.", "here", make, 4, kernel)  # type: ignore[arg-type]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("bits", "block", "kind"),
    [
        *(
            (4, block, kind)
            for block in (16, 32, 128, 512)
            for kind in ("half", "levels", "floats")
        ),
        *((8, 64, kind) for kind in ("half", "levels")),
    ],
)
def test_onnxruntime_computes_what_a_grid_stands_for(
    tmp_path: Path, bits: int, block: int, kind: str
) -> None:
    """The reference is our forward pass on the spooled values, which never sees the packing."""
    bench = bench_of(tmp_path)

    def stream(bench: Workbench) -> Iterator[QuantisedTensor]:
        for name, values in bench.weights():
            yield random_matrix(name, values.shape, bits, block, kind)

    made = assemble(technique(stream), bench)
    assert (made.kernel, made.made.format) == ("onnxruntime", "onnx")
    spool = Spool(bench.checkpoint, tmp_path / "again")
    spool.store(stream(bench))
    spool.finish()
    wanted = reference_logits(spool.checkpoint, IDS)
    found = Plain(made.made.entry).run(IDS)
    assert compare(wanted, found, IDS).mean_kl < KERNEL_KL
    # Not only the likeliest are right: the original checkpoint is far away.
    assert compare(reference_logits(bench.checkpoint, IDS), found, IDS).mean_kl > 50 * KERNEL_KL
    assert spool.bytes == pytest.approx(made.weight_bytes, rel=0.01)


def test_a_kernel_takes_grids_of_other_bits_in_one_product(tmp_path: Path) -> None:
    """Query, key and value are one product; here the value has 8 bits and a layer is dense."""
    bench = bench_of(tmp_path, model_type="qwen2")

    def stream(bench: Workbench) -> Iterator[QuantisedTensor]:
        for name, values in bench.weights():
            if "layers.1.mlp" in name:
                yield FloatTensor(name, values * np.float32(0.5), values.size * 2)
            else:
                bits = 8 if "v_proj" in name else 4
                yield random_matrix(name, values.shape, bits, 32, "half")

    made = assemble(technique(stream), bench)
    spool = Spool(bench.checkpoint, tmp_path / "again")
    spool.store(stream(bench))
    spool.finish()
    wanted = reference_logits(spool.checkpoint, IDS)
    assert compare(wanted, Plain(made.made.entry).run(IDS), IDS).mean_kl < KERNEL_KL


def test_without_a_kernel_the_values_are_a_float_gguf(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    name = "model.layers.0.mlp.up_proj.weight"
    half = bench.read(name) * np.float32(0.5)

    made = assemble(technique(lambda _: iter([FloatTensor(name, half, 1000)]), None), bench)
    assert (made.kernel, made.made.format) == (None, "gguf")
    tensors = {t.name: np.array(t.data) for t in gguf.GGUFReader(made.made.entry).tensors}
    np.testing.assert_array_equal(tensors["blk.0.ffn_up.weight"], half)
    down = bench.read("model.layers.1.mlp.down_proj.weight")
    np.testing.assert_array_equal(tensors["blk.1.ffn_down.weight"], down)
    table = bench.read("model.embed_tokens.weight")
    stored = head_matrix("e", table)
    np.testing.assert_array_equal(tensors["token_embd.weight"], stored.values)
    # The one that was made, 16 bits for the other matrices, 32 for norms, 36 / 32 bytes a weight
    # for the table of 512 x 256.
    matrices = 2 * (256 * 256 * 2 + 256 * 128 * 2 + 3 * 512 * 256) - 512 * 256
    assert made.bytes == 1000 + 2 * matrices + 4 * 5 * 256 + 512 * 256 * 36 // 32


def test_heads_that_would_be_padded_are_evaluated_dequantised(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, head_dim=24)
    assert (
        "padded"
        in assemble(
            technique(lambda b: (random_matrix(n, v.shape, 4, 32, "half") for n, v in b.weights())),
            bench,
        ).note
    )


def test_a_tensor_that_is_not_the_models_is_a_fault(tmp_path: Path) -> None:
    spool = Spool(bench_of(tmp_path).checkpoint, tmp_path / "s")
    norm = "model.norm.weight"
    for bad in (
        FloatTensor("other", np.zeros(3, np.float32), 1),
        FloatTensor(norm, np.zeros(3, np.float32), 1),
        FloatTensor(norm, np.full(256, np.nan, np.float32), 1),
    ):
        with pytest.raises(PitoolError, match="the model does not have, or that is not finite"):
            spool.store(iter([bad]))
