"""Whose logits an artifact is compared with, on which text, and how the difference is measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pitool.convert import forward
from pitool.convert.forward import OWN, ForwardPass, open_forward
from pitool.convert.numpy_forward import reference_logits
from pitool.convert.reference import (
    RANDOM,
    Reference,
    make_reference,
    run_reference,
)
from pitool.convert.token_counts import CALIBRATION, REFERENCE, TokenCount
from pitool.engine.base import Prompt
from pitool.errors import UsageError
from pitool.quality.comparison import compare
from pitool.report.progress import Silent
from tests.convert.helpers import Honest, checkpoint_of
from tests.tiny import write_checkpoint


def made_of(logits: NDArray[np.float32], tmp_path: Path, **details: bool) -> Reference:
    """Return the reference of one window, of a forward pass that always gives these logits."""
    given = ForwardPass("somebody", 1, lambda _ids, noise, _on: logits * (1 + noise), **details)
    return run_reference(given, "text", [list(range(len(logits)))], tmp_path, Silent())


class Given:
    """An engine that gives the logits that it is told to."""

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self._logits = logits

    def tokenize(self, _prompt: Prompt) -> list[int]:
        return []

    def logits(self, _ids: Sequence[int]) -> NDArray[np.float32]:
        return self._logits


def test_the_error_is_a_share_of_the_spread_and_sees_no_constant(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0, 3, (8, 50)).astype(np.float32)
    reference = made_of(base, tmp_path)
    moved = compare(Given(base + np.float32(7)), reference, "it")
    assert moved.error == pytest.approx(0, abs=1e-6)
    assert moved.divergence.mean_kl == pytest.approx(0, abs=1e-9)
    larger = compare(Given(base * np.float32(1.1)), reference, "it")
    assert larger.error == pytest.approx(0.1, rel=1e-5)
    assert larger.divergence.top1 == 1
    assert larger.divergence.tokens == 3  # the second half, and the last predicts nothing


def test_rounding_is_what_the_precision_of_each_type_does(tmp_path: Path) -> None:
    base = np.random.default_rng(0).normal(0, 3, (8, 50)).astype(np.float32)
    rounding = made_of(base, tmp_path).rounding
    assert rounding == pytest.approx({"F16": 2**-11, "BF16": 2**-8}, rel=1e-3)
    assert made_of(base, tmp_path, stands_in=True).rounding == {}


def test_nothing_of_the_logits_stays_in_the_folder(tmp_path: Path) -> None:
    reference = made_of(np.ones((8, 50), np.float32), tmp_path)
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(reference.logits[0], np.ones((3, 50)))


def test_noise_is_small_and_the_same_each_time(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(write_checkpoint(tmp_path / "m", num_hidden_layers=1))
    ids = list(range(20))
    exact = reference_logits(checkpoint, ids)
    noisy = reference_logits(checkpoint, ids, noise=2**-11)
    np.testing.assert_array_equal(noisy, reference_logits(checkpoint, ids, noise=2**-11))
    apart = np.abs(noisy - exact).max() / np.abs(exact).max()
    assert 1e-5 < apart < 1e-2


def test_without_transformers_the_forward_pass_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = checkpoint_of(write_checkpoint(tmp_path / "m", num_hidden_layers=2))
    with open_forward(checkpoint) as found:
        assert found
        assert (found.of, found.layers, found.verified) == (OWN, 2, True)
    monkeypatch.setattr(forward, "covers", lambda _config: False)
    with open_forward(checkpoint) as found:
        assert found is None


@pytest.mark.parametrize("context", [11, 100, 512])
def test_windows_are_no_longer_than_the_context(tmp_path: Path, context: int) -> None:
    checkpoint = checkpoint_of(write_checkpoint(tmp_path / "m", num_hidden_layers=1))
    with open_forward(checkpoint) as found:
        assert found
        reference = make_reference(
            checkpoint, Honest(checkpoint), found, 1100, context, tmp_path, Silent()
        )
    assert {len(window) for window in reference.windows} == {context}
    assert len(reference.windows) == 1100 // context
    assert reference.text == "built-in"


def test_a_vocabulary_that_spells_nothing_is_tried_on_random_tokens(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(write_checkpoint(tmp_path / "m", num_hidden_layers=1))

    class Speechless(Honest):
        def tokenize(self, _prompt: Prompt) -> list[int]:
            return []

    (checkpoint.folder / "tokenizer.json").unlink()
    engine = Speechless.__new__(Speechless)
    engine.checkpoint = checkpoint
    with open_forward(checkpoint) as found:
        assert found
        reference = make_reference(checkpoint, engine, found, 1024, 512, tmp_path, Silent())
    assert reference.text == RANDOM
    assert len(reference.windows) == 2
    assert len({id_ for window in reference.windows for id_ in window}) > 300


def test_a_large_model_reads_fewer_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, found in ((REFERENCE, (4096, 4096, 2048)), (CALIBRATION, (16_384, 8192, 2048))):
        monkeypatch.delenv(count.setting)
        assert tuple(map(count.find, (3_670_000, 135_000_000, 3_000_000_000))) == found


@pytest.mark.parametrize("asked", ["0", "15", "-1", "many", "1e3", "\u00b2"])
@pytest.mark.parametrize("count", [REFERENCE, CALIBRATION], ids=lambda count: count.setting)
def test_what_is_no_number_of_tokens_is_refused(
    asked: str, count: TokenCount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(count.setting, asked)
    with pytest.raises(UsageError, match=f"^{count.setting}=.* is not a number of at least 16"):
        count.find(1)
