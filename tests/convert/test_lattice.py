"""Blocks on a lattice: the scale is found again, and what lies beside it is not called exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pitool.convert.lattice import find_scales, levels, rounded, stored_as

LOW, HIGH = -8, 7
COUNTS = st.lists(st.integers(LOW, HIGH), min_size=32, max_size=32)
# Numbers of F16 whose multiples F16 and BF16 have as well; of either sign.
SCALES = st.floats(2.0**-10, 2.0**10, width=16).flatmap(lambda d: st.sampled_from([d, -d]))


def block(counts: list[int], scale: float) -> NDArray[np.float32]:
    return (np.array([counts]) * np.float64(scale)).astype(np.float32)


@settings(max_examples=200, deadline=None)
@given(COUNTS, SCALES)
def test_every_value_comes_back(counts: list[int], scale: float) -> None:
    values = block(counts, scale)
    found = find_scales(values, LOW, HIGH, half=True, stored="F32")
    assert found.astype(np.float16).astype(np.float32) == found
    made = levels(values, found, LOW, HIGH) * found[:, None]
    assert (made == values).all()
    assert set(levels(values, found, LOW, HIGH).ravel()) <= set(range(LOW, HIGH + 1))


@settings(max_examples=200, deadline=None)
@given(COUNTS, SCALES, st.sampled_from(["BF16", "F16"]))
def test_what_a_type_has_rounded_comes_back_rounded(
    counts: list[int], scale: float, kind: str
) -> None:
    values = rounded(block(counts, scale), kind)
    found = find_scales(values, LOW, HIGH, half=True, stored=kind)
    made = levels(values, found, LOW, HIGH) * found[:, None]
    assert (rounded(made, kind) == values).all()


def test_the_level_that_ggml_takes_is_tried_first() -> None:
    values = block([-8, *[0] * 31], 0.25)
    assert find_scales(values, LOW, HIGH, half=True, stored="F32") == 0.25
    assert find_scales(-values, LOW, HIGH, half=True, stored="F32") == -0.25


def test_a_block_of_zeros_has_the_scale_0() -> None:
    values = np.zeros((2, 32), np.float32)
    found = find_scales(values, LOW, HIGH, half=True, stored="F32")
    assert (found == 0).all()
    assert (levels(values, found, LOW, HIGH) == 0).all()


COUNTED = [-7, 7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, *[3] * 17]


@pytest.mark.parametrize("element", [0, 7, 31])
def test_one_value_that_is_almost_on_the_grid(element: int) -> None:
    values = block(COUNTED, 0.7041015625)
    assert not np.isnan(find_scales(values, LOW, HIGH, half=True, stored="F32")).any()
    values[0, element] = np.nextafter(values[0, element], np.float32(1))
    assert np.isnan(find_scales(values, LOW, HIGH, half=True, stored="F32")).all()


def test_a_value_that_bfloat16_would_not_have_rounded_so() -> None:
    values = rounded(block(COUNTED, 0.7041015625), "BF16")
    assert np.isnan(find_scales(values, LOW, HIGH, half=True, stored="F32")).all()
    assert not np.isnan(find_scales(values, LOW, HIGH, half=True, stored="BF16")).any()
    bits = values.view(np.uint32)
    bits[0, 1] += 0x10000  # the next number of BF16
    assert np.isnan(find_scales(values, LOW, HIGH, half=True, stored="BF16")).all()


def test_a_scale_that_f16_does_not_have() -> None:
    values = block(COUNTED, 1 + 2.0**-13)
    assert np.isnan(find_scales(values, LOW, HIGH, half=True, stored="F32")).all()
    assert not np.isnan(find_scales(values, LOW, HIGH, half=False, stored="F32")).any()


def test_both_ends_of_an_even_number_of_steps_do_not_fit() -> None:
    """Q4_0 has -8 to 7: not 8 steps to either side."""
    values = block([0, 1, 3, *[2] * 27, 8, -8], 0.5)
    assert np.isnan(find_scales(values, LOW, HIGH, half=True, stored="F32")).all()


def test_weights_of_no_grid() -> None:
    values = np.random.default_rng(0).normal(0, 0.02, (64, 32)).astype(np.float32)
    for kind in ("F32", "F16", "BF16"):
        found = find_scales(rounded(values, kind), LOW, HIGH, half=True, stored=kind)
        assert np.isnan(found).all()


def test_the_narrowest_type_that_has_all_values() -> None:
    tenth = np.array([[0.1]], np.float32)
    assert stored_as([tenth]) == "F32"
    assert stored_as([rounded(tenth, "F16"), np.zeros((1, 1), np.float32)]) == "F16"
    assert stored_as([rounded(tenth, "BF16")]) == "BF16"
    assert stored_as([rounded(tenth, "F16"), np.array([[2.0**100]], np.float32)]) == "F32"


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_rounding_is_that_of_the_library_of_types(kind: str) -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(1).normal(0, 3, 4096).astype(np.float32)
    target = torch.float16 if kind == "F16" else torch.bfloat16
    theirs = torch.from_numpy(values).to(target).to(torch.float32).numpy()
    assert (rounded(values, kind) == theirs).all()
