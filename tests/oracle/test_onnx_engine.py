"""The ONNX engine on a trained model against transformers, however the prompt is processed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from pitool.engine import worker
from pitool.engine.base import Engine, Sampling, Settings
from tests.convert.onnx.helpers import written

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

WHOLE = Settings(context=256, decode_threads=1, prefill_threads=1, outputs=256)
IDS = [1, *np.random.default_rng(2).integers(3, 2048, 89).tolist()]


@pytest.fixture(scope="module")
def folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(shared_data / "models" / "tinystories-656k", tmp_path_factory.mktemp("stories"))


@pytest.fixture(scope="module")
def wanted(shared_data: Path) -> NDArray[np.float32]:
    """Logits of transformers after each of ``IDS``."""
    source = shared_data / "models" / "tinystories-656k"
    config = transformers.AutoConfig.from_pretrained(source)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    weights = {k: torch.tensor(v) for k, v in load_file(source / "model.safetensors").items()}
    missing, unknown = model.load_state_dict(weights, strict=False)
    assert (missing, unknown) == (["model.embed_tokens.weight"], [])  # tied to the head
    with torch.no_grad():
        logits: NDArray[np.float32] = model(torch.tensor([IDS])).logits[0].numpy()
    return logits


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    with worker.start("onnx", folder, WHOLE) as started:
        yield started


@pytest.mark.parametrize(
    "changes", [{}, {"micro_batch": 7}, {"outputs": 1}], ids=["whole", "chunks", "one by one"]
)
def test_logits_are_those_of_transformers(
    folder: Path, wanted: NDArray[np.float32], changes: dict[str, int]
) -> None:
    with worker.start("onnx", folder, replace(WHOLE, **changes)) as loaded:  # type: ignore[arg-type]
        np.testing.assert_allclose(loaded.logits(IDS), wanted, atol=1e-4)


def test_after_a_rewind_the_most_likely_tokens_are_the_same(
    engine: Engine, wanted: NDArray[np.float32]
) -> None:
    """The cache holds another continuation first; what is kept of it is the common prefix."""
    one = Sampling(temperature=0, max_tokens=1)
    for count in (90, 40, 41, 75, 20):
        other = [*IDS[: count - 5], *reversed(IDS[60:90])]
        list(engine.stream(other, one))
        last = list(engine.stream(IDS[:count], one))[-1]
        assert last.timings.reused_tokens >= count - 5
        assert last.id == wanted[count - 1].argmax()


def test_greedy_ids_are_the_golden_ones(engine: Engine, shared_data: Path) -> None:
    golden = shared_data / "models" / "tinystories-656k" / "golden_greedy.json"
    cases = json.loads(golden.read_text())["cases"]
    assert len(cases) == 3
    for case in cases:
        assert engine.tokenize(case["prompt"]) == case["prompt_ids"]
        wanted = case["output_ids"][len(case["prompt_ids"]) :]
        greedy = Sampling(temperature=0, max_tokens=len(wanted))
        tokens = engine.stream(case["prompt"], greedy)
        assert [token.id for token in tokens if token.id is not None] == wanted
