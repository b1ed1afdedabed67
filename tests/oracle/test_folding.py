"""Scales folded into norms and matrices leave the logits of every family as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.architectures.table import describe
from pitool.convert import folding
from pitool.convert.gguf.layers import GgufTensors
from pitool.convert.gguf.model import find_model
from pitool.convert.layerwise import unwalkable
from pitool.convert.numpy_forward import Forward, reference_logits
from pitool.quality.divergence import spread_share, squares
from tests.convert.helpers import checkpoint_of
from tests.oracle.cases import CASES

pytest.importorskip("torch")
pytest.importorskip("transformers")

Array = NDArray[np.float32]
# Norms of queries and keys apart, everything of a layer can be folded; of these, less or nothing.
FEWER = {
    "mixtral": 2, "olmoe": 2, "qwen3_moe": 2, "gpt_oss": 2, "granite4": 2, "granite4-experts": 0,
    "granite4-attention-experts": 2, "exaone4": 2, "olmo2": 2, "starcoder2": 3, "apertus": 3,
    "stablelm-parallel": 2, "gpt2": 0, "gpt_neox": 0, "gpt_neox-serial": 0, "gemma3n": 0, "lfm2": 2,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_logits_stay(family_checkpoint: Callable[[str], Path], case: str) -> None:
    checkpoint = checkpoint_of(family_checkpoint(case))
    model, rng = describe(checkpoint.config), np.random.default_rng(0)
    counts = [len(folding.folds_of(model, i)) for i in range(model.sizes.layers)]
    assert counts[0] == FEWER.get(case, 4)
    if unwalkable(checkpoint.config):
        return
    ids = rng.integers(3, 500, 40).tolist()
    forward = Forward(checkpoint)
    hidden = forward.embed(ids)
    for i in range(forward.layers):
        weights = forward.weights(i)
        for fold in folding.folds_of(model, i):
            columns = weights[f"{fold.matrices[0]}.weight"].shape[1]
            drawn: Array = np.exp(rng.uniform(-3, 3, (columns,))).astype(np.float32)
            scales = folding._scales(fold, drawn, 0.5)
            folding.apply(fold, weights, scales)
        hidden = forward.layer(i, weights, hidden)
    exact = reference_logits(checkpoint, ids)
    assert spread_share(squares(exact, forward.logits(hidden))) < 1e-5  # the certificate's error


@pytest.mark.parametrize("case", CASES)
def test_a_matrix_of_a_gguf_is_the_checkpoints_in_another_order(
    family_checkpoint: Callable[[str], Path], case: str
) -> None:
    """Every matrix that may be rounded row by row is what the writer makes of it."""
    from pitool.convert.gguf.layers import row_order
    from pitool.convert.gguf.writer import _stored, match_tensors

    checkpoint = checkpoint_of(family_checkpoint(case))
    model = find_model(checkpoint.config)
    tensors, wanted = GgufTensors(model, {}), model.wanted()
    for want, sources in zip(wanted, match_tensors(checkpoint, wanted), strict=True):
        if tensors.holds(want.source):
            values = sources[0].float32()
            mine = values[row_order(want, len(values))] + np.float32(want.shift)
            assert mine.astype("<f4").tobytes() == b"".join(_stored(want, sources, "F32"))
