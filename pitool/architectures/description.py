"""What a checkpoint's settings mean, in one value that every writer and the reference read.

Owns the words in which a decoder is described; a family's file makes a ``Description`` of
``config.json``, once. Never reads settings itself, and never says how a format stores anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pitool.architectures.rope import LongRope, Rope
from pitool.architectures.settings import Sizes
from pitool.errors import BadInput


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm: by the root of the mean square, or a ``layer`` norm with mean and bias.

    ``offset`` is added to the stored weights.
    """

    epsilon: float
    layer: bool = False
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Biases:
    """Which matrices of a layer have a bias."""

    qkv: bool = False
    output: bool = False
    mlp: bool = False


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts: how many, how many of them for a token, the size of their MLP.

    The first ``dense`` layers have an MLP instead. Scores are a softmax over all experts, or the
    ``sigmoid`` of each; the best are used, weighted by their scores, which are ``normalised`` to a
    sum of one or not. ``biased``: a bias is added to the scores for the choice alone. ``shared``:
    the MLP of the layout is there as well, for all tokens. ``clamped``: they are gpt-oss's.
    """

    count: int
    used: int
    size: int
    dense: int = 0
    sigmoid: bool = False
    normalised: bool = True
    biased: bool = False
    shared: bool = False
    clamped: ClampedExperts | None = None


@dataclass(frozen=True, slots=True)
class ClampedExperts:
    """gpt-oss's experts: gate and up of at most ``limit``, the gate's sigmoid sharper by ``alpha``.

    Router and matrices have biases. Rows of gate and up alternate; matrices are stored with inputs
    first unless they are ``packed``: in blocks of MXFP4, which every artifact keeps.
    """

    alpha: float = 1.702
    limit: float = 7.0
    packed: bool = False


@dataclass(frozen=True, slots=True)
class AltUp:
    """Alternating updates (Baykal et al. 2023) of ``streams`` of the residual, and a Laurel.

    A layer predicts all streams, computes the first, and corrects the others by it; coefficients
    are at most ``clip``. Beside attention there is a product of rank ``laurel``.
    """

    streams: int
    clip: float
    laurel: int


@dataclass(frozen=True, slots=True)
class LayerInputs:
    """Embeddings of Gemma's small models: each layer takes ``size`` numbers of a token besides.

    They come from a table of their own, of ``vocabulary`` rows, and from the embedding.
    """

    size: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class ShortConvolution:
    """LFM2's: gates before and after a causal convolution of ``taps`` tokens in each column."""

    taps: int


@dataclass(frozen=True, slots=True)
class DeltaNet:
    """A gated delta rule (Yang et al. 2024) behind a causal convolution of ``taps`` tokens.

    Each of the ``key_heads`` serves as many of the ``value_heads``, one after the other.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    taps: int

    @property
    def keys(self) -> int:
        """Numbers in a token's keys."""
        return self.key_heads * self.key_dim

    @property
    def values(self) -> int:
        """Numbers in a token's values."""
        return self.value_heads * self.value_dim


@dataclass(frozen=True, slots=True)
class Mamba2:
    """Mamba-2 (Dao and Gu 2024) behind a causal convolution of ``taps`` tokens.

    Each of the ``heads`` has for each of its ``head_dim`` numbers a ``state`` of so many.
    """

    heads: int
    head_dim: int
    groups: int
    state: int
    taps: int

    @property
    def inner(self) -> int:
        """Numbers of all heads."""
        return self.heads * self.head_dim

    @property
    def channels(self) -> int:
        """Numbers that are convolved: the heads' and what is written and read by."""
        return self.inner + 2 * self.groups * self.state


