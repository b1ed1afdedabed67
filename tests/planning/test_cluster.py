"""Layers over boards: sums by hand, what was published, and whatever the boards are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.catalog import tables
from pitool.catalog.boards import find_board
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.profiles import find_profile
from pitool.catalog.tensor_types import find_quantisation
from pitool.errors import UsageError
from pitool.planning.cluster import Link, Node, Splitter
from pitool.planning.cluster_boards import ethernet, find_nodes
from pitool.planning.formats.gguf_speed import estimate
from pitool.planning.memory import Load
from pitool.planning.shapes import dense_shape, sized_shape
from pitool.planning.type_mixture import TypedTensor, assign_types

DATA = Path(__file__).parents[2] / "benchmarks" / "clusters.toml"
GB = 10**9
LOAD = Load(2048, micro_batch=512)
WIRE = Link(0.001, 100e6)
FEW = dense_shape(4, 256, 512, 4, 2, 64, 1000, 4096, tied=False)


def typed(shape: ModelShape, quantisation: str = "Q8_0") -> tuple[TypedTensor, ...]:
    return assign_types(shape, find_quantisation(quantisation))


def test_a_token_by_hand() -> None:
    """Four layers on two equal boards behind a wire, in F32; the machine that is asked has none."""
    tensors = typed(FEW, "F32")
    layer = sum(t.bytes for t in tensors if t.tensor.layer == 0)
    nodes = [
        Node("asked", GB, 1e9, holds=False),
        Node("a", GB, 1e9, link=WIRE),
        Node("b", GB, 1e9, link=WIRE),
    ]
    plan = Splitter(FEW, tensors, LOAD).plan(nodes)
    assert [share.layers for share in plan.shares] == [0, 2, 2]
    # 1.9 ms of weights and head at 1e9 bytes/s; twice 1 ms, and 2 kB and more each way.
    head = 1000 * 256 * 4
    reading = (4 * layer + head) / 1e9
    crossing = sum(0.001 + share.token_bytes / 100e6 for share in plan.servers)
    assert plan.decode_seconds == pytest.approx(reading + crossing)
    least = 4 * 256  # activations in float32
    assert all(2 * least < share.token_bytes < 2 * least + 3000 for share in plan.servers[:-1])
    assert sum(share.load_bytes for share in plan.servers) == 4 * layer + head * (
        not plan.head_here
    )


def test_faster_boards_take_all_they_can_and_equal_ones_alike() -> None:
    shape = sized_shape("14B")[1]
    nodes = find_nodes("pi5-8gb,pi5-8gb,pi4-4gb", find_profile("balanced"))
    plan = Splitter(shape, typed(shape, "Q4_K_M"), LOAD).plan(nodes)
    assert plan.fits
    assert [node.name for node in plan.unused] == ["pi4b-4gb"]
    first, second = plan.shares
    assert first.layers + second.layers == shape.layers
    full = [share.total / share.node.room for share in plan.shares]
    assert full[0] == pytest.approx(full[1], abs=0.1)
    # Eight bits need the slower board too, and what it computes makes a token slower.
    eight = Splitter(shape, typed(shape, "Q8_0"), LOAD).plan(nodes)
    assert eight.fits
    assert not eight.unused
    assert eight.shares[-1].layers < eight.shares[0].layers


def test_a_slow_board_that_is_asked_leaves_the_layers_to_faster_ones() -> None:
    shape = sized_shape("8B")[1]
    nodes = find_nodes("pi4-8gb,pi5-8gb,pi5-8gb", find_profile("balanced"))
    plan = Splitter(shape, typed(shape, "Q4_0"), LOAD).plan(nodes)
    assert plan.shares[0].layers == 0
    assert plan.shares[0].node.name == "pi4b-8gb"


def test_one_board_that_holds_it_alone_is_left_to_it() -> None:
    shape = sized_shape("1.5B")[1]
    nodes = find_nodes("pi5-8gb,pi4-4gb", find_profile("balanced"))
    tensors = typed(shape, "Q4_0")
    plan = Splitter(shape, tensors, LOAD).plan(nodes)
    assert plan.servers == ()
    alone = estimate("pi5", find_board("pi5"), shape, tensors)
    assert plan.decode == pytest.approx(alone.decode, rel=0.01)
    assert plan.prefill == pytest.approx(alone.prefill, rel=0.01)


def test_logits_cross_a_slow_network_only_where_that_is_cheap() -> None:
    shape = dense_shape(8, 512, 1536, 8, 2, 64, 150_000, 4096, tied=False)
    tensors = typed(shape)

    def plan(rate: float) -> bool:
        wire = Link(0.0005, rate)
        nodes = [Node("asked", GB, 1e10, holds=False)]
        nodes += [Node(name, GB, 1e10, link=wire) for name in "ab"]
        return Splitter(shape, tensors, LOAD).plan(nodes).head_here

    assert plan(1e6)
    assert not plan(1e10)


def test_a_pipeline_makes_a_prompt_faster_but_no_token() -> None:
    board = find_board("pi5")
    shape = sized_shape("8B")[1]
    tensors = typed(shape, "Q4_0")

    def plan(count: int):  # type: ignore[no-untyped-def]
        asked = Node("asked", 64 * GB, 1e10, holds=False)
        nodes = [Node(str(i), 16 * GB, 1e10, board, ethernet(1000)) for i in range(count)]
        return Splitter(shape, tensors, LOAD).plan([asked, *nodes])

    one, two = plan(1), plan(2)
    assert two.pipelined
    assert 1.3 < two.prefill / one.prefill < 2
    assert two.decode <= one.decode


@given(
    rooms=st.lists(st.integers(10**7, 10**9), min_size=2, max_size=5),
    speeds=st.lists(st.sampled_from([1e9, 4e9, 1e10]), min_size=5, max_size=5),
    here=st.booleans(),
)
def test_whatever_the_boards_every_layer_is_somewhere_once(
    rooms: list[int], speeds: list[float], here: bool
) -> None:
    shape = dense_shape(7, 512, 1536, 8, 2, 64, 1000, 4096, tied=True)
    load = Load(256, micro_batch=128)
    nodes = [
        Node(f"n{i}", room, speeds[i], link=WIRE if i else None, holds=bool(i) or here)
        for i, room in enumerate(rooms)
    ]
    plan = Splitter(shape, typed(shape), load).plan(nodes)
    layers = [i for share in plan.shares for i in range(share.first, share.first + share.layers)]
    assert layers == list(range(7))
    assert plan.shares[0].node.name == "n0"
    if plan.fits:
        assert all(share.total <= share.node.room for share in plan.shares)
        assert plan.missing == 0
    else:
        assert plan.missing > 0
    names = {s.node.name for s in plan.shares} | {n.name for n in plan.unused}
    assert names == {node.name for node in nodes}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pi5-8gb", "fewer than two"),
        ("pi5,pi4-4gb", "is sold with"),
        ("pi5-3gb,pi4-4gb", "has no 3gb"),
        ("pi6-8gb,pi5-8gb", "unknown board"),
        ("pi5-8gb,zero2w", "has no Ethernet"),
    ],
)
def test_lists_that_are_none(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_nodes(text, find_profile("balanced"))


def test_a_network_that_is_named_goes_before_the_boards_own() -> None:
    slow = find_nodes("pi5-8gb,zero2w", find_profile("balanced"), 40)[1]
    assert slow.link is not None
    assert slow.link.rate == pytest.approx(40e6 / 8, rel=0.1)


# -- what was published ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shape:
    """See [shapes] in clusters.toml."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool

    def tensors(self, quantisation: str) -> tuple[ModelShape, tuple[TypedTensor, ...]]:
        shape = dense_shape(
            self.layers, self.hidden, self.feed_forward, self.heads, self.kv_heads, self.head_dim,
            self.vocabulary, 4096, tied=self.tied,
        )  # fmt: skip
        return shape, typed(shape, quantisation)


