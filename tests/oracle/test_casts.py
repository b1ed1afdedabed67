"""The casts between float types against torch's, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.convert.gguf.writer import cast

torch = pytest.importorskip("torch")
TYPES = {"F16": torch.float16, "BF16": torch.bfloat16}


def interesting() -> NDArray[np.float32]:
    """Return random bit patterns, every half, and the values around the middles between halves."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 1 << 32, 200_000, dtype=np.uint32).view(np.float32)
    half = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        halves = half.view(np.float16).astype(np.float32)
    brains = (half.astype(np.uint32) << 16).view(np.float32)
    middles = ((half.astype(np.uint32) << 16) | 0x8000).view(np.float32)
    near = [np.nextafter(x, np.float32(s)) for x in (halves, middles) for s in (-np.inf, np.inf)]
    finite = np.sort(halves[np.isfinite(halves)])
    between = (finite[1:] + finite[:-1]) / 2
    special = np.array([65504, 65519.996, 65520, 1e38, 3.4e38, 2e-8, 3e-8, 1e-45], np.float32)
    return np.concatenate([words, halves, brains, middles, *near, between, special, -special])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", TYPES)
def test_from_single(kind: str) -> None:
    values = interesting()
    wanted = torch.from_numpy(values.copy()).to(TYPES[kind]).view(torch.int16).numpy()
    found = np.ascontiguousarray(cast(values, "F32", kind)).view(np.int16)
    number = ~np.isnan(values)
    np.testing.assert_array_equal(found[number], wanted[number])
    back = cast(cast(values, "F32", kind), kind, "F32")
    assert np.isnan(back[~number]).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("source", "target"), [("F16", "BF16"), ("BF16", "F16")])
def test_from_half_to_half(source: str, target: str) -> None:
    half = np.arange(1 << 16, dtype=np.uint16)
    stored = half.view("<f2") if source == "F16" else half
    tensor = torch.from_numpy(half.view(np.int16)).view(TYPES[source])
    wanted = tensor.to(TYPES[target])
    number = ~torch.isnan(tensor).numpy()
    found = np.ascontiguousarray(cast(stored, source, target)).view(np.int16)
    np.testing.assert_array_equal(found[number], wanted.view(torch.int16).numpy()[number])
