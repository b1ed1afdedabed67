"""The rows that onnxruntime computes, against sums by hand and onnxruntime's own tools."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization.quant_utils import compute_scale_zp

from pitool.convert.numpy_forward import reference_logits
from pitool.convert.onnx.writer import write_onnx
from pitool.convert.techniques import find_technique, onnx_static
from pitool.convert.techniques.assemble import assemble
from pitool.convert.techniques.workbench import Workbench
from pitool.errors import BadInput
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS
from pitool.quality.divergence import compare
from tests.convert.helpers import checkpoint_of
from tests.convert.onnx.helpers import Plain
from tests.tiny import write_checkpoint

IDS = np.random.default_rng(1).integers(0, 512, 100).tolist()


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    source = write_checkpoint(tmp_path / "c", kind="F32", num_hidden_layers=2)
    (tmp_path / "made").mkdir()
    return Workbench(checkpoint_of(source), tmp_path / "made", (tuple(IDS), tuple(IDS[:20])))


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 3.0), (0.0, 2.5), (-4.0, 0.0), (-0.3, 0.1), (0.0, 0.0)]
)
def test_scale_and_zero_are_those_of_onnxruntimes_tool(low: float, high: float) -> None:
    array = np.float32
    zero, scale = compute_scale_zp(array(low), array(high), np.int64(0), np.int64(255))
    found = onnx_static.scale_and_zero(low, high)
    assert found[0] == pytest.approx(float(scale), rel=1e-6)
    assert found[1] == int(zero)


def test_ranges_are_of_every_input_over_all_windows(bench: Workbench) -> None:
    ranges = onnx_static.measure(bench)
    assert len(ranges) == 2 * 7
    seen = []
    next(bench.walk()).run(lambda name, x: seen.append(x) if name == "mlp.down_proj" else None)
    found = ranges["model.layers.0.mlp.down_proj"]
    assert found == (min(float(x.min()) for x in seen), max(float(x.max()) for x in seen))


@pytest.mark.parametrize("name", ["dynamic-int8", "static-int8", "onnx-int8", "nbits-int8"])
def test_eight_bits_stay_close_to_the_checkpoint(bench: Workbench, name: str) -> None:
    made = assemble(find_technique(name), bench)
    assert made.kernel == "onnxruntime"
    kl = compare(reference_logits(bench.checkpoint, IDS), Plain(made.made.entry).run(IDS), IDS)
    assert 1e-9 < kl.mean_kl < 0.05
    assert 8 < made.bits_per_weight < 11


def test_static_inputs_are_clipped_to_the_measured_range(bench: Workbench) -> None:
    """A range that leaves nearly nothing ruins the logits: inputs really are quantised by it."""
    tight = dict.fromkeys(onnx_static.measure(bench), (-0.001, 0.001))
    made = bench.folder / "tight"
    weights = partial(onnx_static.StaticWeights, ranges=tight)
    write_onnx(made, bench.checkpoint, ONNX_QUANTISATIONS["INT8"], make_weights=weights)
    kl = compare(reference_logits(bench.checkpoint, IDS), Plain(made).run(IDS), IDS)
    assert kl.mean_kl > 0.5


def test_the_library_quantises_every_product(bench: Workbench) -> None:
    made = assemble(find_technique("onnx-int8"), bench)
    nodes = onnx.load(made.made.entry / "model.onnx", load_external_data=False).graph.node
    kinds = [node.op_type for node in nodes]
    assert kinds.count("MatMulInteger") == 2 * 5 + 1  # query, key and value are one product
    assert "MatMul" not in kinds


def test_static_needs_a_calibration_text(tmp_path: Path, bench: Workbench) -> None:
    without = Workbench(bench.checkpoint, tmp_path)
    with pytest.raises(BadInput, match="needs a calibration text"):
        assemble(find_technique("static-int8"), without)
