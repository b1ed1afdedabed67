"""QLoRA: the weights are frozen in NF4 and low-rank adapters are trained next to them.

The adapters are trained on the next tokens of the calibration text, like any fine-tune. Kept
separate, they stay in half precision next to the NF4 weights; merged, the sum is stored in 8-bit
blocks, which a kernel runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from pitool.convert.techniques import floats4, training
from pitool.convert.techniques.base import Need, Technique
from pitool.convert.techniques.blockwise import quantise
from pitool.convert.techniques.rounding import Floats, FloatTensor, QuantisedTensor
from pitool.convert.techniques.workbench import Workbench

RANK, ALPHA = 8, 16
STEPS, RATE = 120, 1e-3
MERGED_BLOCK = 32


def make(merged: bool, bench: Workbench) -> Iterator[QuantisedTensor]:
    """Train, then yield NF4 weights with their adapters, or the merged weights."""
    for name, base, change in _train(bench):
        total = base.values + change
        if merged:
            yield quantise(name, total, MERGED_BLOCK)
        else:
            yield FloatTensor(name, total, base.bytes + adapter_bytes(*total.shape))


def adapter_bytes(rows: int, columns: int) -> int:
    """Return the bytes of an adapter's two matrices in half precision."""
    return 2 * RANK * (rows + columns)


def _train(bench: Workbench) -> Iterator[tuple[str, FloatTensor, Floats]]:
    """Yield each matrix in NF4, and the product of its adapter."""
    import torch

    model = training.load(bench)
    texts = training.windows(bench)

    class WithAdapter(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, linear: Any) -> None:
            super().__init__()
            rows, columns = linear.weight.shape
            self.linear = linear
            self.a = torch.nn.Parameter(torch.randn(RANK, columns) / columns**0.5)
            self.b = torch.nn.Parameter(torch.zeros(rows, RANK))

        def forward(self, x: Any) -> Any:
            return self.linear(x) + (x @ self.a.T @ self.b.T) * (ALPHA / RANK)

    bases: dict[str, FloatTensor] = {}
    adapters: dict[str, WithAdapter] = {}
    for name, linear in list(training.linears(model, bench)):
        bases[name] = floats4.quantise(name, linear.weight.numpy(), floats4.NF4)
        linear.weight.copy_(torch.from_numpy(bases[name].values))
        adapters[name] = WithAdapter(linear)
        parent, _, last = name.removesuffix(".weight").rpartition(".")
        setattr(model.get_submodule(parent), last, adapters[name])
    trained = [p for adapter in adapters.values() for p in (adapter.a, adapter.b)]

    def loss(i: int) -> Any:
        return model(texts[i], labels=texts[i]).loss

    training.train("training adapters", bench, trained, loss, steps=STEPS, rate=RATE)
    for name, adapter in adapters.items():
        product = (adapter.b @ adapter.a).detach().numpy() * np.float32(ALPHA / RANK)
        yield name, bases[name], product.astype(np.float32)


def _row(name: str, title: str, after: str, bits: float, *, merged: bool) -> Technique:
    return Technique(
        name=name,
        title=title,
        effect=f"Trains adapters of rank {RANK} on frozen NF4 weights{after}.",
        source="Dettmers et al. 2023 (arXiv:2305.14314)",
        make=partial(make, merged),
        bits=bits,
        kernel="onnxruntime" if merged else None,
        needs=frozenset({Need.CALIBRATION, Need.TORCH}),
        note="fine-tuned on the calibration text, so it is expected to differ from the checkpoint",
    )


SEPARATE = _row(
    "qlora", "QLoRA, separate adapters", ", kept separate in half precision", 4.13, merged=False
)
MERGED = _row(
    "qlora-merged", "QLoRA, merged", ", merged and stored in 8-bit blocks", 9, merged=True
)
