"""A certificate against another artifact: its figures by hand, and where it is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pitool.catalog import manifest
from pitool.cli.commands import cli
from pitool.errors import BadInput, PitoolError, UsageError
from tests.convert.helpers import convert_folder, real_engine
from tests.tiny import write_checkpoint

pytestmark = pytest.mark.engine
TEXT = "The quick brown fox jumps over the lazy dog. A Raspberry Pi has 4 cores and 8 GB. " * 12


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("against")
    checkpoint = write_checkpoint(folder / "tiny", num_hidden_layers=1, intermediate_size=256)
    return convert_folder(checkpoint, folder / "bundle", "F16,Q4_0").path


@pytest.fixture
def pulled(made: Path, private_home: Path) -> Path:
    """A bundle of the Q4_0 alone, as a pull leaves it: without reference and certificate."""
    folder = private_home / "bundles" / "tiny-q4_0"
    folder.mkdir(parents=True)
    known = manifest.read(made)
    (artifact,) = (a for a in known.artifacts if a.quantisation == "Q4_0")
    for file in artifact.files:
        (folder / file.path).write_bytes((made / file.path).read_bytes())
    bare = replace(artifact, certificate=None)
    manifest.write(folder, replace(known, artifacts=(bare,), reference=None, extras=()))
    return folder


def run(*words: object) -> Result:
    result = CliRunner().invoke(cli, ["verify", *map(str, words)], catch_exceptions=False)
    if isinstance(result.exception, PitoolError):
        raise result.exception
    return result


def logits(path: Path, ids: list[int]) -> Any:
    with real_engine(path, len(ids)) as engine:
        rows = engine.logits(ids).astype(np.float64)
    return rows - np.log(np.exp(rows).sum(-1, keepdims=True))


@pytest.mark.thorough
def test_the_figures_are_those_of_the_definition(pulled: Path, made: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    (exact,) = made.glob("*F16.gguf")
    result = run("tiny-q4_0", "--against", exact, "--text", text, "--json")
    (found,) = json.loads(result.stdout)["artifacts"]
    with real_engine(exact, 512) as engine:
        ids = engine.tokenize(TEXT)
    assert 64 <= len(ids) < 512, "one window"
    half = slice(len(ids) // 2, len(ids) - 1)
    p, q = (logits(path, ids)[half] for path in (exact, next(pulled.glob("*.gguf"))))
    kl = (np.exp(p) * (p - q)).sum(-1)
    assert found["tokens"] == len(kl)
    assert found["mean_kl"] == pytest.approx(kl.mean(), rel=1e-3)
    assert found["max_kl"] == pytest.approx(kl.max(), rel=1e-3)
    assert found["top1"] == pytest.approx((p.argmax(-1) == q.argmax(-1)).mean())
    after = ids[len(ids) // 2 + 1 :]
    assert found["perplexity"] == pytest.approx(np.exp(-q[range(len(q)), after].mean()), rel=1e-4)


@pytest.mark.thorough
def test_the_certificate_is_kept_and_repeated(pulled: Path, made: Path) -> None:
    assert "answers: not compared with anything" in run("tiny-q4_0").stdout
    run("tiny-q4_0", "--against", f"{made}:F16")
    (artifact,) = manifest.read(pulled).artifacts
    assert artifact.certificate
    assert artifact.certificate.reference == "the F16 of tiny in llama.cpp"
    assert not artifact.certificate.verified
    assert "ok" in run("tiny-q4_0").stdout
    shown = CliRunner().invoke(cli, ["show", "tiny-q4_0"]).stdout
    assert "not verified against the checkpoint" in " ".join(shown.split())
    assert not list(pulled.parent.glob(".*"))


def test_a_certificate_against_the_checkpoint_stays(made: Path) -> None:
    before = (made / manifest.FILE_NAME).read_bytes()
    run(made, "--quant", "Q4_0", "--against", f"{made}:F16")
    assert (made / manifest.FILE_NAME).read_bytes() == before


@pytest.mark.thorough
def test_what_cannot_be_compared(pulled: Path, made: Path, tmp_path: Path) -> None:
    small = write_checkpoint(tmp_path / "small", num_hidden_layers=1, vocab_size=400)
    other = convert_folder(small, tmp_path / "other").path
    with pytest.raises(BadInput, match=r"vocabulary of 512 tokens, and the F16 of small .* 400"):
        run("tiny-q4_0", "--against", other)
    with pytest.raises(UsageError, match="cannot be combined"):
        run("tiny-q4_0", "--against", made, "--reference", small)
