"""Shapes of models known without a checkpoint: from a GGUF's header, or from a size alone.

The header gives the exact shape. A size such as ``14B`` gives that of a real model where one is
sold by that name (``recipes/sizes.toml``), else a typical one by the rule of ``typical_shape``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from pitool.catalog import tables
from pitool.catalog.gguf import Header
from pitool.catalog.model_argument import parse_size
from pitool.catalog.model_shape import ModelShape, TensorShape
from pitool.errors import BadInput
from pitool.planning.type_mixture import TypedTensor

SMALLEST, LARGEST = 30e6, 1e12
TYPICAL_VOCABULARY = 151936
SMALL_VOCABULARY, SMALL_BELOW = 49152, 4e8
TYPICAL_CONTEXT = 32768
TIED_BELOW = 4e9
# The type that gpt-oss's experts were trained in.
PACKED = "MXFP4"


def header_tensors(header: Header) -> tuple[TypedTensor, ...]:
    """Return the tensors of a GGUF with the types that they are stored in."""
    return tuple(TypedTensor(TensorShape(t.name, t.shape), t.type) for t in header.tensors)


def header_shape(header: Header) -> ModelShape:
    """Return the shape that a GGUF's header tells; BadInput for one that holds no decoder."""
    tensors = tuple(TensorShape(t.name, t.shape) for t in header.tensors)
    embedding = next((t for t in tensors if t.name == "token_embd.weight"), None)
    layers, hidden = _count(header, "block_count"), _count(header, "embedding_length")
    heads = _count(header, "attention.head_count")
    predictors = _count(header, "nextn_predict_layers")
    if embedding is None or not (layers > predictors and hidden and heads):
        raise BadInput(f"{header.path} is not a language model", "choose another GGUF file")
    head_dim = _count(header, "attention.key_length") or hidden // heads
    kv_heads = _count(header, "attention.head_count_kv") or heads
    counts = _by_layer(header, "attention.head_count_kv", layers)
    if recurrent := _without_attention(tensors):
        counts = [0 if i in recurrent else n for i, n in enumerate(counts or [kv_heads] * layers)]
    layers -= predictors
    return ModelShape(
        architecture=header.architecture,
        layers=layers,
        hidden=hidden,
        feed_forward=_count(header, "feed_forward_length"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=embedding.shape[0],
        context=_count(header, "context_length") or TYPICAL_CONTEXT,
        tensors=tensors,
        kv_rows=_kv_rows(header, counts[:layers] or [kv_heads] * layers, head_dim),
        experts=_count(header, "expert_count"),
        experts_used=_count(header, "expert_used_count"),
        state_size=_count(header, "ssm.state_size"),
        short_context=header.short_context,
        predictors=predictors,
        packed=_packed(header),
        encoder=header.metadata.get(f"{header.architecture}.attention.causal") is False,
    )


def _packed(header: Header) -> str:
    """Return the type of experts as their maker released them, empty where they are not."""
    found = (t.type.name for t in header.tensors if TensorShape(t.name, t.shape).is_experts)
    return PACKED if PACKED in found else ""


def _kv_rows(header: Header, heads: list[int], head_dim: int) -> tuple[int, ...]:
    """Return the numbers in a token's key for each layer; empty where all have the same.

    Gemma's last layers take keys from others, and those with a window may have smaller heads.
    """
    pattern = header.metadata.get(f"{header.architecture}.attention.sliding_window_pattern")
    windowed = pattern if isinstance(pattern, list) and len(pattern) == len(heads) else []
    local = _count(header, "attention.key_length_swa") or head_dim
    sizes = [local if each is True else head_dim for each in windowed] or [head_dim] * len(heads)
    own = len(heads) - _count(header, "attention.shared_kv_layers")
    rows = tuple(
        n * size if i < own else 0 for i, (n, size) in enumerate(zip(heads, sizes, strict=True))
    )
    return rows if len(set(rows)) > 1 else ()


def _without_attention(tensors: tuple[TensorShape, ...]) -> set[int]:
    """Return the layers that have a recurrent state instead of keys and values."""
    states = {tensor.layer for tensor in tensors if tensor.part == "ssm_out"}
    return states - {tensor.layer for tensor in tensors if tensor.part == "attn_k"}


def _count(header: Header, key: str) -> int:
    """Return a number of the architecture, the largest where each layer has its own; 0 for none."""
    value = header.metadata.get(f"{header.architecture}.{key}", 0)
    if isinstance(value, list):
        return max((v for v in value if type(v) is int), default=0)
    return value if type(value) is int and value > 0 else 0


def _by_layer(header: Header, key: str, layers: int) -> list[int]:
    """Return a count for each layer, none where all have the same; BadInput for no counts."""
    value = header.metadata.get(f"{header.architecture}.{key}")
    if not isinstance(value, list):
        return []
    if len(value) != layers or any(type(n) is not int or n < 0 for n in value):
        raise BadInput(
            f"{header.path} is a damaged GGUF file: {key} does not have a number for each layer",
            "copy or convert it again",
        )
    return value


def typical_shape(parameters: float) -> ModelShape:
    """Return a dense decoder with about so many weights, shaped like today's families.

    The rule, from Llama 3, Qwen2.5 and Qwen3: a gated feed-forward of 3.5 x the hidden size, heads
    of 128 (64 below a hidden size of 1536), a key-value head for four heads but at most 8, a
    vocabulary of 151936 (49152 below 0.4 billion weights), tied below 4 billion weights. Of the
    hidden sizes in steps of 128 (256 from 1024, 512 from 2048 on) the one whose ratio to the
    number of layers comes nearest to 100 is taken; the feed-forward takes up the rest, so that
    the count is met.
    """
    if not SMALLEST <= parameters <= LARGEST:
        raise BadInput("a model has between 30M and 1000B weights", "use a size such as 1.5B")
    tied = parameters < TIED_BELOW
    vocabulary = TYPICAL_VOCABULARY if parameters >= SMALL_BELOW else SMALL_VOCABULARY
    best = min(_candidates(parameters, vocabulary, tied=tied), key=lambda c: abs(c[0] / c[1] - 100))
    hidden, layers = best
    head_dim, heads, kv_heads = _attention(hidden)
    outside = vocabulary * hidden * (1 if tied else 2)
    attention = 2 * hidden * hidden + 2 * hidden * kv_heads * head_dim
    rest = (parameters - outside) / layers - attention
    feed_forward = max(int(rest / (3 * hidden) / 256 + 0.5), 1) * 256
    return dense_shape(
        layers, hidden, feed_forward, heads, kv_heads, head_dim, vocabulary, TYPICAL_CONTEXT,
        tied=tied,
    )  # fmt: skip


def _attention(hidden: int) -> tuple[int, int, int]:
    """Return head size, heads and key-value heads."""
    head_dim = 64 if hidden < 1536 else 128
    heads = hidden // head_dim
    return head_dim, heads, max(d for d in range(1, min(8, heads // 4 or 1) + 1) if heads % d == 0)


def _candidates(parameters: float, vocabulary: int, *, tied: bool) -> Iterator[tuple[int, int]]:
    for hidden in (*range(256, 1024, 128), *range(1024, 2048, 256), *range(2048, 20480, 512)):
        head_dim, _, kv_heads = _attention(hidden)
        layer = 12.5 * hidden * hidden + 2 * hidden * kv_heads * head_dim
        layers = round((parameters - vocabulary * hidden * (1 if tied else 2)) / layer)
        if layers >= 1:
            yield hidden, layers


def dense_shape(
    layers: int,
    hidden: int,
    feed_forward: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    vocabulary: int,
    context: int,
    *,
    tied: bool,
) -> ModelShape:
    """Return a dense decoder with a gated feed-forward, without biases and norms of heads."""
    queries, kv = heads * head_dim, kv_heads * head_dim
    tensors = dense_tensors(layers, hidden, feed_forward, queries, kv, vocabulary, tied=tied)
    return ModelShape(
        "llama", layers, hidden, feed_forward, heads, kv_heads, head_dim, vocabulary, context,
        tensors,
    )  # fmt: skip


def dense_tensors(
    layers: int,
    hidden: int,
    feed_forward: int,
    queries: int,
    kv: int,
    vocabulary: int,
    *,
    tied: bool,
) -> tuple[TensorShape, ...]:
    """Return the tensors of a dense decoder; ``queries`` and ``kv``: rows of those projections."""

    def layer(i: int) -> Iterator[TensorShape]:
        for name, shape in (
            ("attn_norm", (hidden,)),
            ("attn_q", (queries, hidden)),
            ("attn_k", (kv, hidden)),
            ("attn_v", (kv, hidden)),
            ("attn_output", (hidden, queries)),
            ("ffn_norm", (hidden,)),
            ("ffn_gate", (feed_forward, hidden)),
            ("ffn_up", (feed_forward, hidden)),
            ("ffn_down", (hidden, feed_forward)),
        ):
            yield TensorShape(f"blk.{i}.{name}.weight", shape)

    ends = [TensorShape("output_norm.weight", (hidden,))]
    if not tied:
        ends.append(TensorShape("output.weight", (vocabulary, hidden)))
    body = (tensor for i in range(layers) for tensor in layer(i))
    return (TensorShape("token_embd.weight", (vocabulary, hidden)), *body, *ends)


@dataclass(frozen=True, slots=True)
class Size:
    """The numbers of a dense decoder with a gated feed-forward; ``model`` is whose they are."""

    model: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    tied: bool

    @property
    def shape(self) -> ModelShape:
        """The shape, without biases and norms of heads, which are less than 0.01 % of it."""
        numbers = asdict(self)
        del numbers["model"]
        return dense_shape(**numbers)


@cache
def sizes(path: Path | None = None) -> dict[float, Size]:
    """Return the table by the number of weights that the name says."""
    path = path or tables.recipes_folder() / "sizes.toml"
    return {
        parse_size(name) or 0: tables.build(Size, table, f"{path.name}: {name}")
        for name, table in tables.read_toml(path).items()
    }


def sized_shape(text: str) -> tuple[str, ModelShape]:
    """Return name and shape of a size such as ``14B``; BadInput for an absurd one."""
    number = parse_size(text)
    assert number is not None
    name = f"a typical {text.strip().upper()}"
    if known := sizes().get(number):
        return f"{name}, like {known.model}", known.shape
    return name, typical_shape(number)
