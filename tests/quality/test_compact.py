"""The compact reference against the full divergence and against sums written out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pitool.errors import BadInput
from pitool.quality import compact
from pitool.quality.divergence import cut_windows, score, summarise, unscored


def random_windows(
    seed: int, noise: float, vocabulary: int = 200, tokens: int = 20
) -> tuple[list[list[int]], list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(0, vocabulary, tokens).tolist() for _ in range(2)]
    base = [(3 * rng.normal(size=(tokens, vocabulary))).astype(np.float32) for _ in ids]
    other = [b + (noise * rng.normal(size=b.shape)).astype(np.float32) for b in base]
    return ids, base, other


@given(seed=st.integers(0, 1000), noise=st.floats(0, 3), k=st.integers(1, 200))
def test_it_is_a_lower_bound_that_the_whole_vocabulary_makes_exact(
    seed: int, noise: float, k: int
) -> None:
    ids, base, other = random_windows(seed, noise)
    windows = zip(base, other, ids, strict=True)
    full = summarise([score(b, o, i, unscored(i)) for b, o, i in windows])
    found = compact.compare(compact.make(ids, base, k), other)
    assert found.mean_kl <= full.mean_kl + 1e-5
    assert found.tokens == full.tokens == 2 * (20 - 1 - 10)
    assert found.top1 == full.top1
    assert found.perplexity == pytest.approx(full.perplexity, rel=1e-6)
    assert found.base_perplexity == pytest.approx(full.base_perplexity, rel=1e-5)
    if k == 200:
        assert found.mean_kl == pytest.approx(full.mean_kl, abs=1e-5)


def test_thirty_two_tokens_give_nearly_all_of_it() -> None:
    ids, base, other = random_windows(1, 0.1, vocabulary=2000, tokens=64)
    base, other = [2 * b for b in base], [2 * o for o in other]
    windows = zip(base, other, ids, strict=True)
    full = summarise([score(b, o, i, unscored(i)) for b, o, i in windows]).mean_kl
    found = compact.compare(compact.make(ids, base), other).mean_kl
    assert 0.9 * full < found <= full


def test_by_hand() -> None:
    """Five tokens, the two likeliest kept: the other three are one outcome."""
    p, q = [0.5, 0.2, 0.15, 0.1, 0.05], [0.4, 0.3, 0.1, 0.1, 0.1]
    base, other = (np.log(np.array([x] * 4, np.float32)) for x in (p, q))
    found = compact.compare(compact.make([[0, 1, 2, 3]], [base], 2), [other])
    kl = 0.5 * math.log(0.5 / 0.4) + 0.2 * math.log(0.2 / 0.3) + 0.3 * math.log(0.3 / 0.3)
    assert found.tokens == 1  # of three predictions, two lie in the first half
    assert found.mean_kl == pytest.approx(kl, abs=1e-6)
    assert found.perplexity == pytest.approx(1 / q[3])
    assert found.base_perplexity == pytest.approx(1 / p[3])


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    ids, base, other = random_windows(3, 0.5)
    made = compact.make(ids, base)
    compact.write(tmp_path / "r.npz", made)
    with np.load(tmp_path / "r.npz", allow_pickle=False) as stored:
        assert stored["ids"].tolist() == ids
    assert compact.compare(compact.read(tmp_path / "r.npz"), other) == compact.compare(made, other)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.npz"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"cannot read.*copy the bundle again"):
        compact.read(path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    np.savez(path, ids=np.array([{"a": 1}], object))
    with pytest.raises(BadInput, match="cannot read"):
        compact.read(path)


def test_a_large_vocabulary_shortens_the_windows() -> None:
    """A board with 1 GB holds the logits of a window beside the model."""
    base = [np.zeros((512, 100_000), np.float32)]
    made = compact.make([list(range(512))], base, 2)
    assert made.ids.shape[1] * 100_000 * 4 <= compact.WINDOW_BYTES


def test_windows_are_llama_perplexitys() -> None:
    assert cut_windows(range(1030)) == [list(range(512)), list(range(512, 1024))]
    assert cut_windows(range(1024), [7])[1] == [7, *range(513, 1024)]  # the first token gives way
    assert cut_windows([1, 2, 3], [7]) == [[1, 2, 3]]
    assert unscored(range(512)) == 256