Recurrence = ShortConvolution | DeltaNet | Mamba2
"""What a layer has instead of attention: a state of a fixed size, which each token changes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the modules in the checkpoint; those of a layer stand behind ``layer``.

    A name that is empty: there is no such module. Where a norm stands is told by which of the four
    there are. ``qkv``: query, key and value lie in one matrix, by part, or ``by_head``: each
    head's three one after the other. ``gate_up``: gate and up lie in one matrix. Without a gate
    the MLP is up, activation, down. ``transposed``: matrices are stored with inputs first.
    ``positions``: the embedding of positions that are learned. ``router`` scores the experts, which
    stand behind ``expert`` with their ``expert_gate``, ``expert_up`` and ``expert_down``;
    ``router_bias`` is the tensor that is added for their choice. ``experts_gate_up`` and
    ``experts_down``: those of all experts lie in one tensor each, of exactly that name. ``sinks``:
    the tensor of a score for each head that no token has. ``scalar``: the tensor of one number that
    multiplies what a layer gives. ``predictor``: the matrix before layers that predict further
    tokens.
    """

    embedding: str = "model.embed_tokens"
    positions: str = ""
    layer: str = "model.layers.{}."
    before_attention: str = "input_layernorm"
    after_attention: str = ""
    before_mlp: str = "post_attention_layernorm"
    after_mlp: str = ""
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    qkv: str = ""
    query_norm: str = ""
    key_norm: str = ""
    output: str = "self_attn.o_proj"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    gate_up: str = ""
    down: str = "mlp.down_proj"
    router: str = "mlp.gate"
    router_bias: str = ""
    expert: str = "mlp.experts.{}."
    expert_gate: str = "gate_proj"
    expert_up: str = "up_proj"
    expert_down: str = "down_proj"
    experts_gate_up: str = ""
    experts_down: str = ""
    sinks: str = ""
    norm: str = "model.norm"
    head: str = "lm_head"
    scalar: str = ""
    predictor: str = ""
    by_head: bool = False
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Description:
    """A decoder: embedding, layers of attention and MLP, norm and head.

    ``path``: of ``config.json``, for messages. ``own_head_dim``: the settings name the head size.
    ``rope``: the rotation, None for a model without; ``local_rope``: that of layers with a window
    where it is another; ``neighbours``: neighbours are rotated with each other, and not the halves
    of a head. ``unrotated``: layers without positions. ``windows``: for each layer, how many tokens
    back it attends to, 0 for all. ``scale`` multiplies the scores of attention; ``temperature``: a
    share, and a number of tokens; queries are multiplied by one plus the share of the logarithm of
    one plus how often their position holds these tokens. ``softcap`` and ``final_softcap`` bound
    scores and logits, 0 for none. ``residual_scale`` multiplies each block's result,
    ``logits_divisor`` divides the logits. ``activation``: by its name in transformers.
    ``head_norm``: how queries and keys are normalised: by ``head`` with one weight for all, by
    ``each`` head with its own, over ``all`` heads together, or not at all. ``late_norm``: after the
    rotation. ``output_gate``: the query matrix has behind each head a gate of its size, whose
    sigmoid multiplies what the head gives. ``parallel``: attention and MLP read the same input.
    ``recurrent``: layers that have the ``recurrence`` instead of attention. ``sections``: how many
    rotated pairs belong to time, height and width of an image; a text has one position for all.
    ``predictors``: layers behind the last one that predict further tokens, and give no logits.
    ``local_head_dim``: the size of a head in layers with a window, 0 where it is that of others.
    ``value_norm``: values are normalised, without weights. ``borrowing``: how many of the last
    layers take keys and values from the last layer of their kind before them; ``wide_borrowers``:
    their MLP is twice as wide. ``layer_inputs``: what layers take besides. ``altup``: the streams
    of the residual. ``sparsity``: for each layer, the share of its MLP's gate that is cut off, as
    if its numbers were normally distributed; empty for none. ``original_context``: the context
    before it was stretched, 0 where no writer needs it. ``encoder``: tokens see those after them,
    and there is no head. ``wrapped``: a text model inside a
    multimodal one, whose tensors have longer names.
    """

    path: Path
    model_type: str
    sizes: Sizes
    norm: Norm
    scale: float
    windows: tuple[int, ...]
    rope: Rope | None
    tied: bool
    activation: str
    layout: Layout = Layout()
    biases: Biases = Biases()
    own_head_dim: bool = False
    local_rope: Rope | None = None
    unrotated: frozenset[int] = frozenset()
    head_norm: str = ""
    late_norm: bool = False
    neighbours: bool = False
    output_gate: bool = False
    parallel: bool = False
    temperature: tuple[float, int] | None = None
    softcap: float = 0.0
    final_softcap: float = 0.0
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logits_divisor: float = 1.0
    experts: Experts | None = None
    recurrence: Recurrence | None = None
    recurrent: frozenset[int] = frozenset()
    sections: tuple[int, ...] = ()
    predictors: int = 0
    local_head_dim: int = 0
    value_norm: bool = False
    borrowing: int = 0
    wide_borrowers: bool = False
    layer_inputs: LayerInputs | None = None
    altup: AltUp | None = None
    sparsity: tuple[float, ...] = ()
    original_context: int = 0
    wrapped: bool = False
    encoder: bool = False

    def routed(self, layer: int) -> bool:
        """Tell whether a layer has experts."""
        return self.experts is not None and layer >= self.experts.dense

    def head_dim(self, layer: int) -> int:
        """Return the size of a layer's heads."""
        local = self.local_head_dim and self.windows[layer]
        return self.local_head_dim if local else self.sizes.head_dim

    def lender(self, layer: int) -> int:
        """Return the layer whose keys and values a layer attends to, mostly itself."""
        own = self.sizes.layers - self.borrowing
        alike = (
            i for i in reversed(range(own)) if bool(self.windows[i]) == bool(self.windows[layer])
        )
        return layer if layer < own else next(alike)

    def feed_forward(self, layer: int) -> int:
        """Return the size of a layer's MLP."""
        wide = self.wide_borrowers and self.lender(layer) != layer
        return self.sizes.feed_forward * (2 if wide else 1)

    def rotation(self, layer: int) -> Rope | None:
        """Return how a layer rotates queries and keys, None for one that does not."""
        if layer in self.unrotated:
            return None
        return self.local_rope if self.local_rope and self.windows[layer] else self.rope

    def windowless(self, kept: tuple[int, ...]) -> int:
        """Return up to how many tokens a file with these windows or none is right; 0 for all."""
        dropped = [] if kept else [window for window in self.windows if window]
        shortest = min(dropped, default=0)
        return shortest if shortest < self.sizes.context else 0

    def short_context(self) -> int:
        """Return up to how many tokens LongRoPE takes its short factors; 0 for all, or without."""
        ropes = (self.rotation(layer) for layer in range(self.sizes.layers))
        scalings = (rope.scaling for rope in ropes if rope)
        originals = (each.original for each in scalings if isinstance(each, LongRope))
        shortest = min(originals, default=0)
        return shortest if shortest < self.sizes.context else 0

    def error(self, what: str, remedy: str) -> BadInput:
        """Return the error of something that cannot be converted."""
        return BadInput(f"{self.path}: {what}", remedy)
