"""GGUF tensor types and quantisations: numbers, block sizes, bits.

One table each, from ggml.h and llama.h of the pinned llama.cpp. Owns no rule; which tensor gets
which type is in ``planning.type_mixture``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from pitool.catalog import tables
from pitool.errors import UsageError


@dataclass(frozen=True, slots=True)
class TensorType:
    """A ggml type: ``block`` weights are stored in ``block_bytes`` bytes."""

    name: str
    number: int
    block: int
    block_bytes: int

    def size(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor; ``shape`` ends with the row length, a multiple of ``block``."""
        if shape and shape[-1] % self.block:
            raise ValueError(f"a row of {shape[-1]} is not a multiple of {self.block}")
        return prod(shape) // self.block * self.block_bytes

    @property
    def bits(self) -> float:
        """Bits per weight."""
        return self.block_bytes * 8 / self.block


TENSOR_TYPES = {
    t.name: t
    for t in (
        TensorType("F32", 0, 1, 4),
        TensorType("F16", 1, 1, 2),
        TensorType("Q4_0", 2, 32, 18),
        TensorType("Q4_1", 3, 32, 20),
        TensorType("Q5_0", 6, 32, 22),
        TensorType("Q5_1", 7, 32, 24),
        TensorType("Q8_0", 8, 32, 34),
        TensorType("Q8_1", 9, 32, 36),
        TensorType("Q2_K", 10, 256, 84),
        TensorType("Q3_K", 11, 256, 110),
        TensorType("Q4_K", 12, 256, 144),
        TensorType("Q5_K", 13, 256, 176),
        TensorType("Q6_K", 14, 256, 210),
        TensorType("Q8_K", 15, 256, 292),
        TensorType("IQ2_XXS", 16, 256, 66),
        TensorType("IQ2_XS", 17, 256, 74),
        TensorType("IQ3_XXS", 18, 256, 98),
        TensorType("IQ1_S", 19, 256, 50),
        TensorType("IQ4_NL", 20, 32, 18),
        TensorType("IQ3_S", 21, 256, 110),
        TensorType("IQ2_S", 22, 256, 82),
        TensorType("IQ4_XS", 23, 256, 136),
        TensorType("I8", 24, 1, 1),
        TensorType("I16", 25, 1, 2),
        TensorType("I32", 26, 1, 4),
        TensorType("I64", 27, 1, 8),
        TensorType("F64", 28, 1, 8),
        TensorType("IQ1_M", 29, 256, 56),
        TensorType("BF16", 30, 1, 2),
        TensorType("TQ1_0", 34, 256, 54),
        TensorType("TQ2_0", 35, 256, 66),
        TensorType("MXFP4", 39, 32, 17),
        TensorType("NVFP4", 40, 64, 36),
        TensorType("Q1_0", 41, 128, 18),
        TensorType("Q2_0", 42, 64, 18),
    )
}

# What ggml once had under these numbers, and what it reads instead.
REMOVED = {
    4: ("Q4_2", "Q4_0"),
    5: ("Q4_3", "Q4_1"),
    31: ("Q4_0_4_4", "Q4_0"),
    32: ("Q4_0_4_8", "Q4_0"),
    33: ("Q4_0_8_8", "Q4_0"),
    36: ("IQ4_NL_4_4", "IQ4_NL"),
    37: ("IQ4_NL_4_8", "IQ4_NL"),
    38: ("IQ4_NL_8_8", "IQ4_NL"),
}


def type_of_number(number: int) -> TensorType | None:
    """Return the type with a number of ggml's, None for an unknown one."""
    return next((t for t in TENSOR_TYPES.values() if t.number == number), None)


@dataclass(frozen=True, slots=True)
class Quantisation:
    """A llama.cpp file type: the number in ``general.file_type`` and its basic tensor type.

    ``trained``: its makers train a model for it; other weights rounded to it make no sense.
    """

    name: str
    number: int
    base: str
    trained: bool = False
    format: ClassVar[str] = "gguf"

    @property
    def quantised(self) -> bool:
        """Whether it has fewer bits than a half-precision float."""
        return self.base not in ("F32", "F16", "BF16")

    @property
    def weighted(self) -> bool:
        """Whether llama.cpp weighs rounding errors by an importance matrix, if it has one."""
        return self.quantised and self.base != "Q8_0"


# Types that ggml interleaves at load where the CPU has the kernels, by the feature that decides
# (ggml_repack_get_optimal_repack_type in ggml-cpu/repack.cpp); without any, nothing is.
REPACKED = {
    "dotprod": frozenset({"Q4_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "MXFP4", "Q1_0"}),
    "avx2": frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
    "avx512f": frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4", "Q2_K"}),
}


def repacked_types(features: Iterable[str]) -> frozenset[str]:
    """Return the names of the types that ggml interleaves on a CPU with these features."""
    return frozenset[str]().union(*(REPACKED.get(feature, ()) for feature in features))


# Those that llama.cpp makes without an importance matrix, or that makers publish; the best quality
# first.
QUANTISATIONS = {
    q.name: q
    for q in (
        Quantisation("F32", 0, "F32"),
        Quantisation("BF16", 32, "BF16"),
        Quantisation("F16", 1, "F16"),
        Quantisation("Q8_0", 7, "Q8_0"),
        Quantisation("Q6_K", 18, "Q6_K"),
        Quantisation("Q5_K_M", 17, "Q5_K"),
        Quantisation("Q5_K_S", 16, "Q5_K"),
        Quantisation("Q5_1", 9, "Q5_1"),
        Quantisation("Q5_0", 8, "Q5_0"),
        Quantisation("Q4_K_M", 15, "Q4_K"),
        Quantisation("Q4_K_S", 14, "Q4_K"),
        Quantisation("MXFP4_MOE", 38, "MXFP4"),
        Quantisation("NVFP4", 39, "NVFP4", trained=True),
        Quantisation("IQ4_NL", 25, "IQ4_NL"),
        Quantisation("Q4_1", 3, "Q4_1"),
        Quantisation("Q4_0", 2, "Q4_0"),
        Quantisation("IQ4_XS", 30, "IQ4_XS"),
        Quantisation("Q3_K_L", 13, "Q3_K"),
        Quantisation("Q3_K_M", 12, "Q3_K"),
        Quantisation("Q3_K_S", 11, "Q3_K"),
        Quantisation("Q2_K", 10, "Q2_K"),
        Quantisation("Q2_0", 41, "Q2_0", trained=True),
        Quantisation("TQ2_0", 37, "TQ2_0", trained=True),
        Quantisation("TQ1_0", 36, "TQ1_0", trained=True),
        Quantisation("Q1_0", 40, "Q1_0", trained=True),
    )
}


def quantisation_of_number(number: int) -> Quantisation | None:
    """Return the quantisation with a number of ``general.file_type``, None for an unknown one."""
    return next((q for q in QUANTISATIONS.values() if q.number == number), None)


def find_quantisation(name: str) -> Quantisation:
    """Return the quantisation that a user typed, in any case; UsageError names the nearest."""
    return tables.lookup(QUANTISATIONS, name.upper(), "quantisation", UsageError)
