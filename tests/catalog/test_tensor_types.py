"""The tables of tensor types and quantisations against those of the gguf package."""

from __future__ import annotations

import ctypes

import gguf
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from pitool.catalog.binding import import_binding
from pitool.catalog.tensor_types import (
    QUANTISATIONS,
    REMOVED,
    TENSOR_TYPES,
    Quantisation,
    TensorType,
    find_quantisation,
    quantisation_of_number,
    type_of_number,
)
from pitool.errors import UsageError

every_type = pytest.mark.parametrize("kind", TENSOR_TYPES.values(), ids=lambda t: t.name)
every_quantisation = pytest.mark.parametrize("q", QUANTISATIONS.values(), ids=lambda q: q.name)


GGUF_PY_IS_WRONG = {"Q8_1"}  # it counts the two half-precision sums as single
GGUF_PY_LACKS = {"Q2_0"}


@every_type
def test_numbers_and_sizes_are_those_of_gguf_py(kind: TensorType) -> None:
    if kind.name in GGUF_PY_LACKS:
        assert kind.name not in GGMLQuantizationType.__members__
        return
    number = GGMLQuantizationType(kind.number)
    assert number.name == kind.name
    if kind.name not in GGUF_PY_IS_WRONG:
        assert GGML_QUANT_SIZES[number] == (kind.block, kind.block_bytes)


@pytest.mark.engine
@every_type
def test_numbers_and_sizes_are_those_of_the_library(kind: TensorType) -> None:
    library = import_binding("_ggml").libggml
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    assert library.ggml_type_name(kind.number).decode().upper() == kind.name
    assert library.ggml_blck_size(kind.number) == kind.block
    assert library.ggml_type_size(kind.number) == kind.block_bytes


def test_every_type_of_a_model_is_known() -> None:
    assert {t.name for t in GGMLQuantizationType} <= set(TENSOR_TYPES)


@pytest.mark.engine
def test_the_library_has_no_type_that_is_missing_here() -> None:
    library = import_binding("_ggml").libggml
    library.ggml_type_name.restype = ctypes.c_char_p
    last = max(t.number for t in TENSOR_TYPES.values())
    names = [library.ggml_type_name(n).decode() for n in range(last + 1)]
    gone = {n for n, name in enumerate(names) if "REMOVED" in name or name == "DEPRECATED"}
    assert gone == set(REMOVED)
    assert all(old in names[n] and new in names[n] for n, (old, new) in REMOVED.items() if n > 5)
    assert {n for n in range(last + 1) if type_of_number(n)} == set(range(last + 1)) - gone


@pytest.mark.engine
@every_quantisation
def test_file_types_are_llama_cpps(q: Quantisation) -> None:
    binding = import_binding()
    named = (f"LLAMA_FTYPE_MOSTLY_{q.name}", f"LLAMA_FTYPE_ALL_{q.name}")
    assert q.number in [getattr(binding, name) for name in named if hasattr(binding, name)]
    assert q.base in TENSOR_TYPES
    assert q.quantised == (q.name not in ("F32", "F16", "BF16"))


def test_each_is_found_by_its_number() -> None:
    assert all(type_of_number(t.number) is t for t in TENSOR_TYPES.values())
    assert all(quantisation_of_number(q.number) is q for q in QUANTISATIONS.values())
    assert type_of_number(4) is None
    assert quantisation_of_number(-1) is None


@every_type
def test_bytes_of_a_tensor(kind: TensorType) -> None:
    if kind.name in GGUF_PY_IS_WRONG | GGUF_PY_LACKS:
        pytest.skip("gguf-py has another size, or none")
    shape = (3, 5, kind.block * 7)
    reference = gguf.quant_shape_to_byte_shape(shape, GGMLQuantizationType(kind.number))
    assert kind.size(shape) == reference[0] * reference[1] * reference[2]
    assert kind.bits == pytest.approx(kind.size(shape) * 8 / (3 * 5 * kind.block * 7))


def test_a_row_that_is_no_whole_number_of_blocks() -> None:
    with pytest.raises(ValueError, match="a row of 33 is not a multiple of 32"):
        TENSOR_TYPES["Q8_0"].size((4, 33))


@pytest.mark.parametrize("text", ["Q4_K_M", "q4_k_m", "Q4_k_m"])
def test_a_quantisation_in_any_case(text: str) -> None:
    assert find_quantisation(text).name == "Q4_K_M"


@pytest.mark.parametrize(
    ("text", "hint"),
    [("Q4KM", "did you mean 'Q4_K_M'"), ("q9_0", "did you mean"), ("", "choose from: BF16, F16")],
)
def test_an_unknown_quantisation_names_the_nearest(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        find_quantisation(text)


def test_a_scalar_is_one_weight() -> None:
    assert TENSOR_TYPES["F32"].size(()) == 4
    assert TENSOR_TYPES["BF16"].size(()) == 2
