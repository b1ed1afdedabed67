"""Levels stored in ggml's types decode to what was meant: by ggml, and by gguf-py."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from pitool.catalog.tensor_types import TENSOR_TYPES
from pitool.convert.gguf.ggml import dequantise_rows, is_valid, quantise_rows
from pitool.convert.gguf.levels import LAYOUTS


@pytest.mark.parametrize("name", LAYOUTS)
def test_any_levels_decode_to_their_values(name: str) -> None:
    rng = np.random.default_rng(1)
    kind, layout = TENSOR_TYPES[name], LAYOUTS[name]
    rows = rng.standard_normal((64, kind.block)).astype(np.float32)
    packed = quantise_rows(rows, kind, np.ones(kind.block, np.float32))
    levels = rng.integers(0, len(layout.values), rows.shape, np.uint8)
    layout.store(packed, levels)
    meant = layout.values[levels] * layout.scales(packed)
    if layout.offsets:
        meant = meant + layout.offsets(packed)
    assert is_valid(packed, kind)
    # A product and a sum may be rounded once or twice.
    limit = 2 * np.finfo(np.float32).eps * np.abs(meant).max()
    np.testing.assert_allclose(dequantise_rows(packed, kind), meant, atol=limit, rtol=0)
    theirs = gguf.dequantize(packed, gguf.GGMLQuantizationType[name])
    np.testing.assert_allclose(theirs, meant, atol=limit, rtol=0)


@pytest.mark.parametrize("name", LAYOUTS)
def test_levels_leave_the_scales_as_they_are(name: str) -> None:
    kind, layout = TENSOR_TYPES[name], LAYOUTS[name]
    rows = np.random.default_rng(2).standard_normal((16, kind.block)).astype(np.float32)
    packed = quantise_rows(rows, kind, None)
    before = layout.scales(packed)
    layout.store(packed, np.full(rows.shape, len(layout.values) - 1, np.uint8))
    np.testing.assert_array_equal(layout.scales(packed), before)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_nearest_levels_are_those_that_ggml_stores(name: str) -> None:
    """Rounded at ggml's own scales, no row is farther away than what ggml made of it."""
    kind, layout = TENSOR_TYPES[name], LAYOUTS[name]
    rows = np.random.default_rng(3).standard_normal((16, kind.block)).astype(np.float32)
    packed = quantise_rows(rows, kind, None)
    scales = layout.scales(packed)
    offsets = layout.offsets(packed) if layout.offsets else np.zeros_like(scales)
    reachable = layout.values[:, None, None] * scales + offsets
    nearest = np.abs(reachable - rows).argmin(0).astype(np.uint8)
    theirs = ((dequantise_rows(packed, kind) - rows) ** 2).sum(1)
    layout.store(packed, nearest)
    ours = ((dequantise_rows(packed, kind) - rows) ** 2).sum(1)
    assert (ours <= theirs * (1 + 1e-5)).all()
