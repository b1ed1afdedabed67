"""Runs a written folder on plain onnxruntime, with a cache that grows instead of a shared one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from pitool.convert.onnx.writer import write_onnx
from pitool.planning.onnx_weights import find_onnx_quantisation
from tests.convert.helpers import checkpoint_of


def written(source: Path, folder: Path, kind: str = "FP32", block: int | None = None) -> Path:
    """Write the ONNX folder of a checkpoint folder."""
    quantisation = find_onnx_quantisation(kind, block)
    return write_onnx(folder / quantisation.folder, checkpoint_of(source), quantisation)


class Plain:
    """A graph with its cache; ``run`` appends tokens and gives the logits after each."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.x64quantprecision", "1")  # sums in 32 bits
        path = str(folder / "model.onnx")
        self.session: Any = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.past: dict[str, NDArray[Any]] = {}
        for each in self.session.get_inputs():
            if each.name.startswith("past"):
                kind = np.float16 if each.type == "tensor(float16)" else np.float32
                self.past[each.name] = np.zeros((1, each.shape[1], 0, each.shape[3]), kind)

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return int(next(iter(self.past.values())).shape[2])

    def run(self, ids: Sequence[int], rows: int | None = None) -> NDArray[np.float32]:
        """Append tokens; give the logits after the last ``rows``, all by default."""
        feed: dict[str, Any] = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, self.length + len(ids)), np.int64),
            **self.past,
        }
        if rows != 1:  # 1 is the graph's own default
            feed["num_logits"] = np.array([rows or len(ids)], np.int64)
        logits, *present = self.session.run(None, feed)
        self.past = dict(zip(self.past, present, strict=True))
        table: NDArray[np.float32] = logits[0].astype(np.float32)
        return table

    def rewind(self, length: int) -> None:
        """Keep the first tokens only."""
        self.past = {name: part[:, :, :length] for name, part in self.past.items()}
