"""The safetensors reader against the safetensors library, and against damaged files."""

from __future__ import annotations

import json
import random
import resource
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save, save_file

from pitool.checkpoint.tensors import Tensor, read_header, to_float32
from pitool.checkpoint.weights import read_index, weight_files
from pitool.errors import BadInput, PitoolError
from tests.tiny import write_checkpoint

KINDS: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
}  # fmt: skip
SHAPES = [(), (1,), (7,), (3, 5), (64, 33), (2, 3, 4), (0,), (4, 0)]

every_kind = pytest.mark.parametrize("kind", KINDS)


def arrays(kind: str) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(5)
    made = {f"t{i}": rng.normal(0, 9, s).astype(KINDS[kind]) for i, s in enumerate(SHAPES)}
    made["odd"] = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40, 6e-8, 65504.0]).astype(
        KINDS[kind]
    )
    return made


@every_kind
def test_headers_are_those_of_the_library(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file(arrays(kind), path, metadata={"format": "pt"})
    read = {tensor.name: tensor for tensor in read_header(path)}
    with safe_open(path, framework="np") as reference:
        assert set(read) == set(reference.keys())
        for name in reference.keys():  # noqa: SIM118 - a safe_open is no dictionary
            view = reference.get_slice(name)
            assert read[name].kind == view.get_dtype()
            assert read[name].shape == tuple(view.get_shape())


@every_kind
def test_values_are_those_of_the_library(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file(arrays(kind), path)
    read = {tensor.name: tensor for tensor in read_header(path)}
    with safe_open(path, framework="np") as reference:
        for name, tensor in read.items():
            if 0 in tensor.shape:
                continue
            wanted = reference.get_tensor(name)
            stored = b"".join(slab.tobytes() for slab in tensor.slabs(1 << 20))
            assert stored == wanted.tobytes()
            found = tensor.float32()
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, wanted.astype(np.float32))


@pytest.mark.parametrize("shape", [(0,), (4, 0), (0, 4)])
def test_a_tensor_without_elements(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"empty": np.zeros(shape, np.float32)}, path)
    (tensor,) = read_header(path)
    assert tensor.bytes == 0
    assert tensor.float32().shape == shape


@every_kind
@pytest.mark.parametrize("multiple", [1, 4, 32])
@pytest.mark.parametrize("largest", [1, 100, 1000, 4096, 1 << 20])
def test_slabs_are_runs_of_whole_rows(
    tmp_path: Path, kind: str, largest: int, multiple: int
) -> None:
    path = tmp_path / "model.safetensors"
    array = np.random.default_rng(1).normal(0, 1, (96, 12, 2)).astype(KINDS[kind])
    save_file({"before": array[:3], "t": array}, path)
    tensor = read_index(tmp_path)["t"]
    slabs = list(tensor.slabs(largest, multiple))
    row = array[0].nbytes
    assert all(len(slab) % multiple == 0 for slab in slabs)
    assert all(slab.nbytes <= max(largest, multiple * row) for slab in slabs)
    whole = np.concatenate(slabs)
    assert whole.shape == array.shape
    assert whole.tobytes() == array.tobytes()


def test_rows_that_are_no_multiple_come_last(tmp_path: Path) -> None:
    array = np.arange(10, dtype=np.float32).reshape(10, 1)
    save_file({"t": array}, tmp_path / "model.safetensors")
    slabs = list(read_index(tmp_path)["t"].slabs(16, 4))
    assert [len(slab) for slab in slabs] == [4, 4, 2]


def test_float32_of_every_half_is_exact() -> None:
    half = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        bfloat = half.view(ml_dtypes.bfloat16).astype(np.float32)
        half16 = half.view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(to_float32(half, "BF16"), bfloat)
    np.testing.assert_array_equal(to_float32(half.view("<f2"), "F16"), half16)


def test_sharded_equals_single(tmp_path: Path) -> None:
    single = read_index(write_checkpoint(tmp_path / "one"))
    sharded = read_index(write_checkpoint(tmp_path / "three", shards=3))
    assert set(single) == set(sharded)
    assert len({tensor.path for tensor in sharded.values()}) == 3
    for name, tensor in single.items():
        np.testing.assert_array_equal(tensor.float32(), sharded[name].float32())


def test_weight_files_are_in_order(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", shards=3)
    assert [path.name for path in weight_files(folder)] == [
        f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)
    ]


