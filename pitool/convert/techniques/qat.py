"""Quantisation-aware training: weights are trained with their rounding in place.

The forward pass sees rounded weights; the gradient passes through the rounding unchanged
(straight-through estimator, Bengio et al. 2013). The target is the checkpoint's own predictions on
the calibration text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pitool.convert.techniques import training
from pitool.convert.techniques.base import Need, Technique
from pitool.convert.techniques.blockwise import quantise
from pitool.convert.techniques.rounding import IntegerMatrix
from pitool.convert.techniques.workbench import Workbench

BITS, BLOCK = 4, 32
STEPS, RATE = 120, 2e-4


def fake_round(weight: Any) -> Any:
    """Return a torch matrix rounded as ``blockwise.quantise`` does, with the weight's gradient."""
    import torch

    rows, columns = weight.shape
    short = -columns % BLOCK
    blocks = torch.nn.functional.pad(weight.detach(), (0, short)).reshape(rows, -1, BLOCK)
    most = (1 << (BITS - 1)) - 1
    scales = (blocks.abs().amax(-1, keepdim=True) / most).clamp_min(torch.finfo(torch.float32).tiny)
    levels = torch.clamp(torch.round(blocks / scales), -most, most)
    rounded = (levels * scales).reshape(rows, -1)[:, :columns]
    return weight + (rounded - weight).detach()


def make(bench: Workbench) -> Iterator[IntegerMatrix]:
    """Train, then yield the matrices rounded as they were during training."""
    import torch

    model = training.load(bench)
    texts = training.windows(bench)
    with torch.no_grad():
        wanted = [model(text).logits.log_softmax(-1) for text in texts]

    class Rounded(torch.nn.Module):  # type: ignore[misc]
        def forward(self, weight: Any) -> Any:
            return fake_round(weight)

    modules = dict(training.linears(model, bench))
    for module in modules.values():
        module.weight.requires_grad_(True)
        torch.nn.utils.parametrize.register_parametrization(module, "weight", Rounded())
    originals = [module.parametrizations.weight.original for module in modules.values()]

    def loss(i: int) -> Any:
        got = model(texts[i]).logits.log_softmax(-1)
        return torch.nn.functional.kl_div(got, wanted[i], log_target=True, reduction="batchmean")

    training.train("training", bench, originals, loss, steps=STEPS, rate=RATE)
    for name, module in modules.items():
        trained = module.parametrizations.weight.original.detach().numpy()
        yield quantise(name, trained, BLOCK, BITS)


TECHNIQUE = Technique(
    name="qat-int4",
    title="QAT 4 bits, blocks of 32",
    effect="Trains the weights while they are rounded to 4 bits.",
    source="Bengio et al. 2013 (arXiv:1308.3432); Jacob et al. 2018 (arXiv:1712.05877)",
    make=make,
    bits=BITS + 32 / BLOCK,
    kernel="onnxruntime",
    needs=frozenset({Need.CALIBRATION, Need.TORCH}),
)
