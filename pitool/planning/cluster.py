"""One model over several machines: which layers go where, what crosses the network, how fast.

llama.cpp's RPC backend splits by layers: a token goes through the machines one after the other, so
that a cluster has the memory of all of them and the speed of one. The machine that is asked holds
the embedding and the first layers; every other computes its own and sends the activations back. All
sizes in bytes, times in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

from pitool.catalog.boards import Board
from pitool.catalog.manifest import MemoryLine
from pitool.catalog.model_shape import CONTEXT_STEP, EMBEDDING, HEAD, ModelShape
from pitool.planning.formats.gguf_memory import (
    RUNTIME_BYTES,
    VOCABULARY_ENTRY_BYTES,
    kv_cache_by_layer,
)
from pitool.planning.memory import CHAT, CHAT_BYTES, KV_CACHE, Load
from pitool.planning.prefill import PROMPT, count_alike, prefill_seconds, product_seconds
from pitool.planning.type_mixture import TypedTensor

# Resident memory of the server's process before a client comes, measured on x86_64.
SERVER_BYTES = 40 * 1024 * 1024
# llama.cpp asks a server whether it has a tensor, by its hash, only above this (HASH_THRESHOLD).
CACHED_BYTES = 10 * 1024 * 1024
# A tensor as the protocol describes it, with command and sizes (rpc_tensor in ggml-rpc.cpp), and
# the inputs of a machine's layers: activations, positions, mask, and where keys and values go.
MESSAGE_BYTES = 296 + 9 + 9
INPUTS = 5
# Prompts go through the machines like a pipeline, in this many copies of what layers take in.
PIPELINE_COPIES = 4
PIPELINE_BATCH = 128
# Decode may lose this share for the pipeline, which makes a prefill faster.
HEAD_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Link:
    """The way to a machine: ``latency`` of a round trip, ``rate`` in bytes/s."""

    latency: float
    rate: float

    def seconds(self, count: float) -> float:
        """Return how long one exchange of so many bytes takes."""
        return self.latency + count / self.rate


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that may hold layers; without ``link`` the one that is asked.

    ``room``: bytes for a model; ``bandwidth``: bytes/s that a decode reads; ``board``: what its
    products take, None where that is unknown; ``holds``: whether layers may be put on it;
    ``repacked``: types that ggml interleaves there, which a server never does.
    """

    name: str
    room: int
    bandwidth: float
    board: Board | None = None
    link: Link | None = None
    holds: bool = True
    repacked: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Share:
    """What one machine holds: layers from ``first`` on, with its memory and its part of a token.

    ``decode``: seconds of a token; ``prefill``: of a token of a prompt, None where unknown;
    ``token_bytes``: what crosses the network to it and back for a token; ``load_bytes``: the
    weights that are sent to it, of which ``kept_bytes`` are cached there.
    """

    node: Node
    first: int
    layers: int
    memory: tuple[MemoryLine, ...]
    decode: float
    prefill: float | None
    token_bytes: int = 0
    load_bytes: int = 0
    kept_bytes: int = 0

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(line.bytes for line in self.memory)

    @property
    def layer_names(self) -> str:
        """The layers in words."""
        if not self.layers:
            return "none"
        last = self.first + self.layers - 1
        return f"{self.first}–{last}" if last > self.first else str(self.first)


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """A model over machines: the one that is asked first, then those that hold layers.

    ``unused``: machines that would only make it slower; ``fits``: within what should be used;
    ``missing``: bytes that no machine has room for; ``head_here``: see ``engine.base.Settings``.
    """

    shares: tuple[Share, ...]
    unused: tuple[Node, ...]
    load: Load
    head_here: bool
    fits: bool
    missing: int = 0

    @property
    def servers(self) -> tuple[Share, ...]:
        """The shares of other machines."""
        return tuple(share for share in self.shares if share.node.link is not None)

    @property
    def pipelined(self) -> bool:
        """Whether prompts go through the machines in parts, so that several compute at once."""
        here = self.shares[0].layers
        return not here and not self.head_here and len(self.servers) > 1

    @property
    def decode_seconds(self) -> float:
        """A token at an empty context."""
        return sum(share.decode + _crossing(share) for share in self.shares)

    @property
    def decode(self) -> float:
        """Tokens/s at an empty context."""
        return 1 / self.decode_seconds

    @property
    def prefill(self) -> float | None:
        """Tokens/s of a prompt of ``prefill.PROMPT`` tokens; None where a machine is unknown."""
        batch = min(self.load.micro_batch, PROMPT)
        parts = -(-PROMPT // batch)
        times = [
            None if share.prefill is None else batch * share.prefill + _crossing(share, batch)
            for share in self.shares
        ]
        known = [time for time in times if time is not None]
        if len(known) < len(times):
            return None
        once, longest = sum(known), max(known)
        seconds = once + (parts - 1) * longest if self.pipelined else parts * once
        return PROMPT / seconds

    @property
    def token_bytes(self) -> int:
        """What crosses the network for a token."""
        return sum(share.token_bytes for share in self.shares)

    @property
    def first_load(self) -> float:
        """How long the weights take over the network, the first time."""
        return sum(s.load_bytes / s.node.link.rate for s in self.shares if s.node.link)

    @property
    def later_load(self) -> float:
        """How long those take that are not cached."""
        left = ((s, s.load_bytes - s.kept_bytes) for s in self.shares)
        return sum(count / s.node.link.rate for s, count in left if s.node.link)

    def to_json(self) -> dict[str, Any]:
        """Return every number as a JSON value."""
        return {
            "fits": self.fits,
            "missing_bytes": self.missing,
            "head": self.shares[0].node.name if self.head_here else self.shares[-1].node.name,
            "pipelined": self.pipelined,
            "decode": self.decode,
            "prefill": self.prefill,
            "token_bytes": self.token_bytes,
            "first_load_seconds": self.first_load,
            "later_load_seconds": self.later_load,
            "machines": [
                {
                    "name": share.node.name,
                    "first_layer": share.first,
                    "layers": share.layers,
                    "memory": {line.name: line.bytes for line in share.memory},
                    "memory_bytes": share.total,
                    "room_bytes": share.node.room,
                    "decode_seconds": share.decode,
                    "token_bytes": share.token_bytes,
                }
                for share in self.shares
            ],
            "unused": [node.name for node in self.unused],
        }


def _crossing(share: Share, tokens: int = 1) -> float:
    """Return what the network takes for a batch of tokens through a share."""
    link = share.node.link
    return link.seconds(share.token_bytes * tokens) if link else 0.0


@dataclass(frozen=True)
class Splitter:
    """Splits one model, stored as ``tensors``, by layers over machines."""

    model: ModelShape
    tensors: tuple[TypedTensor, ...]
    load: Load

    def plan(self, nodes: Sequence[Node]) -> ClusterPlan:
        """Return the plan over machines, of which the first is asked and has no link.

        The fastest machines are used, as few as have room, and those that are equally fast alike;
        the head is where a token is the faster.
        """
        here, there = (self._plan(nodes, head_here=here) for here in (True, False))
        if not here.fits:
            return there if there.fits else here
        if not (there.fits and there.pipelined):
            return here
        return here if there.decode < here.decode * (1 - HEAD_SHARE) else there

    def _plan(self, nodes: Sequence[Node], *, head_here: bool) -> ClusterPlan:
        for used in _groups(nodes):
            if (counts := self._fill(used, head_here=head_here)) is not None:
                return self._made(nodes, used, counts, head_here=head_here)
        holding = [node for node in nodes if node.holds] or nodes
        share, more = divmod(self.layers, len(holding))
        evenly = [share + (place < more) for place in range(len(holding))]
        if holding[0].link is not None:
            holding, evenly = [nodes[0], *holding], [0, *evenly]
        plan = self._made(nodes, holding, evenly, head_here=head_here)
        return replace(plan, fits=False, missing=self._missing(holding, head_here=head_here))

    def _fill(self, nodes: Sequence[Node], *, head_here: bool) -> list[int] | None:
        """Return how many layers each machine takes; None where some are left.

        Each takes its part of the room of all where that is possible, and else all it has room for.
        """
        rooms = self._rooms(nodes, head_here=head_here)
        if min(rooms) < 0:
            return None
        usable = [room * node.holds for node, room in zip(nodes, rooms, strict=True)]
        return self._in_parts(usable) or self._one_after_another(usable)

    def _in_parts(self, rooms: Sequence[int]) -> list[int] | None:
        """Return counts of layers in proportion to rooms; None where one is too small for that."""
        total, whole = sum(self._layer_bytes), max(sum(rooms), 1)
        ends = [end / whole for end in accumulate(rooms)]
        counts, left, before = [0] * len(rooms), list(rooms), 0
        for need in self._layer_bytes:
            middle = (before + need / 2) / max(total, 1)
            place = next((i for i, end in enumerate(ends) if middle < end), len(rooms) - 1)
            counts[place] += 1
            left[place] -= need
            before += need
        return counts if min(left) >= 0 else None

    def _one_after_another(self, rooms: Sequence[int]) -> list[int] | None:
        """Return counts of layers where each machine is filled before the next, if that is all."""
        counts, layer = [], 0
        for room in rooms:
            first, used = layer, 0
            while layer < self.layers and used + self._layer_bytes[layer] <= room:
                used += self._layer_bytes[layer]
                layer += 1
            counts.append(layer - first)
        return counts if layer == self.layers else None

    def _missing(self, nodes: Sequence[Node], *, head_here: bool) -> int:
        rooms = self._rooms(nodes, head_here=head_here)
        usable = sum(room for node, room in zip(nodes, rooms, strict=True) if node.holds)
        return max(sum(self._layer_bytes) - usable, -min(rooms), 1)

    def _rooms(self, nodes: Sequence[Node], *, head_here: bool) -> list[int]:
        """Return the bytes that each machine has for layers."""
        heads = (self._has_head(node, node is nodes[-1], head_here) for node in nodes)
        return [
            node.room - self._fixed(node, head=head)
            for node, head in zip(nodes, heads, strict=True)
        ]

    @staticmethod
    def _has_head(node: Node, last: bool, head_here: bool) -> bool:
        return node.link is None if head_here else last

    # -- what a machine holds --------------------------------------------------------------

    @property
    def layers(self) -> int:
        """Layers in all."""
        return self.model.layers

    @cached_property
    def _by_layer(self) -> list[tuple[TypedTensor, ...]]:
        found: list[list[TypedTensor]] = [[] for _ in range(self.layers)]
        for tensor in self.tensors:
            if 0 <= tensor.tensor.layer < self.layers:
                found[tensor.tensor.layer].append(tensor)
        return [tuple(each) for each in found]

    @cached_property
    def _caches(self) -> list[int]:
        """Bytes of keys and values, and of a recurrent state, of each layer."""
        load = self.load
        state = self.model.state_bytes * load.sequences // max(self.layers, 1)
        kept = kv_cache_by_layer(self.model, load.tokens, load.kv_type, load.value_type)
        return [size + state for size in kept]

    @cached_property
    def _layer_bytes(self) -> list[int]:
        sizes = [sum(t.bytes for t in tensors) for tensors in self._by_layer]
        return [size + cache for size, cache in zip(sizes, self._caches, strict=True)]

    def _head(self) -> tuple[TypedTensor, ...]:
        name = EMBEDDING if self.model.tied else HEAD
        return tuple(t for t in self.tensors if t.tensor.name == name)

    def _ends(self, node: Node, *, head: bool) -> tuple[TypedTensor, ...]:
        """Return the tensors outside of the layers that a machine holds."""
        here = node.link is None
        ends = tuple(t for t in self.tensors if t.tensor.layer < 0 and t.tensor.name != HEAD)
        held = ends if here else ()
        also = self._head() if head and not (here and self.model.tied) else ()
        return (*held, *also)

    def _fixed(self, node: Node, *, head: bool) -> int:
        """Bytes that a machine needs whatever layers it has."""
        return sum(line.bytes for line in self._fixed_lines(node, head=head))

    def _fixed_lines(self, node: Node, *, head: bool) -> Iterator[MemoryLine]:
        yield MemoryLine("embedding and head", sum(t.bytes for t in self._ends(node, head=head)))
        yield MemoryLine("compute buffers", self._compute(head=head))
        sent = [*(t for each in self._by_layer for t in each)]
        sent += self._head() if head and node.link else ()
        yield MemoryLine("tensor on its way", max((t.bytes for t in sent), default=0))
        if node.link is None:
            twice = self._head() if head and self.model.tied and self.load.repack else ()
            copies = sum(t.bytes for t in twice if t.type.name in node.repacked)
            yield MemoryLine("repacked copies", copies)
            words = self.model.vocabulary * VOCABULARY_ENTRY_BYTES
            yield MemoryLine("runtime", RUNTIME_BYTES + words)
            yield MemoryLine(CHAT, CHAT_BYTES)
        else:
            yield MemoryLine("server", SERVER_BYTES)

    def _compute(self, *, head: bool) -> int:
        """Bytes of the graph of some layers, and of the logits where they are computed."""
        model, load = self.model, self.load
        batch = min(load.micro_batch, load.tokens)
        activations = batch * 4 * (3 * model.feed_forward + 4 * model.hidden)
        mask = batch * load.tokens * 2
        logits = max(load.outputs, load.sequences) * model.vocabulary * 4 if head else 0
        return max(activations, logits) + mask * PIPELINE_COPIES + logits

    # -- what it takes ---------------------------------------------------------------------

    def _made(
        self, nodes: Sequence[Node], used: Sequence[Node], counts: Sequence[int], *, head_here: bool
    ) -> ClusterPlan:
        kept = [(n, c) for n, c in zip(used, counts, strict=True) if c or n.link is None]
        shares, first = [], 0
        for place, (node, count) in enumerate(kept):
            head = self._has_head(node, place == len(kept) - 1, head_here)
            shares.append(self._share(node, first, count, head=head))
            first += count
        load = self.load
        if not head_here and not counts[0] and len(kept) > 2:
            load = replace(load, micro_batch=min(load.micro_batch, PIPELINE_BATCH))
        names = {node.name for node, _ in kept}
        unused = tuple(node for node in nodes if node.name not in names)
        return ClusterPlan(tuple(shares), unused, load, head_here, fits=True)

    def _share(self, node: Node, first: int, count: int, *, head: bool) -> Share:
        body = [t for tensors in self._by_layer[first : first + count] for t in tensors]
        weights = sum(t.bytes for t in body)
        caches = sum(self._caches[first : first + count])
        lines = [
            MemoryLine("weights", weights),
            MemoryLine(KV_CACHE, caches),
            *self._fixed_lines(node, head=head),
        ]
        sent = [] if node.link is None else [*body, *(self._head() if head else ())]
        return Share(
            node,
            first,
            count,
            tuple(line for line in lines if line.bytes),
            self._decode(node, [*body, *(self._head() if head else ())]),
            self._prefill(node, body),
            self._token_bytes(head=head) if node.link else 0,
            sum(t.bytes for t in sent),
            sum(t.bytes for t in sent if t.bytes > CACHED_BYTES),
        )

    def _token_bytes(self, *, head: bool) -> int:
        """Bytes to a server and back: activations with mask and places, activations or logits."""
        mask = CONTEXT_STEP * 2
        back = self.model.vocabulary if head else self.model.hidden
        return 4 * self.model.hidden + mask + INPUTS * MESSAGE_BYTES + MESSAGE_BYTES + 4 * back

    def _decode(self, node: Node, tensors: Iterable[TypedTensor]) -> float:
        """Seconds in which the weights are read, or multiplied where that takes longer."""
        alike = count_alike(self.model, tensors)
        shares = [(t, self.model.read_share(t.tensor.name) * count) for t, count in alike]
        reading = sum(t.bytes * share for t, share in shares) / node.bandwidth
        if node.board is None:
            return reading
        fast = self._interleaved(node)
        products = sum(product_seconds(node.board, t, fast) * share for t, share in shares)
        return max(reading, products)

    def _prefill(self, node: Node, tensors: Sequence[TypedTensor]) -> float | None:
        """Seconds of a token of a prompt, for which the head is not computed."""
        if not tensors:
            return 0.0
        if node.board is None:
            return None
        alike = count_alike(self.model, tensors)
        return prefill_seconds(node.board, self.model, alike, self._interleaved(node))

    def _interleaved(self, node: Node) -> frozenset[str]:
        return node.repacked if self.load.repack else frozenset()


def _groups(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """Yield more and more machines: the fastest that may hold layers, in their order.

    The one that is asked is always there, but holds layers with its equals only.
    """
    asked = nodes[0]
    for least in sorted({node.bandwidth for node in nodes if node.holds}, reverse=True):
        fast = [node for node in nodes[1:] if node.holds and node.bandwidth >= least]
        yield [replace(asked, holds=asked.holds and asked.bandwidth >= least), *fast]
