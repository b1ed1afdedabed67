"""What llama.cpp's own converter reads is what transformers computes, or is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pitool.catalog.tensor_types import Quantisation
from pitool.convert.gguf import fallback
from pitool.errors import PitoolError
from pitool.quality.divergence import compare
from tests.convert import sabotage
from tests.convert.helpers import names
from tests.oracle.cases import FALLBACKS, MISREAD, write_case
from tests.oracle.conftest import Converter
from tests.oracle.engine import Engine, Logits

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("with_transformers"),
]

IDS = np.random.default_rng(0).integers(0, 512, 240).tolist()


@pytest.fixture(autouse=True)
def converter_once(
    converter: Converter, llama_cpp_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let conversions use the converter that runs already; test_converter.py starts it anew."""
    monkeypatch.setenv("PITOOL_LLAMA_CPP_SDIST", str(llama_cpp_source.parents[1]))

    def run(folder: Path, target: Path, kind: Quantisation) -> None:
        converter(folder, target, kind.name)

    monkeypatch.setattr(fallback, "run_converter", run)


def expected(folder: Path) -> Logits:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        logits: Logits = model(torch.tensor([IDS]), use_cache=False).logits[0].numpy()
    return logits


@pytest.mark.parametrize("case", FALLBACKS)
def test_what_the_converter_misreads_is_refused(
    case: str, converter: Converter, engine: Engine, shared_data: Path, tmp_path: Path
) -> None:
    folder = write_case(FALLBACKS[case], tmp_path / "Tiny-Test-1B", shared_data)
    wanted = expected(folder)
    found = engine.logits(converter(folder, tmp_path / "m.gguf", "F32"), IDS)
    apart = compare(wanted, found, IDS).mean_kl
    print(f"{case}: KL {apart:.2g}")
    assert (apart > 1e-6) == (case in MISREAD)
    if apart > 1e-6:
        said = r"llama\.cpp's own converter reads this model differently from transformers .*: .*%"
        with pytest.raises(PitoolError, match=said):
            sabotage.convert_as(folder, tmp_path / "b", gguf="F16")
        assert not names(tmp_path) & {"b"}
        return
    (artifact,) = sabotage.convert_as(folder, tmp_path / "b", gguf="F16").manifest.artifacts
    assert artifact.certificate
    assert artifact.certificate.verified
    # A router of random weights sends some tokens elsewhere for any rounding.
    median = artifact.certificate.median_kl
    assert median is not None
    assert median < 1e-3