# -- refusals ------------------------------------------------------------------------------


def header_file(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(shape: object = (2,), offsets: object = (0, 8), kind: object = "F32") -> dict[str, Any]:
    return {"t": {"dtype": kind, "shape": shape, "data_offsets": offsets}}


DAMAGED: dict[str, tuple[object, str]] = {
    "not JSON": (b"{", "damaged header"),
    "not UTF-8": (b"\xff\xfe{}", "damaged header"),
    "a list": ([], "damaged header"),
    "a number": (7, "damaged header"),
    "null": (None, "damaged header"),
    "entry is a list": ({"t": []}, "damaged header"),
    "no dtype": ({"t": {"shape": [2], "data_offsets": [0, 8]}}, "damaged header"),
    "no shape": ({"t": {"dtype": "F32", "data_offsets": [0, 8]}}, "damaged header"),
    "no offsets": ({"t": {"dtype": "F32", "shape": [2]}}, "damaged header"),
    "one offset": (entry(offsets=[0]), "damaged header"),
    "three offsets": (entry(offsets=[0, 8, 9]), "damaged header"),
    "shape is a text": (entry(shape="x"), "damaged header"),
    "shape of texts": (entry(shape=["2x"]), "damaged header"),
    "shape of fractions": (entry(shape=[2.5]), "damaged header"),
    "shape is null": (entry(shape=None), "damaged header"),
    "infinite shape": (b'{"t":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}}', "damaged"),
    "NaN offset": (b'{"t":{"dtype":"F32","shape":[2],"data_offsets":[NaN,8]}}', "damaged"),
    "negative shape": (entry(shape=[-2], offsets=[0, -8]), "do not match its shape"),
    "two negative sides": (entry(shape=[-1, -2]), "do not match its shape"),
    "negative start": (entry(offsets=[-8, 0]), "do not match its shape"),
    "offsets too far apart": (entry(offsets=[0, 12]), "do not match its shape"),
    "offsets turned round": (entry(offsets=[8, 0]), "do not match its shape"),
    "past the end": (entry(shape=[3], offsets=[0, 12]), "truncated"),
    "far past the end": (entry(shape=[1 << 60], offsets=[0, 1 << 62]), "truncated"),
    "8-bit weights cut": (entry(shape=[9], kind="F8_E4M3"), "do not match its shape"),
    "a name twice": (
        b'{"t":%s,"t":%s}' % ((b'{"dtype":"F32","shape":[2],"data_offsets":[0,8]}',) * 2),
        "damaged header .a name is used twice",
    ),
    "an overlap": (
        {**entry(), "u": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        "overlap",
    ),
    "a hole": (entry(shape=[1], offsets=[4, 8]), "leave a hole"),
    "more data": (entry(shape=[1], offsets=[0, 4]), "4 bytes after its tensors"),
    "deeply nested": (b"[" * 200_000, "damaged header"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_header_is_refused(tmp_path: Path, case: str) -> None:
    header, message = DAMAGED[case]
    path = header_file(tmp_path / "model.safetensors", header, b"\0" * 8)
    with pytest.raises(BadInput, match=message) as caught:
        read_header(path)
    assert str(path) in caught.value.what
    assert caught.value.do


@pytest.mark.parametrize("length", [100, 1 << 27, (1 << 63) + 5, (1 << 64) - 1])
def test_a_header_length_beyond_the_file(tmp_path: Path, length: int) -> None:
    path = header_file(tmp_path / "model.safetensors", {}, length=length)
    with pytest.raises(BadInput, match=f"its header claims {length} bytes, the file has 10"):
        read_header(path)


@pytest.mark.parametrize("size", range(1, 8))
def test_a_file_shorter_than_its_prefix(tmp_path: Path, size: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\0" * size)
    with pytest.raises(BadInput, match="is truncated"):
        read_header(path)


def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path) -> None:
    whole = save({"a": np.ones((4, 4), np.float32), "b": np.ones(3, np.float16)})
    path = tmp_path / "model.safetensors"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(BadInput):
            read_header(path)


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"t": np.ones((64, 64), np.float32)}, path)
    tensor = read_index(tmp_path)["t"]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="is truncated"):
        tensor.float32()


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(BadInput, match=r"x\.safetensors is a folder, not a file"):
        read_header(tmp_path / "x.safetensors")


INSTEAD: dict[str, tuple[bytes, str]] = {
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "of Git LFS"),
    "a web page": (b"<!DOCTYPE html>\n<html>" + b" " * 999, "is a web page"),
    "a message": (
        b"Repository not found",
        "is a text file that begins with 'Repository not found'",
    ),
    "a short message": (b"denied", "is a text file that begins with 'denied'"),
    "a message in JSON": (b'{"error":"Invalid credentials"}', "is a text file that begins with"),
    "a pickle": (b"\x80\x04\x95" + b"\0" * 99, "is a pickle"),
    "a PyTorch checkpoint": (b"PK\x03\x04" + b"\0" * 99, "a PyTorch checkpoint"),
}


