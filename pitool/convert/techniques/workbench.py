"""What a technique works with: the checkpoint, calibration tokens, a scratch folder.

Owns the walk over the layers with their inputs. Never holds more than one layer in memory, and
the hidden state of the calibration tokens.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from pitool.architectures.description import Description, Layout
from pitool.architectures.table import describe
from pitool.checkpoint.source import Checkpoint
from pitool.convert.engines import OpenCalibrator
from pitool.convert.numpy_forward import Forward, covers
from pitool.convert.numpy_layer import OnInput
from pitool.convert.techniques.rounding import Floats, QuantisedTensor
from pitool.errors import BadInput
from pitool.report.progress import Progress, Silent

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_MATRIX = re.compile(r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight")


def is_matrix(name: str) -> bool:
    """Tell whether a tensor is a linear weight of a layer, which techniques quantise."""
    return _MATRIX.fullmatch(name) is not None


def is_plain(model: Description) -> bool:
    """Tell whether the layers have Llama's matrices, and norms by which their inputs are scaled."""
    layout, norm = model.layout, model.norm
    sandwich = bool(layout.before_attention and layout.after_attention)
    if model.experts or model.recurrent:
        return False
    whole = bool(layout.query and layout.gate) and layout.output == Layout().output
    return whole and not (sandwich or norm.layer or norm.offset)


S = TypeVar("S", bound=QuantisedTensor)


def per_matrix(quantise: Callable[[str, Floats], S]) -> Callable[[Workbench], Iterator[S]]:
    """Return the ``make`` of a technique that quantises each matrix of the layers on its own."""
    return lambda bench: (quantise(name, rows) for name, rows in bench.weights())


@dataclass(frozen=True, slots=True)
class Workbench:
    """The inputs of a technique.

    ``calibration``: windows of token ids; ``folder``: scratch space, emptied by its owner;
    ``shared``: folder of the files that several techniques start from, ``folder`` if None;
    ``open_calibrator``: loads an engine that sums squared activations, for importance matrices.
    """

    checkpoint: Checkpoint
    folder: Path
    calibration: tuple[tuple[int, ...], ...] = ()
    threads: int = 1
    progress: Progress = field(default_factory=Silent)
    open_calibrator: OpenCalibrator | None = None
    shared: Path | None = None

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return a file that techniques share, made if it does not exist yet."""
        path = (self.shared or self.folder) / name
        if not path.is_file():
            temporary = path.with_name(f".{name}.{os.getpid()}.partial")
            make(temporary)
            temporary.replace(path)
        return path

    def matrices(self) -> list[str]:
        """Return the names of the layers' linear weights, layer by layer.

        BadInput for a family that names them differently.
        """
        names = [n for n in self.checkpoint.tensors if is_matrix(n)]
        if not names:
            family = self.checkpoint.config.model_type
            raise BadInput(
                f"this technique does not support {family!r} models: their layers have no"
                " matrices that it can quantise",
                "choose a GGUF technique",
            )
        return sorted(names, key=lambda name: (int(name.split(".")[2]), name))

    def read(self, name: str) -> Floats:
        """Return a tensor of the checkpoint in float32."""
        return self.checkpoint.tensors[name].float32()

    def weights(self) -> Iterator[tuple[str, Floats]]:
        """Yield the layers' linear weights one by one, and report progress."""
        names = self.matrices()
        self.progress.stage("quantising", len(names))
        for name in names:
            yield name, self.read(name)
            self.progress.advance(1)

    def walk(self) -> Iterator[Layer]:
        """Yield the layers in order, each with the inputs that the layers before it produce.

        Weights replaced in a layer are used to compute the inputs of the next. BadInput without
        calibration tokens, or for a family that the forward pass does not cover.
        """
        if not self.calibration:
            raise BadInput("this technique needs a calibration text", "use --text FILE")
        config = self.checkpoint.config
        if not (covers(config) and is_plain(describe(config))):
            raise BadInput(
                f"this technique does not support {config.model_type!r} models: it needs the inputs"
                " of Llama's matrices in each layer",
                "choose a technique without calibration, or a GGUF quantisation",
            )
        forward, model = Forward(self.checkpoint), describe(config)
        hidden = [forward.embed(window) for window in self.calibration]
        self.progress.stage("quantising layer by layer", forward.layers)
        for i in range(forward.layers):
            layer = Layer(i, forward.weights(i), forward, hidden, model)
            yield layer
            hidden = layer.outputs()
            self.progress.advance(1)


class Layer:
    """A layer in a walk: its tensors by short name (``self_attn.q_proj.weight``), its inputs.

    ``norms_give_inputs``: attention and MLP read what a norm gives; OLMo 2 has its norms after.
    """

    def __init__(
        self,
        index: int,
        weights: dict[str, Floats],
        forward: Forward,
        hidden: Sequence[Floats],
        model: Description,
    ) -> None:
        self.index, self.weights = index, weights
        self.norms_give_inputs = bool(model.layout.before_attention)
        self._forward, self._hidden = forward, hidden

    @property
    def matrices(self) -> list[str]:
        """Short names of the linear weights in the order in which data flows through them."""
        order = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
        found = [n for n in self.weights if is_matrix(self.full(n))]
        return sorted(found, key=lambda name: order.index(name.split(".")[-2]))

    def full(self, name: str) -> str:
        """Return the checkpoint's name for a short name."""
        return f"{self._forward.prefix(self.index)}{name}"

    def replace(self, name: str, values: Floats) -> None:
        """Make the layer compute with other values from now on."""
        self.weights[name] = values.astype(np.float32, copy=False)

    def run(self, on_input: OnInput) -> list[Floats]:
        """Run the calibration windows through the layer; return its outputs.

        ``on_input`` is called with the module of every linear weight (``self_attn.q_proj``) and
        its inputs, (tokens, in), window by window. Weights that share an input get the same array.
        """
        return [self._forward.layer(self.index, self.weights, h, on_input) for h in self._hidden]

    def outputs(self) -> list[Floats]:
        """Return the layer's outputs with its current weights, (tokens, hidden) per window."""
        return self.run(lambda _name, _input: None)

    def gather(self, measure: Callable[[Floats], Floats]) -> dict[str, Floats]:
        """Return the sum of ``measure`` over the inputs of all windows, by module."""
        sums: dict[str, Floats] = {}
        last: tuple[Floats | None, Floats | None] = (None, None)

        def hear(name: str, x: Floats) -> None:
            nonlocal last
            if last[0] is not x:
                last = (x, measure(x))
            assert last[1] is not None
            sums[name] = sums[name] + last[1] if name in sums else last[1]

        self.run(hear)
        return sums

    def hessians(self) -> dict[str, Floats]:
        """Return 2 / tokens * X^T X of each module's inputs, (in, in): GPTQ's Hessian."""
        tokens = sum(len(hidden) for hidden in self._hidden)
        scale = np.float32(2 / tokens)
        return self.gather(lambda x: (x.T @ x) * scale)

    def magnitudes(self) -> dict[str, Floats]:
        """Return the mean |input| of each column, (in,), by module: AWQ's saliency."""
        tokens = np.float32(sum(len(hidden) for hidden in self._hidden))
        return self.gather(lambda x: np.abs(x).sum(0) / tokens)
