"""Values that cannot be kept, in every type, at every place, against numpy's own casts."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from pitool.checkpoint import values
from pitool.checkpoint.tensors import read_header, to_float32
from pitool.checkpoint.values import read_through
from pitool.errors import BadInput

KINDS: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
}  # fmt: skip


def wrong(path: Path, *halves: str, **tensors: Any) -> str:
    save_file(tensors, path)
    read = read_through(path, read_header(path), halves)
    data = path.read_bytes()
    assert (read.bytes, read.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    return str(read.wrong or "")


@pytest.mark.parametrize("kind", KINDS)
def test_the_place_of_a_value_that_is_not_finite(tmp_path: Path, kind: str) -> None:
    for value, shown in ((np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "-inf")):
        array, scalar = np.ones((7, 5, 3), KINDS[kind]), np.full((), value, KINDS[kind])
        array[4, 2, 1] = value
        said = wrong(tmp_path / "m", a=np.ones(3, KINDS[kind]), b=array)
        assert f"'b' is {shown} at [4, 2, 1], which no artifact can hold" in said
        assert f"'b' is {shown}, which" in wrong(tmp_path / "m", b=scalar)
    assert wrong(tmp_path / "m", a=np.ones(3, KINDS[kind])) == ""


def test_a_file_in_many_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "CHUNK_BYTES", 16)
    array = np.arange(100, dtype=np.float32).reshape(20, 5)
    assert wrong(tmp_path / "m", b=array, c=np.zeros(0, np.float32)) == ""
    array[17, 3] = np.inf
    half = np.zeros(9, np.float16)
    assert "'b' is inf at [17, 3]" in wrong(tmp_path / "m", a=half, b=array, c=half)


@pytest.mark.parametrize(
    "value", [65504.0, 65519.99, 65519.998, 65520.0, -65520.0, 7e4, -3e38, 1e-9]
)
@pytest.mark.parametrize("kind", ["F64", "F32", "BF16"])
def test_what_f16_cannot_hold_is_what_becomes_infinite(
    tmp_path: Path, kind: str, value: float
) -> None:
    array = np.array([[1, value]], KINDS[kind])
    with np.errstate(over="ignore"):
        infinite = np.isinf(array.astype(np.float32).astype(np.float16)).any()
    said = wrong(tmp_path / "m", "t", t=array)
    assert bool(said) == bool(infinite)
    if infinite:
        assert "at [0, 1], and F16 ends at 65504: choose BF16 or F32" in said
    assert wrong(tmp_path / "m", "another", t=array) == ""


def test_float64_that_float32_cannot_hold(tmp_path: Path) -> None:
    most = float(np.finfo(np.float32).max)
    assert wrong(tmp_path / "m", t=np.array([most, -most])) == ""
    assert "'t' is 1e+39 at [1]" in wrong(tmp_path / "m", t=np.array([most, 1e39]))
    with np.errstate(over="ignore"):
        assert np.isinf(to_float32(np.array([1e39]), "F64")).all()


@given(bits=st.integers(0, (1 << 64) - 1))
def test_float64_is_judged_as_numpy_casts_it(
    tmp_path_factory: pytest.TempPathFactory, bits: int
) -> None:
    array = np.array([bits], np.uint64).view(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        single = array.astype(np.float32)
        half = single.astype(np.float16)
    path = tmp_path_factory.getbasetemp() / "f64"
    assert bool(wrong(path, t=array)) == (not np.isfinite(single).all())
    assert bool(wrong(path, "t", t=array)) == (not np.isfinite(half).all())


def test_tensors_that_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "m"
    save_file({"a": np.full(3, np.nan, np.float32), "b": np.ones(3, np.float32)}, path)
    used = [tensor for tensor in read_header(path) if tensor.name == "b"]
    assert read_through(path, used).wrong is None
    assert read_through(path, []).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_tensor_that_is_used_twice_and_one_within_another(tmp_path: Path) -> None:
    path = tmp_path / "m"
    save_file({"a": np.ones((4, 4), np.float32), "b": np.array([1, np.nan], np.float32)}, path)
    a, b = sorted(read_header(path), key=lambda tensor: tensor.name)
    inside = replace(a, name="inside", shape=(2,), start=a.start + 4, end=a.start + 12)
    read = read_through(path, [b, inside, a, a, b])
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "'b' is NaN at [1]" in str(read.wrong)


def test_a_sum_that_f16_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "m"
    save_file({"t": np.ones(2, np.float32)}, path)
    (tensor,) = read_header(path)
    values.check_half(np.array([1, -65504], np.float16), tensor)
    with pytest.raises(BadInput, match=r"'t' has values beyond 65504.*choose BF16 or F32"):
        values.check_half(np.array([1, -np.inf], np.float16), tensor)
