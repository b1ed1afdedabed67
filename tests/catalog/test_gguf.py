"""The GGUF header reader against gguf's own writer and reader, and against damaged files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st

from pitool.catalog.gguf import model_name, parse_header, read_header, text_at
from pitool.errors import BadInput

SCALARS: dict[str, tuple[str, Any]] = {
    "u8": ("add_uint8", 200),
    "i8": ("add_int8", -100),
    "u16": ("add_uint16", 60000),
    "i16": ("add_int16", -30000),
    "u32": ("add_uint32", 4_000_000_000),
    "i32": ("add_int32", -2_000_000_000),
    "u64": ("add_uint64", 1 << 63),
    "i64": ("add_int64", -(1 << 62)),
    "f32": ("add_float32", 0.5),
    "f64": ("add_float64", 1e300),
    "bool": ("add_bool", True),
    "string": ("add_string", "naïve 日本 🚀"),
    "ints": ("add_array", [1, -2, 3]),
    "floats": ("add_array", [0.5, 1.5]),
    "strings": ("add_array", ["a", "", "ü"]),
    "bools": ("add_array", [True, False]),
}
TENSORS: dict[str, np.ndarray[Any, Any]] = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.ones(5, np.float16),
    "c": np.ones((2, 3, 4), np.float32),
}


def write(path: Path, *, alignment: int = 32, tokens: int = 100, quantised: bool = True) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    if alignment != 32:
        writer.add_custom_alignment(alignment)
    for key, (method, value) in SCALARS.items():
        getattr(writer, method)(f"test.{key}", value)
    writer.add_block_count(7)
    writer.add_token_list([f"t{i}" for i in range(tokens)])
    writer.add_token_scores([0.0] * tokens)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    for name, array in TENSORS.items():
        writer.add_tensor(name, array)
    if quantised:
        blocks = gguf.quantize(np.ones((2, 64), np.float32), GGMLQuantizationType.Q8_0)
        writer.add_tensor("q", blocks, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("alignment", [32, 8, 128])
def test_what_gguf_writes(tmp_path: Path, alignment: int) -> None:
    header = read_header(write(tmp_path / "m.gguf", alignment=alignment))
    for key, (_, value) in SCALARS.items():
        assert header.metadata[f"test.{key}"] == value
    assert header.architecture == "llama"
    assert header.number("block_count") == 7
    assert header.number("gone", 3) == 3
    assert header.quantisation == "Q4_K_M"
    assert {t.name: (t.shape, t.type.name) for t in header.tensors} == {
        "a": ((3, 4), "F32"), "b": ((5,), "F16"), "c": ((2, 3, 4), "F32"), "q": ((2, 64), "Q8_0"),
    }  # fmt: skip
    assert header.parameters == 12 + 5 + 24 + 128
    assert header.bytes == 48 + 10 + 96 + 4 * 34


def test_it_agrees_with_gguf_reader(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf")
    header, reference = read_header(path), gguf.GGUFReader(path)
    assert {t.name: (list(t.shape)[::-1], t.bytes) for t in header.tensors} == {
        t.name: (t.shape.tolist(), t.n_bytes) for t in reference.tensors
    }
    keys = {key for key in reference.fields if not key.startswith("GGUF.")}
    assert set(header.metadata) == keys


def test_long_arrays_are_counted_only(tmp_path: Path) -> None:
    header = read_header(write(tmp_path / "m.gguf", tokens=65))
    assert header.metadata["tokenizer.ggml.tokens"] == 65
    assert header.metadata["tokenizer.ggml.scores"] == 65
    short = read_header(write(tmp_path / "n.gguf", tokens=64))
    assert short.metadata["tokenizer.ggml.tokens"] == [f"t{i}" for i in range(64)]


@pytest.mark.parametrize("tokens", [3, 64, 65, 500])
def test_one_text_of_an_array(tmp_path: Path, tokens: int) -> None:
    header = read_header(write(tmp_path / "m.gguf", tokens=tokens))
    key = "tokenizer.ggml.tokens"
    assert text_at(header, key, 0) == "t0"
    assert text_at(header, key, tokens - 1) == f"t{tokens - 1}"
    assert text_at(header, key, tokens) is None
    assert text_at(header, key, -1) is None
    assert text_at(header, "test.strings", 2) == "ü"
    for other in ("test.ints", "test.string", "tokenizer.ggml.none"):
        assert text_at(header, other, 0) is None


def test_without_a_file_type_the_largest_part_names_it(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("norm", np.ones(16, np.float32))
    writer.add_tensor("w", np.ones((16, 16), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_header(path).quantisation == "F16"


def test_a_file_without_tensors_has_no_quantisation(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(path)
    assert header.parameters == header.bytes == 0
    assert header.quantisation == "unknown"


# -- refusals ------------------------------------------------------------------------------


def header_bytes(tensors: int = 0, keys: int = 0, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def tensor(shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text("t") + sizes + struct.pack("<IQ", kind, offset)


HUGE = 1 << 62
DAMAGED: dict[str, tuple[bytes, str]] = {
    "a ZIP archive": (b"PK\x03\x04" + b"\0" * 40, "it begins with a ZIP archive"),
    "a program": (b"\x7fELF" + b"\0" * 40, "it begins with a program"),
    "old GGML": (b"lmgg" + b"\0" * 40, "it begins with old GGML"),
    "a text": (b"hello, this is not a model at all", "it begins with b'hell'"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "GGUF version 50331648"),
    "version 1": (header_bytes(version=1), "GGUF version 1, not 2 or 3"),
    "version 4": (header_bytes(version=4), "GGUF version 4, not 2 or 3"),
    "many tensors": (header_bytes(tensors=HUGE), "it claims"),
    "many keys": (header_bytes(keys=HUGE), "it claims"),
    "a key that is missing": (header_bytes(keys=1), "its header ends"),
    "a long key": (header_bytes(keys=1, rest=struct.pack("<Q", HUGE)), "its header ends"),
    "an unknown kind": (
        header_bytes(keys=1, rest=text("k") + struct.pack("<I", 13)), "unknown type 13",
    ),
    "a long array": (
        header_bytes(keys=1, rest=text("k") + struct.pack("<IIQ", 9, 4, HUGE)), "its header ends",
    ),
    "a long array of texts": (
        header_bytes(keys=1, rest=text("k") + struct.pack("<IIQ", 9, 8, HUGE)), "longer than",
    ),
    "an array of an unknown kind": (
        header_bytes(keys=1, rest=text("k") + struct.pack("<IIQ", 9, 99, 1)), "unknown type 99",
    ),
    "arrays in arrays": (
        header_bytes(keys=1, rest=text("k") + struct.pack("<I", 9) + b"\x09" + b"\0" * 999),
        "an array contains arrays",
    ),
    "five dimensions": (header_bytes(1, rest=tensor((1,) * 5)), "has 5 dimensions"),
    "a type of a fork": (
        header_bytes(1, rest=tensor((32,), 99)), "unknown type 99, which a newer llama.cpp or",
    ),
    "an absurd type": (header_bytes(1, rest=tensor((32,), 1 << 20)), "damaged.* type 1048576"),
    "a type of old": (
        header_bytes(1, rest=tensor((32,), 31)), "is Q4_0_4_4, which llama.cpp cannot read",
    ),
    "half a block": (header_bytes(1, rest=tensor((33,), 8)), "are not a multiple"),
    "a tensor past the end": (header_bytes(1, rest=tensor((32,))), "is truncated"),
    "a huge tensor": (header_bytes(1, rest=tensor((HUGE, HUGE))), "is truncated"),
    "a far tensor": (header_bytes(1, rest=tensor((1,), 0, HUGE)), "is truncated"),
    "no alignment": (
        header_bytes(keys=1, rest=text("general.alignment") + struct.pack("<II", 4, 0)),
        "alignment is not a positive number",
    ),
    "an alignment that is a text": (
        header_bytes(keys=1, rest=text("general.alignment") + struct.pack("<I", 8) + text("x")),
        "alignment is not a positive number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_header_is_refused(tmp_path: Path, case: str) -> None:
    data, message = DAMAGED[case]
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=message) as caught:
        read_header(path)
    assert str(path) in caught.value.what


def of_a_fork(path: Path, rows: int, block_bytes: int) -> Path:
    """Write a GGUF with two matrices of type 42, in blocks of 128 weights of so many bytes."""
    size = rows * block_bytes
    offsets = (0, -(-size // 32) * 32)
    table = b"".join(tensor((128, rows), 42, offset) for offset in offsets)
    head = header_bytes(tensors=2, rest=table)
    path.write_bytes(head + b"\0" * (-len(head) % 32 + offsets[1] + size))
    return path


def test_q2_0_of_a_fork_is_named(tmp_path: Path) -> None:
    path = of_a_fork(tmp_path / "fork.gguf", 96, 34)
    with pytest.raises(BadInput, match=r"is Q2_0 in blocks of 128 .*: choose the file .*_g64"):
        read_header(path)
    whole = read_header(of_a_fork(tmp_path / "llama.gguf", 96, 36))
    assert whole.bytes == 2 * 96 * 36
    cut = tmp_path / "cut.gguf"
    cut.write_bytes((tmp_path / "llama.gguf").read_bytes()[:-2000])
    with pytest.raises(BadInput, match="is truncated"):
        read_header(cut)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        read_header(tmp_path / "m.gguf")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read"):
        read_header(tmp_path)


@pytest.mark.parametrize("size", [0, 4, 23])
def test_a_file_without_a_header(tmp_path: Path, size: int) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF".ljust(size, b"\0")[:size])
    with pytest.raises(BadInput, match=f"too short to be a GGUF file .{size} bytes"):
        read_header(path)


def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path) -> None:
    whole = write(tmp_path / "m.gguf", tokens=3).read_bytes()
    path = tmp_path / "cut.gguf"
    # The last tensor ends at the end of the file but for its padding.
    for size in [*range(0, len(whole) - 32, 7), len(whole) - 33]:
        path.write_bytes(whole[:size])
        with pytest.raises(BadInput):
            read_header(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("fuzz") / "m.gguf", tokens=3).read_bytes()


@settings(max_examples=200, deadline=None)
@given(spots=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=3))
def test_flipped_bytes(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, spots: list[tuple[int, int]]
) -> None:
    changed = bytearray(whole)
    for at, value in spots:
        changed[at % len(changed)] = value
    path = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    path.write_bytes(changed)
    try:
        header = read_header(path)
    except BadInput:
        return
    assert header.bytes <= len(changed) * 4  # tensors may overlap, never lie outside
    assert isinstance(header.quantisation, str)


@pytest.mark.parametrize("length", [1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_a_string_of_a_long_array_that_leads_out_of_the_file(tmp_path: Path, length: int) -> None:
    """Of a vocabulary, whose strings are passed over."""
    key = struct.pack("<Q", 1) + b"k"
    array = struct.pack("<IIQ", 9, 8, 100) + struct.pack("<Q", length)
    (tmp_path / "m.gguf").write_bytes(header_bytes(0, 1, key + array + bytes(200)))
    with pytest.raises(BadInput, match="its header ends"):
        read_header(tmp_path / "m.gguf")


@settings(max_examples=200, deadline=None)
@given(rest=st.binary(max_size=120), keys=st.integers(0, 3), tensors=st.integers(0, 3))
def test_random_headers(
    tmp_path_factory: pytest.TempPathFactory, rest: bytes, keys: int, tensors: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    path.write_bytes(header_bytes(tensors, keys, rest))
    try:
        read_header(path)
    except BadInput:
        return


def test_a_header_by_a_files_beginning(tmp_path: Path) -> None:
    """Every beginning that is too short says so; one that is long enough gives the header."""
    path = write(tmp_path / "m.gguf")
    whole, data = read_header(path), path.read_bytes()
    end = whole.size
    for cut in range(0, end - 32, 5):  # what pads a header is shorter
        assert parse_header(path, data[:cut], len(data)) is None
    assert parse_header(path, data[:end], len(data)) == whole


def test_a_split_file_is_that_of_all_its_parts(tmp_path: Path) -> None:
    """Split by gguf's own writer."""
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama", split_max_tensors=2)
    writer.add_block_count(7)
    for name, array in TENSORS.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    first = tmp_path / "m-00001-of-00002.gguf"
    header = read_header(first)
    assert [tensor.name for tensor in header.tensors] == list(TENSORS)
    assert header.number("block_count") == 7
    assert model_name(first) == "m"
    with pytest.raises(BadInput, match=r"part of a split GGUF of 2 parts.*-00001-of-00002\.gguf"):
        read_header(tmp_path / "m-00002-of-00002.gguf")
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(BadInput, match=r"m-00002-of-00002\.gguf does not exist"):
        read_header(first)
