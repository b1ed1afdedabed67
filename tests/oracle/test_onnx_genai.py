"""Folders of onnxruntime-genai's model builder in our engine: against its runtime, transformers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pitool.engine import worker
from pitool.engine.base import Sampling, Settings

pytest.importorskip("torch")
genai = pytest.importorskip("onnxruntime_genai")
from tests.oracle.test_onnx_families import IDS, saved  # noqa: E402

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

SETTINGS = Settings(context=128, decode_threads=1, prefill_threads=1, outputs=128)
# The builder's graphs of Gemma give other logits than transformers, in its own runtime as well.
FAITHFUL = ("llama-tied", "mistral", "qwen2", "qwen3", "phi3-long", "granite")


def built(source: Path, folder: Path, kind: str) -> Path:
    """Let the builder write the folder of a checkpoint."""
    program = "onnxruntime_genai.models.builder"
    order: list[str | Path] = [sys.executable, "-m", program, "-i", source, "-o", folder]
    order += ["-p", kind, "-e", "cpu", "-c", folder.parent / "cache"]
    done = subprocess.run(order, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def reads(folder: Path, ids: list[int], length: int) -> Any:
    """Return genai's generator after it has read the prompt."""
    model = genai.Model(str(folder))
    params = genai.GeneratorParams(model)
    params.set_search_options(max_length=length, min_length=length, do_sample=False)
    generator = genai.Generator(model, params)
    generator.append_tokens(ids)
    return generator


@pytest.mark.parametrize("case", [*FAITHFUL, "gemma2", "gemma3_text"])
def test_logits_of_a_built_folder(tmp_path: Path, case: str) -> None:
    exact = saved(tmp_path / "c", case)
    folder = built(tmp_path / "c", tmp_path / "built", "fp32")
    with worker.start("onnx", folder, SETTINGS) as engine:
        found = engine.logits(IDS)
    bound = 1e-4 * float(np.abs(exact).max())
    theirs = reads(folder, IDS, SETTINGS.context).get_output("logits")[0]
    np.testing.assert_allclose(found, theirs, atol=bound)
    if case in FAITHFUL:
        np.testing.assert_allclose(found, exact, atol=bound)


def test_greedy_ids_of_a_built_int4_folder_are_genais(tmp_path: Path) -> None:
    saved(tmp_path / "c", "llama-untied")
    folder = built(tmp_path / "c", tmp_path / "built", "int4")
    prompt, count = IDS[:40], 24
    theirs = reads(folder, prompt, len(prompt) + count)
    for _ in range(count):
        theirs.generate_next_token()
    with worker.start("onnx", folder, SETTINGS) as engine:
        tokens = list(engine.stream(prompt, Sampling(temperature=0, max_tokens=count)))
    ours = [token.id for token in tokens if token.id is not None]
    assert len(ours) == count
    assert ours == theirs.get_sequence(0)[len(prompt) :].tolist()
