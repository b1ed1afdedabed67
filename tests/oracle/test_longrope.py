"""Where llama.cpp and transformers choose LongRoPE's factors by two things, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pitool.catalog.model_argument import find_runnable
from pitool.checkpoint.config import read_config
from pitool.cli.loading import loading_words
from pitool.convert.gguf.model import model_shape
from pitool.planning.formats import GGUF
from pitool.quality.divergence import compare
from tests.convert.helpers import write_float
from tests.oracle.cases import LONGROPE, Case, write_case
from tests.oracle.engine import Engine, Logits

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

ORIGINAL, TRAINED = 256, 1024
PHI = Case(
    "phi3",
    {"rope_scaling": LONGROPE, "original_max_position_embeddings": ORIGINAL,
     "max_position_embeddings": TRAINED, "sliding_window": None},
)  # fmt: skip
SHORT = np.random.default_rng(0).integers(0, 512, 200).tolist()
LONG = np.random.default_rng(0).integers(0, 512, 400).tolist()


def test_what_is_loaded_as_planned_is_right_and_more_is_right_for_long_texts_alone(
    shared_data: Path, engine: Engine, tmp_path: Path
) -> None:
    folder = write_case(PHI, tmp_path / "Tiny-Test-1B", shared_data)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    file = write_float(folder, tmp_path / "m.gguf", "F32")

    def apart(ids: list[int], context: int) -> float:
        with torch.no_grad():
            wanted: Logits = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
        return compare(wanted, engine.logits(file, ids, context), ids).mean_kl

    usual = GGUF.context(model_shape(read_config(folder)), None, 4096)
    cost = apart(SHORT, TRAINED)
    print(f"KL of a short text with {TRAINED} tokens of context: {cost:.2g}")
    assert apart(SHORT, usual) < 1e-8
    assert apart(LONG, TRAINED) < 1e-8
    assert cost > 1e-3
    runnable = find_runnable(file)
    assert runnable.context == usual == ORIGINAL
    assert "LongRoPE" not in loading_words(runnable)
    assert f"--context {ORIGINAL} avoids this" in loading_words(runnable, TRAINED)