@dataclass(frozen=True, slots=True)
class Published:
    """A cluster whose speed was published; see clusters.toml."""

    source: str
    engine: str
    model: str
    quantisation: str
    machines: int
    decode: float
    board: str = ""
    alone_model: str = ""
    alone_decode: float = 0.0
    mbit: float = 1000.0


def published() -> tuple[dict[str, Shape], list[Published]]:
    value = tables.read_toml(DATA)
    shapes = {k: tables.build(Shape, t, k) for k, t in value["shapes"].items()}
    return shapes, [tables.build(Published, t, "cluster") for t in value["cluster"]]


def predicted(each: Published, shapes: dict[str, Shape]) -> float:
    """Return the decode of llama.cpp's split over the machines of a published cluster."""
    shape, tensors = shapes[each.model].tensors(each.quantisation)
    if each.alone_model:  # what one such machine reads, by its own published speed
        alone, its = shapes[each.alone_model].tensors(each.quantisation)
        streamed = sum(t.bytes * alone.read_share(t.tensor.name) for t in its)
        speed, board = streamed * each.alone_decode, None
    else:
        board = find_board(each.board)
        speed = board.bandwidth_all_gbs * 1e9
    total = sum(t.bytes for t in tensors)
    room = round(total / each.machines * 1.2) + 3 * GB
    nodes = [Node("asked", room, speed, board)]
    nodes += [
        Node(str(i), room, speed, board, ethernet(each.mbit)) for i in range(1, each.machines)
    ]
    plan = Splitter(shape, tensors, LOAD).plan(nodes)
    assert plan.fits
    return plan.decode


def test_clusters_of_llama_cpp_decode_as_predicted() -> None:
    shapes, every = published()
    found = [each for each in every if each.engine == "llama.cpp"]
    assert len(found) >= 2
    for each in found:
        assert predicted(each, shapes) == pytest.approx(each.decode, rel=0.25), each.source


def test_engines_that_split_every_matrix_are_faster_where_a_model_needs_a_cluster() -> None:
    """distributed-llama has all boards read at once, which a split by layers cannot reach.

    It uses the network in every layer, so that it gains little where a layer is small.
    """
    shapes, every = published()
    found = [each for each in every if each.engine == "distributed-llama"]
    gains = {(e.model, e.machines): e.decode / predicted(e, shapes) for e in found}
    assert len(gains) >= 4
    for (model, machines), gain in gains.items():
        assert gain < machines
        assert gain > 1 or model == "tinyllama-1_1b"
    assert gains["tinyllama-1_1b", 2] < gains["llama-8b", 2] < gains["llama-8b", 4]
