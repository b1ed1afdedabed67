"""Matrices on a grid keep it bit for bit, through whole conversions; others are rounded as ever."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from pitool.catalog import manifest
from pitool.catalog.gguf import read_header
from pitool.catalog.tensor_types import QUANTISATIONS, TENSOR_TYPES
from pitool.checkpoint.config import read_config
from pitool.convert.download import find_grids, planned_checkpoint
from pitool.convert.gguf import grids, quantise
from pitool.convert.gguf.ggml import dequantise_rows, quantise_rows
from pitool.convert.lattice import rounded
from pitool.errors import BadInput
from tests.convert.helpers import convert_folder, source_of, write_float
from tests.tiny import write_checkpoint

pytestmark = pytest.mark.engine

Floats = NDArray[np.float32]
SMALL = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
LEVELS: dict[str, Sequence[float]] = {
    "Q1_0": [-1, 1],
    "TQ2_0": [-1, 0, 1],
    "TQ1_0": [-1, 0, 1],
    "Q2_0": [-1, 0, 1],
    "Q4_0": range(-7, 8),
    "MXFP4": [*SMALL, *(-level for level in SMALL[1:])],
}


def lattice(
    shape: tuple[int, int], kind: str, seed: int = 0, whole: int = 0, *, fine: bool = False
) -> Floats:
    """Return a matrix on the grid of a type, with scales of 5 bits, or of 11 where ``fine``.

    Every float type has the products of the former. ``whole``: so many weights share a scale, by
    default those of a block.
    """
    rng = np.random.default_rng(seed)
    block = whole or TENSOR_TYPES[kind].block
    rows, columns = shape
    counts = rng.choice(np.array(list(LEVELS[kind]), np.float32), (rows, columns // block, block))
    unit = 1024 if fine else 16
    steps = rng.integers(unit + 1, 2 * unit, (rows, columns // block, 1)).astype(np.float32)
    scales = np.ones_like(steps) if kind == "MXFP4" else steps / np.float32(unit)
    values: Floats = counts * scales * np.float32(2.0**-8)
    return values.reshape(shape)


@pytest.mark.parametrize("kind", LEVELS)
def test_a_grid_is_seen_and_kept(kind: str) -> None:
    rows = lattice((3, 512), kind)
    kept = {each.type.name: each for each in grids.look(rows)}
    assert kept[kind].exact
    made = grids.encode(rows, TENSOR_TYPES[kind], "F32")
    assert made
    assert made[1]
    assert (dequantise_rows(made[0], TENSOR_TYPES[kind]) == rows).all()
    if kind not in ("Q1_0", "Q2_0"):  # which gguf-py does not have
        assert (gguf.dequantize(made[0], gguf.GGMLQuantizationType[kind]) == rows).all()


def test_ternary_weights_that_share_a_scale_by_128_fit_the_smaller_blocks_alone() -> None:
    names = [each.type.name for each in grids.look(lattice((4, 512), "Q2_0", whole=128))]
    assert names[0] == "Q2_0"
    assert not {"TQ1_0", "TQ2_0", "Q1_0"} & set(names)
    assert grids.look(lattice((4, 512), "TQ2_0"))[0].type.name == "TQ2_0"


@pytest.mark.parametrize("kind", LEVELS)
def test_one_weight_beside_the_grid(kind: str) -> None:
    rows = lattice((2, 512), kind)
    at = np.flatnonzero(rows)[-1]
    rows.flat[at] = np.nextafter(rows.flat[at], np.float32(9))
    assert kind not in {each.type.name for each in grids.look(rows)}
    assert grids.encode(rows, TENSOR_TYPES[kind], "F32") is None


def test_ggmls_own_quantiser_misses_the_grid_that_is_kept() -> None:
    """It takes the largest weight for the level -8: here that is 7, 6 or 5."""
    rows, kind = lattice((4, 512), "Q4_0"), TENSOR_TYPES["Q4_0"]
    assert (dequantise_rows(quantise_rows(rows, kind, None), kind) != rows).any()


def test_random_weights_lie_on_no_grid() -> None:
    rows = np.random.default_rng(2).normal(0, 0.02, (8, 512)).astype(np.float32)
    assert grids.look(rows) == ()
    assert grids.look(rounded(rows, "BF16")) == ()


# -- conversions ---------------------------------------------------------------------------


def on_grid(folder: Path, kind: str, *, stored: str = "F32", off: tuple[str, ...] = ()) -> Path:
    """Write a tiny checkpoint whose matrices lie on a grid, but those in ``off``."""
    write_checkpoint(folder, kind="F32", num_hidden_layers=2)
    path = folder / "model.safetensors"
    tensors: dict[str, Any] = load_file(path)
    for i, (name, array) in enumerate(sorted(tensors.items())):
        if array.ndim == 2 and not any(part in name for part in off):
            array = lattice(array.shape, kind, i, fine=stored == "BF16") * np.float32(4)
        tensors[name] = rounded(np.asarray(array, np.float32), stored)
    save_file(tensors, path)
    return folder


def values(path: Path) -> dict[str, Floats]:
    """Return the numbers of every tensor of a GGUF."""
    found = {}
    for tensor in read_header(path).tensors:
        raw = np.fromfile(path, np.uint8, tensor.bytes, offset=tensor.start)
        rows = raw.reshape(-1, tensor.type.size((tensor.shape[-1],)))
        found[tensor.name] = dequantise_rows(rows, tensor.type)
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["Q4_0", "TQ2_0", "Q2_0", "Q1_0"])
def test_auto_takes_the_grid_and_every_weight_is_the_checkpoints(tmp_path: Path, kind: str) -> None:
    folder = on_grid(tmp_path / "c", kind)
    model = planned_checkpoint(source_of(folder))
    assert model.remarks == (f"the weights lie on a {kind} grid: exact",)
    found = find_grids(source_of(folder), read_config(folder))
    assert found
    bundle = convert_folder(folder, tmp_path / "b", "auto", found=found)
    (artifact,) = bundle.manifest.artifacts
    assert artifact.quantisation == kind
    assert artifact.weights == f"the weights lie on a {kind} grid: exact"
    made = values(bundle.path / artifact.files[0].path)
    exact = values(write_float(folder, tmp_path / "exact.gguf", "F32"))
    assert made.keys() == exact.keys()
    assert all((made[name] == exact[name]).all() for name in exact)
    types = {t.type.name for t in read_header(bundle.path / artifact.files[0].path).tensors}
    assert types == {kind, "F32"}
    assert artifact.certificate
    # What is left is llama.cpp's rounding of activations to 8 bits.
    assert artifact.certificate.mean_kl < 0.02
    assert manifest.read(bundle.path) == bundle.manifest


@pytest.mark.thorough
def test_a_matrix_off_the_grid_is_quantised_as_planned(tmp_path: Path) -> None:
    folder = on_grid(tmp_path / "c", "Q4_0", off=("embed_tokens", "layers.1.mlp.down_proj"))
    bundle = convert_folder(folder, tmp_path / "b", "Q4_K_M")
    (artifact,) = bundle.manifest.artifacts
    header = read_header(bundle.path / artifact.files[0].path)
    types = {t.name: t.type.name for t in header.tensors if len(t.shape) > 1}
    assert types.pop("token_embd.weight") == "Q6_K"
    assert types.pop("blk.1.ffn_down.weight") == "Q6_K"
    assert set(types.values()) == {"Q4_0"}
    assert artifact.weights == "13 of 15 matrices lie on a Q4_0 grid: exact"
    assert artifact.bytes - artifact.files[1].bytes == header.path.stat().st_size


@pytest.mark.thorough
def test_a_grid_of_more_bytes_than_are_planned_is_not_kept(tmp_path: Path) -> None:
    folder = on_grid(tmp_path / "c", "Q4_0")
    bundle = convert_folder(folder, tmp_path / "b", "Q2_K")
    (artifact,) = bundle.manifest.artifacts
    header = read_header(bundle.path / artifact.files[0].path)
    types = {t.name: t.type.name for t in header.tensors if len(t.shape) > 1}
    assert types["blk.0.ffn_up.weight"] == "Q2_K"
    assert types["token_embd.weight"] == "Q4_0"


@pytest.mark.thorough
def test_a_checkpoint_in_bfloat16_is_exact_but_for_its_rounding(tmp_path: Path) -> None:
    folder = on_grid(tmp_path / "c", "Q4_0", stored="BF16")
    bundle = convert_folder(folder, tmp_path / "b", "Q4_0")
    (artifact,) = bundle.manifest.artifacts
    said = "the weights lie on a Q4_0 grid: exact but for the rounding of BF16"
    assert artifact.weights == said
    made = values(bundle.path / artifact.files[0].path)
    stored = values(write_float(folder, tmp_path / "exact.gguf", "F32"))
    for name, array in stored.items():
        assert (rounded(made[name], "BF16") == array).all()


@pytest.mark.thorough
def test_an_almost_ternary_checkpoint_is_seen_through_when_all_of_it_is_read(
    tmp_path: Path,
) -> None:
    """A plan looks at a few rows; the weight that is off is in none of them."""
    folder = on_grid(tmp_path / "c", "TQ2_0")
    path = folder / "model.safetensors"
    tensors: dict[str, Any] = load_file(path)
    tensors["model.layers.0.mlp.up_proj.weight"][1, 5] += np.float32(2.0**-12)
    save_file(tensors, path)
    found = find_grids(source_of(folder), read_config(folder))
    assert found
    assert "blk.0.ffn_up.weight" in found
    bundle = convert_folder(folder, tmp_path / "b", "auto", found=found)
    (artifact,) = bundle.manifest.artifacts
    assert artifact.weights == "14 of 15 matrices lie on a TQ2_0 grid: exact"


def test_weights_of_no_grid_are_not_rounded_to_three_values(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c")
    with pytest.raises(BadInput, match="TQ2_0 is for models that were trained for it"):
        convert_folder(folder, tmp_path / "b", "TQ2_0")
    assert not (tmp_path / "b").exists()
    found = find_grids(source_of(folder), read_config(folder))
    assert found == {}
    with pytest.raises(BadInput, match="do not lie on its grid: choose a larger --quant"):
        convert_folder(folder, tmp_path / "b", "Q1_0", found=found)


def test_slabs_of_any_size_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = on_grid(tmp_path / "c", "Q4_0")
    exact = write_float(folder, tmp_path / "exact.gguf", "F32")
    found = grids.find(exact)
    kept = {name: each[-1] for name, each in found.items()}
    types = {name: each.type for name, each in kept.items()}
    stored = {name: each.stored for name, each in kept.items()}
    for size, name in ((1 << 21, "a"), (5000, "b")):
        monkeypatch.setattr(quantise, "SLAB_BYTES", size)
        quantise.quantise(
            exact, tmp_path / name, QUANTISATIONS["Q4_0"], 2, types=types, on_grid=stored
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
