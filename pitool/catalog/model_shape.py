"""The shape of a model: what sizes, memory and speed are computed from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
# Of these a token needs one row only; llama.cpp reads them with GGML_OP_GET_ROWS.
_TABLES = frozenset({"per_layer_token_embd.weight", "position_embd.weight", "token_types.weight"})
_CONVOLUTIONS = frozenset({"ssm_conv1d", "shortconv.conv"})
# llama.cpp rounds the context that it loads up to a multiple of this.
CONTEXT_STEP = 256
# Tokens by which one vocabulary may be longer than the same in another model: what pads it to a
# round number, of no text.
VOCABULARY_PADDING = 128


def loaded_within(tokens: int) -> int:
    """Return the most context that llama.cpp loads without going beyond so many tokens."""
    return tokens // CONTEXT_STEP * CONTEXT_STEP


@dataclass(frozen=True, slots=True)
class TensorShape:
    """A tensor by its GGUF name; ``shape`` ends with the row length, ``weights`` is their number.

    ``layer``: the one that it is of, -1 for a tensor of the whole model. ``part``: what of a layer
    it is, ``attn_v`` of ``blk.3.attn_v.weight``; empty outside of one.
    """

    name: str
    shape: tuple[int, ...]
    weights: int = field(init=False, repr=False, compare=False)
    layer: int = field(init=False, repr=False, compare=False)
    part: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        layer, part = _place(self.name)
        for name, value in (("weights", prod(self.shape)), ("layer", layer), ("part", part)):
            object.__setattr__(self, name, value)

    @property
    def is_experts(self) -> bool:
        """Whether it is the matrices of all experts."""
        return self.part.endswith("_exps")


@lru_cache(maxsize=4096)
def _place(name: str) -> tuple[int, str]:
    """Return the layer of a tensor, and what of it it is."""
    found = re.fullmatch(r"blk\.(\d+)\.(.*?)(?:\.weight)?", name)
    return (int(found[1]), found[2]) if found else (-1, "")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder-only transformer.

    ``context``: tokens it was trained for; ``tensors``: all that a GGUF of it holds, in order.
    ``windows``: for each layer, how many tokens back it attends to, 0 for all; empty means all in
    every layer. ``kv_rows``: for each layer, the numbers in a token's key (as many in its value),
    0 for a layer without attention; empty means ``kv_heads * head_dim`` in every layer.
    ``experts`` and ``experts_used``: of a mixture of experts, in all and for one token.
    ``state_size``: numbers that a channel of a recurrent layer keeps from token to token.
    ``predictors``: layers behind the last one that predict further tokens; llama.cpp leaves them in
    the file unless it is asked to draft with them, which it is not here.
    ``windowless``: tokens up to which a GGUF computes the same, because llama.cpp leaves out
    windows of the model; 0 where it leaves out none. ``short_context``: tokens up to which LongRoPE
    takes its short factors; 0 where it takes no others. ``packed``: the type of experts that are
    stored in few bits and stay in them, whatever the file; empty for none. ``encoder``: it reads a
    text at once and gives a vector for it, so that no key is kept.
    """

    architecture: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    tensors: tuple[TensorShape, ...]
    windows: tuple[int, ...] = ()
    kv_rows: tuple[int, ...] = ()
    experts: int = 0
    experts_used: int = 0
    state_size: int = 0
    predictors: int = 0
    windowless: int = 0
    short_context: int = 0
    packed: str = ""
    encoder: bool = False

    def __hash__(self) -> int:
        """Tell models apart that are planned side by side; that of all tensors takes long."""
        return hash((self.architecture, self.layers, self.hidden, self.feed_forward, self.context))

    @property
    def state_bytes(self) -> int:
        """Bytes of the recurrent layers' states, in F32: however long the context is.

        Each channel that ``ssm_out`` takes has ``state_size`` numbers (Mamba, gated DeltaNet), and
        a convolution keeps what its taps but one have seen.
        """
        channels = sum(tensor.shape[-1] for tensor in self.tensors if tensor.part == "ssm_out")
        seen = sum(t.shape[0] * (t.shape[-1] - 1) for t in self.tensors if t.part in _CONVOLUTIONS)
        return 4 * (self.state_size * channels + seen)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(tensor.weights for tensor in self.tensors)

    @property
    def tied(self) -> bool:
        """Whether the embedding is also the head."""
        return all(tensor.name != HEAD for tensor in self.tensors)

    def loaded(self, tensor: TensorShape) -> bool:
        """Whether llama.cpp reads this tensor of a file at all."""
        return tensor.layer < self.layers

    def keeps(self, tensor: TensorShape) -> bool:
        """Whether a tensor stays in the few bits that it was trained in."""
        return bool(self.packed) and tensor.is_experts

    def streamed(self, name: str) -> bool:
        """Whether a decode reads anything of this tensor but a row."""
        return self.read_share(name) > 0

    def read_share(self, name: str) -> float:
        """Which part of this tensor a decode reads on average: of experts, those used.

        Of an embedding beside a head of its own it reads one row, which is as good as nothing.
        """
        one_row = name in _TABLES or (name == EMBEDDING and not self.tied)
        if one_row or _place(name)[0] >= self.layers:
            return 0.0
        return self.experts_used / self.experts if self.experts and "_exps." in name else 1.0

    def layer_caches(self) -> tuple[tuple[int, int], ...]:
        """Return window and numbers in a key, for each layer."""
        windows = self.windows or (0,) * self.layers
        rows = self.kv_rows or (self.kv_heads * self.head_dim,) * self.layers
        if self.encoder:
            rows = (0,) * self.layers
        return tuple(zip(windows, rows, strict=True))