@pytest.mark.parametrize("case", INSTEAD)
def test_another_file_under_that_name(tmp_path: Path, case: str) -> None:
    data, message = INSTEAD[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=message):
        read_header(path)


OTHER_KINDS = {
    "BOOL": 8, "U8": 8, "I16": 16, "I64": 64, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6,
    "C64": 64,
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_types_are_listed_and_not_read(tmp_path: Path, kind: str) -> None:
    size = 16 * OTHER_KINDS[kind] // 8
    path = header_file(
        tmp_path / "model.safetensors",
        entry(shape=[4, 4], offsets=[0, size], kind=kind),
        b"x" * size,
    )
    with safe_open(path, framework="np") as reference:
        assert reference.get_slice("t").get_dtype() == kind
    (tensor,) = read_header(path)
    assert (tensor.kind, tensor.shape, tensor.is_float) == (kind, (4, 4), False)
    for read in (tensor.float32, lambda: list(tensor.slabs(9))):
        with pytest.raises(BadInput, match=f"stored as {kind}; only F64, F32, F16 and BF16"):
            read()


def test_a_type_that_nobody_knows_yet(tmp_path: Path) -> None:
    path = header_file(tmp_path / "m", entry(shape=[9], offsets=[0, 5], kind="F5"), b"12345")
    assert [tensor.kind for tensor in read_header(path)] == ["F5"]


# -- fuzz ----------------------------------------------------------------------------------

WHOLE = save(
    {"a": np.ones((4, 4), np.float32), "b": np.ones(3, np.float16)}, metadata={"format": "pt"}
)


def outcome(path: Path) -> list[Tensor] | None:
    """Return what is read, None where it is refused; any other exception fails the test."""
    try:
        return read_header(path)
    except PitoolError as error:
        assert isinstance(error, BadInput)
        return None


def check_inside(path: Path) -> None:
    size = path.stat().st_size
    for tensor in outcome(path) or []:
        assert 0 <= tensor.start <= tensor.end <= size
        if tensor.is_float:
            assert tensor.float32().shape == tensor.shape


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200))
def test_random_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(data)
    check_inside(path)


@settings(max_examples=150, deadline=None)
@given(text=st.binary(max_size=100), data=st.binary(max_size=50))
def test_random_headers(tmp_path_factory: pytest.TempPathFactory, text: bytes, data: bytes) -> None:
    path = header_file(tmp_path_factory.getbasetemp() / "fuzz.safetensors", text, data)
    check_inside(path)


@settings(max_examples=300, deadline=None)
@given(
    spots=st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4
    )
)
def test_flipped_bytes(
    tmp_path_factory: pytest.TempPathFactory, spots: list[tuple[int, int]]
) -> None:
    changed = bytearray(WHOLE)
    for at, value in spots:
        changed[at] = value
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(changed)
    check_inside(path)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64"]) | json_values,
        "shape": st.lists(st.integers(-3, 1 << 65), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-3, 1 << 65), min_size=2, max_size=2) | json_values,
    },
)


@pytest.mark.thorough
@settings(max_examples=300, deadline=None)
@given(header=st.dictionaries(st.text(max_size=5), entries | json_values, max_size=3))
def test_random_tables(tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    check_inside(header_file(path, header, b"\0" * 64))


def test_claims_do_not_allocate(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rng = random.Random(3)
    for _ in range(20):
        count = rng.randrange(1 << 34, 1 << 50)
        header = entry(shape=[count], offsets=[0, count * 4])
        assert outcome(header_file(tmp_path / "x.safetensors", header)) is None
        assert outcome(header_file(tmp_path / "x.safetensors", {}, length=count)) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
