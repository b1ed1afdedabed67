"""From a technique to something that an engine opens, with its bytes counted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pitool.catalog.model_shape import ModelShape
from pitool.catalog.tensor_types import find_quantisation
from pitool.convert.gguf.model import find_model, model_shape
from pitool.convert.gguf.vocabulary import read_vocabulary
from pitool.convert.gguf.writer import write_gguf
from pitool.convert.onnx.writer import write_onnx
from pitool.convert.staging import check_disk
from pitool.convert.techniques.base import Kernel, Made, Technique
from pitool.convert.techniques.footprint import footprint
from pitool.convert.techniques.packed import PackedWeights, unpackable
from pitool.convert.techniques.spool import BYTES_A_WEIGHT, Spool
from pitool.convert.techniques.workbench import Workbench
from pitool.planning.onnx_weights import ONNX_QUANTISATIONS


@dataclass(frozen=True, slots=True)
class Assembled:
    """What came of a technique.

    ``bytes``: of what the runtime opens, or, where ``kernel`` is None and the weights are
    dequantized for the evaluation, of the tensors in the technique's own format;
    ``weight_bytes``: of the tensors alone; ``parameters``: count of weights; ``planned``: bytes
    that the artifact needs in memory, None where it is not what would run. ``note``: what else a
    reader of the table must know.
    """

    made: Made
    bytes: int
    weight_bytes: int
    parameters: int
    planned: int | None
    kernel: Kernel | None
    note: str

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight, scales included."""
        return 8 * self.weight_bytes / self.parameters


def assemble(technique: Technique, bench: Workbench) -> Assembled:
    """Run a technique and return the artifact, which lies in the workbench's folder."""
    config = bench.checkpoint.config
    shape = model_shape(config)
    check_disk([(bench.folder, shape.parameters * BYTES_A_WEIGHT)])
    result = technique.make(bench)
    if isinstance(result, Made):
        return _runs(technique, shape, result)
    spool = Spool(bench.checkpoint, bench.folder / "spool")
    spool.take(result)
    spool.finish()
    bench.progress.stage("writing the artifact", 1)
    why_not = unpackable(config)
    if technique.kernel == "onnxruntime" and why_not is None:
        assembled = _runs(technique, shape, write_grids(spool, bench.folder / technique.name))
    else:
        made = write_values(spool, bench.folder / f"{technique.name}.gguf")
        reason = f"not packed: {why_not}" if technique.kernel else ""
        note = "; ".join(filter(None, (technique.note, reason)))
        assembled = Assembled(made, spool.bytes, spool.bytes, shape.parameters, None, None, note)
    spool.remove()
    bench.progress.advance(1)
    return assembled


def _runs(technique: Technique, shape: ModelShape, made: Made) -> Assembled:
    """Return an artifact that a kernel runs."""
    found = footprint(made, shape)
    return Assembled(
        made,
        found.files,
        found.weights,
        shape.parameters,
        found.memory.total,
        technique.kernel,
        technique.note,
    )


def write_grids(spool: Spool, folder: Path) -> Made:
    """Write an ONNX folder whose matrices are the spooled grids."""
    make = partial(PackedWeights, find=spool.grid)
    kind = ONNX_QUANTISATIONS["INT8"]
    write_onnx(folder, spool.with_original_tables, kind, make_weights=make)
    return Made("onnx", folder)


def write_values(spool: Spool, path: Path) -> Made:
    """Write a float32 GGUF of the spooled values."""
    checkpoint = spool.checkpoint
    model = find_model(checkpoint.config)
    vocabulary = read_vocabulary(checkpoint.folder, model.shape.vocabulary)
    write_gguf(path, checkpoint, model, vocabulary, find_quantisation("F32"))
    return Made("gguf", path)
