"""ONNX folders of architectures that the writer does not support: exported by optimum.

Export and comparison run in a child process (``exporter``). The graph is then quantised by
onnxruntime's own quantizers; onnxruntime fuses norms and activations when it loads it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

from pitool.catalog.model_shape import ModelShape
from pitool.checkpoint.config import Config
from pitool.checkpoint.source import Checkpoint
from pitool.convert import legacy
from pitool.convert.onnx.graph import DATA, GRAPH
from pitool.convert.onnx.settings import (
    GraphSizes,
    without_tokenizer,
    write_settings,
)
from pitool.errors import BadInput, MissingPart, PitoolError
from pitool.planning.onnx_weights import OnnxQuantisation

PACKAGES = ("optimum", "torch", "transformers", "onnx_ir")


def refusal(config: Config, kind: OnnxQuantisation) -> PitoolError | None:
    """Return why a checkpoint cannot be exported in a quantisation, None when it can."""
    folder = config.path.parent
    what = f"{folder} is a {config.model_type!r} model, which the ONNX writer does not support"
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            return MissingPart(
                f"{what}, and its export needs {package}", "run: pip install 'pitool[export]'"
            )
    if wrong := without_tokenizer(folder):
        return wrong
    if kind.bits == 16:
        return BadInput(f"{what}, and exports are in float32", "choose FP32, INT8 or INT4")
    return None


def export(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write the float32 graph of a checkpoint into ``folder``; PitoolError with the reason."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".checkpoint-") as scratch:
        source = Path(scratch)
        merged = bool(checkpoint.source.adapters or checkpoint.whole)
        legacy.link_checkpoint(checkpoint.folder, source, weights=not merged)
        if merged:
            _write_merged(checkpoint, source / "model.safetensors")
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pitool.convert.onnx.exporter", str(source), str(folder)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            text=True, errors="replace", check=False,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
    if done.returncode or not (folder / GRAPH).is_file():
        reason = (done.stderr.strip().splitlines() or ["the process was killed"])[-1]
        raise PitoolError(
            f"cannot export {checkpoint.folder} to ONNX ({reason[:300]})",
            "convert it with --format gguf, or report this model",
        )
    return folder


def _write_merged(checkpoint: Checkpoint, path: Path) -> None:
    """Write the tensors with their adapters merged, and the rows that are kept, in float32."""
    from safetensors.numpy import save_file

    tensors = {tensor.name: tensor.float32() for tensor in checkpoint.tensors.values()}
    save_file(tensors, path, metadata={"format": "pt"})


def write_exported(
    folder: Path,
    checkpoint: Checkpoint,
    exported: Path,
    kind: OnnxQuantisation,
    model: ModelShape,
) -> Path:
    """Write the artifact of an exported graph in a quantisation; return its folder."""
    folder.mkdir(parents=True)
    sizes = _sizes(exported / GRAPH, model)
    if kind.quantised:
        _quantise(exported / GRAPH, folder / GRAPH, kind)
    else:
        _save(onnx.load(exported / GRAPH), folder / GRAPH)
    write_settings(folder, checkpoint, sizes, model.context, fused=False)
    return folder


def _sizes(graph: Path, model: ModelShape) -> GraphSizes:
    """Return the sizes of a graph's KV cache; PitoolError if the engine does not support it."""
    made = onnx.load(graph, load_external_data=False).graph
    pasts = [_shape(each) for each in made.input if each.name.startswith("past")]
    if not pasts or len(pasts[0]) != 4 or not pasts[0][1] or any(p != pasts[0] for p in pasts):
        raise PitoolError(
            "the exported graph has a KV cache that the ONNX engine does not support",
            "convert the model with --format gguf",
        )
    vocabulary = next(_shape(each)[-1] for each in made.output if each.name == "logits")
    _, kv_heads, _, head_dim = pasts[0]
    # Only onnxruntime-genai needs the number of query heads.
    return GraphSizes(len(pasts) // 2, kv_heads, head_dim, vocabulary, kv_heads, model.hidden)


def _shape(value: Any) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _quantise(source: Path, target: Path, kind: OnnxQuantisation) -> None:
    """Quantise the matrices of a graph with onnxruntime's own quantizers."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    wrapped = ONNXModel(onnx.load(source))
    wrapped.replace_gemm_with_matmul()
    model = wrapped.model
    if kind.dynamic:
        model = _dynamic(model, target)
    else:
        apart = kind.head_bits != kind.bits
        head = [node.name for node in model.graph.node if node.op_type == "MatMul"][-1:]
        model = _blocks(model, kind, kind.bits, head if apart else [])
        if apart:
            model = _blocks(model, kind, kind.head_bits, [])
    if not any(node.op_type in QUANTISED for node in model.graph.node):
        raise PitoolError(
            "the exported graph has no matrix that onnxruntime can quantise",
            "convert the model with --format gguf",
        )
    _save(model, target)


QUANTISED = ("MatMulNBits", "MatMulInteger", "DynamicQuantizeMatMul")


def _blocks(model: Any, kind: OnnxQuantisation, bits: int, excluded: list[str]) -> Any:
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.ERROR)
    # The library can gather only from blocks of 4 bits.
    operators = ("MatMul", "Gather") if bits == kind.head_bits == 4 else ("MatMul",)
    config = DefaultWeightOnlyQuantConfig(
        block_size=kind.block,
        is_symmetric=not kind.asymmetric,
        accuracy_level=4,
        op_types_to_quantize=operators,
        quant_axes=(("MatMul", 0), ("Gather", 1)),
        bits=bits,
    )
    quantizer = MatMulNBitsQuantizer(model, nodes_to_exclude=excluded, algo_config=config)
    quantizer.process()
    return quantizer.model.model


@contextmanager
def without_advice() -> Iterator[None]:
    """Silence Python's root logger, where onnxruntime gives advice for other kinds of graphs."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


def _dynamic(model: Any, target: Path) -> Any:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    scratch_folder = tempfile.TemporaryDirectory(dir=target.parent, prefix=".quantised-")
    with scratch_folder as scratch, without_advice():
        path = Path(scratch) / GRAPH
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return onnx.load(path)


def _save(model: Any, target: Path) -> None:
    """Write a graph with its larger tensors in one data file."""
    onnx.save_model(model, target, save_as_external_data=True, location=DATA, size_threshold=1024)
