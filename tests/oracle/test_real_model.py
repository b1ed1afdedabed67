"""The certificates of a trained model against the same figures by torch, transformers and runtimes.

Nothing here but the conversion is pitool's: the text's tokens, the windows, the logits of both
sides, the softmax and the divergence are made anew. The model, SmolLM2-135M with its weights moved
off the grid, comes from a package: ``real_models.py`` of the shared tools makes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import read_config
from pitool.cli import convert_engines
from pitool.convert.conversion import Job
from pitool.convert.pipeline import convert
from pitool.convert.plan import make_plan
from pitool.report.progress import Silent
from tests.convert.helpers import source_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(1800)]

WINDOW = 512
CACHE = Path.home() / ".cache" / "pitool" / "oracle-smollm2-135m"
WHOLE = os.environ.get("PITOOL_ORACLE") == "all"
TEXT = Path(__file__).parents[2] / "docs" / "explanation" / "quality.md"


@pytest.fixture(scope="module")
def smollm2(shared_data: Path) -> Path:
    """The checkpoint; ``PITOOL_ORACLE=all`` makes it, which downloads 90 MB."""
    folder = Path(os.environ.get("PITOOL_SMOLLM2", CACHE / "checkpoint"))
    tool = shared_data.parent / "tools" / "real_models.py"
    if not (folder / "config.json").is_file():
        if not WHOLE or not tool.is_file():
            pytest.skip(f"no SmolLM2-135M in {folder}: it is made with PITOOL_ORACLE=all")
        subprocess.run([sys.executable, tool, "smollm2-135m", CACHE], check=True)
    return folder


def windows(folder: Path, text: str) -> list[list[int]]:
    """Return the whole windows of a text; this tokenizer puts nothing before it."""
    ids = transformers.AutoTokenizer.from_pretrained(folder).encode(text)
    return [ids[at : at + WINDOW] for at in range(0, len(ids) - WINDOW + 1, WINDOW)]


Logits = Callable[[list[int]], Any]


def gguf(path: Path) -> Logits:
    """Return what computes a GGUF's logits in llama.cpp, as a board does: with flash attention.

    Without it the KL of Q8_0 is 3 % lower, and of Q4_K_M 4 % higher.
    """
    # Converting imports its binding without the package around it.
    if not hasattr(sys.modules.get("llama_cpp"), "Llama"):
        sys.modules.pop("llama_cpp", None)
    import llama_cpp

    model = llama_cpp.Llama(
        str(path), n_ctx=WINDOW, n_batch=WINDOW, flash_attn=True, logits_all=True, verbose=False
    )

    def logits(ids: list[int]) -> Any:
        model.reset()
        model.eval(ids)
        return torch.from_numpy(np.array(model.scores[: len(ids)]))

    return logits


def onnx(path: Path) -> Logits:
    """Return what computes a graph's logits in onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    every = [*session.get_inputs(), *session.get_overridable_initializers()]
    inputs = {each.name: each.shape for each in every}

    def logits(ids: list[int]) -> Any:
        count = len(ids)
        feed = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, count), np.int64),
            "position_ids": np.arange(count, dtype=np.int64)[None],
            "num_logits": np.array([count], np.int64),
        }
        pasts = {
            name: np.zeros((1, shape[1], 0, shape[3]), np.float32)
            for name, shape in inputs.items()
            if name.startswith("past")
        }
        given = {name: value for name, value in feed.items() if name in inputs} | pasts
        return torch.from_numpy(session.run(["logits"], given)[0][0])

    return logits


def figures(exact: Logits, other: Logits, texts: list[list[int]]) -> dict[str, float]:
    """Return the figures of a certificate over the second half of each window."""
    parts = []
    for ids in texts:
        rows = slice(len(ids) // 2, len(ids) - 1)
        following = torch.tensor(ids[rows.start + 1 :])
        p, q = (torch.log_softmax(f(ids)[rows].double(), -1) for f in (exact, other))
        surprise, own = (-each.gather(-1, following[:, None])[:, 0] for each in (q, p))
        same = (p.argmax(-1) == q.argmax(-1)).double()
        parts.append(torch.stack([(p.exp() * (p - q)).sum(-1), same, surprise, own]))
    kl, same, surprise, own = torch.cat(parts, 1)
    return {
        "tokens": len(kl),
        "mean_kl": float(kl.mean()),
        "median_kl": float(kl.median()),
        "top1": float(same.mean()),
        "perplexity": float(surprise.mean().exp()),
        "reference_perplexity": float(own.mean().exp()),
    }


def test_certificates_are_what_torch_computes(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PITOOL_REFERENCE")
    plan = make_plan(
        read_config(smollm2), "1gb", tiers()["1gb"], "Q8_0,Q4_K_M", 512, onnx="INT8,INT4"
    )
    job = Job(plan, tmp_path / "b", False, 2, None, "none")
    source = source_of(smollm2, TEXT)
    bundle = convert(source, job, convert_engines.engines(), Silent())
    model = transformers.AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)

    def exact(ids: list[int]) -> Any:
        with torch.inference_mode():
            return model(torch.tensor([ids])).logits[0]

    texts = windows(smollm2, TEXT.read_text(encoding="utf-8"))[:1]
    assert len(bundle.manifest.artifacts) == 4
    for artifact in bundle.manifest.artifacts:
        path = tmp_path / "b" / artifact.files[0].path
        wanted = figures(exact, (onnx if path.suffix == ".onnx" else gguf)(path), texts)
        found = {name: getattr(artifact.certificate, name) for name in wanted}
        print(artifact.quantisation, {n: (found[n], wanted[n]) for n in wanted})
        assert found == pytest.approx(wanted, rel=0.02)
