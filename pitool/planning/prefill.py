"""How long a token of a prompt takes under llama.cpp: products, attention, activations.

Everything is counted from the shape and the tensor types; what a board can do is in its table
(``recipes/boards.toml``), what a type costs in ``recipes/kernels.toml``. Times in seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pitool.catalog.boards import Board
from pitool.catalog.model_shape import EMBEDDING, HEAD, ModelShape
from pitool.planning.type_mixture import TypedTensor

# Tokens of the prompt that a prefill is predicted for, where none is named: llama-bench's pp512.
PROMPT = 512
# An interleaved kernel takes so many tokens through a chunk of a matrix, then reads the chunk
# again. Every thread has a chunk of a sixteenth, so that a quarter of the matrix is in use at a
# time (forward_mul_mat in ggml-cpu/repack.cpp, with four threads).
TOKENS_A_PASS = 4
CHUNKS_IN_USE = 4
# Bytes through memory for a number that goes into a product (read in F32, rounded to 8 bits) and
# for one that comes out (written in F32, read and written by the operation after it, read by the
# next): the numbers of a whole batch do not stay in the caches.
INPUT_BYTES = 5
OUTPUT_BYTES = 16
ENDS = frozenset({EMBEDDING, HEAD})


Counted = tuple[TypedTensor, int]
"""A tensor, and how many there are whose products take the same time."""


def count_alike(model: ModelShape, tensors: Iterable[TypedTensor]) -> list[Counted]:
    """Return one of all tensors that are computed alike, with their number: layers are alike."""
    windows = dict(enumerate(model.windows))
    first: dict[tuple[object, ...], TypedTensor] = {}
    counts = Counter[tuple[object, ...]]()
    for t in tensors:
        if model.loaded(t.tensor):
            part = t.tensor.part or t.tensor.name
            key = part, t.type.name, t.tensor.shape, windows.get(t.tensor.layer)
            first.setdefault(key, t)
            counts[key] += 1
    return [(first[key], count) for key, count in counts.items()]


def prefill_seconds(
    board: Board,
    model: ModelShape,
    tensors: Iterable[Counted],
    interleaved: frozenset[str],
    prompt: int = PROMPT,
) -> float:
    """Return the time of one token of a prompt, on average over the ``prompt`` tokens of it.

    ``interleaved``: types that ggml interleaves.

    The head is left out, for it runs for the last token of a prompt only.
    """
    body = matrices(tensors)
    products = sum(
        max(product_seconds(board, t, interleaved), _reading_seconds(board, t, interleaved))
        * model.read_share(t.tensor.name)
        * count
        for t, count in body
    )
    return products + overhead_seconds(board, model, body, prompt)


def matrices(tensors: Iterable[Counted]) -> list[Counted]:
    """Return the matrices between embedding and head."""
    return [
        (t, count) for t, count in tensors if t.tensor.name not in ENDS and len(t.tensor.shape) > 1
    ]


def overhead_seconds(
    board: Board, model: ModelShape, body: Iterable[Counted], prompt: int = PROMPT
) -> float:
    """Return what a token of a prompt takes besides the products with these matrices."""
    body = list(body)
    return attention_seconds(board, model, body, prompt) + _activation_seconds(board, model, body)


def product_seconds(board: Board, stored: TypedTensor, interleaved: frozenset[str]) -> float:
    """Return the time of one token's product with a matrix, if arithmetic is all it waits for."""
    if len(stored.tensor.shape) < 2:
        return 0.0
    fast = is_interleaved(stored, interleaved)
    cost = board.costs.cost(stored.type.name, interleaved=fast)
    return 2 * stored.tensor.weights * cost / (board.prefill_gflops * 1e9)


def is_interleaved(stored: TypedTensor, interleaved: frozenset[str]) -> bool:
    """Tell whether a matrix is multiplied for several tokens at once by an interleaved kernel.

    Those of experts are interleaved too, but ggml multiplies them a token at a time.
    """
    return stored.type.name in interleaved and "_exps." not in stored.tensor.name


def _reading_seconds(board: Board, stored: TypedTensor, interleaved: frozenset[str]) -> float:
    """Return the time in which the matrix comes from memory, where the caches cannot hold it."""
    if not is_interleaved(stored, interleaved):
        return 0.0
    if stored.bytes <= CHUNKS_IN_USE * board.cache_mib * 1024 * 1024:
        return 0.0
    return stored.bytes / TOKENS_A_PASS / (board.bandwidth_gbs * 1e9)


def attention_seconds(
    board: Board, model: ModelShape, body: Iterable[Counted], prompt: int = PROMPT
) -> float:
    """Return the time in which a token attends, on average over the prompt, to those before it.

    What attention gives goes into ``attn_output``, whose columns are all heads side by side.
    """
    windows = dict(enumerate(model.windows))
    operations = sum(
        4 * t.tensor.shape[-1] * _mean_keys(windows.get(t.tensor.layer, 0), prompt) * count
        for t, count in body
        if t.tensor.part == "attn_output"
    )
    return operations * board.costs.attention / (board.prefill_gflops * 1e9)


def _mean_keys(window: int, prompt: int) -> float:
    """Return how many tokens one of the prompt attends to in a layer; ``window`` 0: to all."""
    if not 0 < window < prompt:
        return prompt / 2
    return window * (1 - window / (2 * prompt))


def _activation_seconds(board: Board, model: ModelShape, body: Iterable[Counted]) -> float:
    """Return the time in which what goes into the products and comes out goes through memory.

    Of experts, as many as a token uses.
    """
    moved = sum(
        (INPUT_BYTES * t.tensor.shape[-1] + OUTPUT_BYTES * t.tensor.shape[-2])
        * (model.experts_used if "_exps." in t.tensor.name else 1)
        * bool(model.read_share(t.tensor.name))
        * count
        for t, count in body
    )
    return moved / (board.bandwidth_gbs * 1e9)
