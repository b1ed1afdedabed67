"""The child process of an export: exports a checkpoint with optimum and compares the logits.

``python -m pitool.convert.onnx.exporter CHECKPOINT FOLDER``; only this process imports torch. The
last line of stderr says why it failed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GRAPH = "model.onnx"
TOKENS = 24
# Largest difference of a logit, relative to the largest logit or 1. A different order of summation
# gives 1e-5, a wrong rotation 1e-2.
BOUND = 1e-3


def export(checkpoint: Path, folder: Path) -> None:
    """Export with a KV cache, in float32; exits with an error message if the logits differ."""
    from optimum.exporters.onnx import main_export

    main_export(
        str(checkpoint),
        folder,
        task="text-generation-with-past",
        dtype="fp32",
        no_post_process=True,
        do_validation=False,
        local_files_only=True,
    )
    wanted, ids = _checkpoint_logits(checkpoint)
    for how, first in (("whole", len(ids)), ("token by token", len(ids) // 2)):
        made = _graph_logits(folder, ids, first)
        apart = float(np.abs(wanted - made).max() / max(1.0, np.abs(wanted).max()))
        if not apart <= BOUND:
            sys.exit(
                f"the logits of the exported graph, run {how}, differ from the checkpoint's by"
                f" {apart:.2g} of the largest logit, more than the limit of {BOUND:g}"
            )


def _checkpoint_logits(checkpoint: Path) -> tuple[NDArray[np.float32], list[int]]:
    """Return the checkpoint's logits in transformers, (tokens, vocabulary), and the token ids."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, local_files_only=True
    ).eval()
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, TOKENS).tolist()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy(), ids


def _graph_logits(folder: Path, ids: list[int], first: int) -> NDArray[np.float32]:
    """Return the graph's logits; the ``first`` tokens run at once, the others one by one."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / GRAPH), options, providers=["CPUExecutionProvider"]
    )
    inputs = {each.name: each.shape for each in session.get_inputs()}
    pasts: dict[str, NDArray[Any]] = {
        name: np.zeros((1, shape[1], 0, shape[3]), np.float32)
        for name, shape in inputs.items()
        if name.startswith("past")
    }
    rows, done = [], 0
    for end in (first, *range(first + 1, len(ids) + 1)):
        feed = {
            "input_ids": np.array([ids[done:end]], np.int64),
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(done, end, dtype=np.int64)[None],
        }
        found = session.run(None, {n: v for n, v in feed.items() if n in inputs} | pasts)
        named = dict(zip((each.name for each in session.get_outputs()), found, strict=True))
        rows.append(named["logits"][0])
        pasts = {name: named[name.replace("past_key_values", "present")] for name in pasts}
        done = end
    return np.concatenate(rows)


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
