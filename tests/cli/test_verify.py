"""``pitool verify`` on whole, damaged and lying bundles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pitool.catalog import manifest
from tests.cli.conftest import Pitool, check_failure

pytestmark = pytest.mark.engine


@pytest.fixture
def pitool(call: Pitool) -> Pitool:
    """Run a command in this process."""
    return call


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle, tmp_path / "copy")


def test_a_whole_bundle_answers_as_it_was_certified(pitool: Pitool, bundle: Path) -> None:
    result = pitool("verify", bundle, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    certificates = {a.quantisation: a.certificate for a in manifest.read(bundle).artifacts}
    assert {a["quantisation"] for a in found["artifacts"]} == set(certificates) == {"F16", "Q8_0"}
    for artifact in found["artifacts"]:
        certificate = certificates[artifact["quantisation"]]
        assert certificate and certificate.compact_kl is not None
        assert artifact["mean_kl"] == pytest.approx(certificate.compact_kl, abs=1e-3)
        assert artifact["mean_kl"] <= certificate.mean_kl + 1e-3
        # The compact reference is a part of the text.
        assert artifact["perplexity"] == pytest.approx(certificate.perplexity, rel=0.1)
        assert artifact["ok"]


def test_against_the_checkpoint(pitool: Pitool, bundle: Path) -> None:
    checkpoint = bundle.parent / "tiny"
    result = pitool("verify", bundle, "--quant", "Q8_0", "--reference", checkpoint, "--json")
    assert result.code == 0, result.err
    (found,) = json.loads(result.out)["artifacts"]
    certificate = manifest.read(bundle).artifacts[1].certificate
    assert certificate
    assert found["mean_kl"] == pytest.approx(certificate.mean_kl, abs=1e-3)
    assert found["reference"] == "tiny in pitool's own forward pass, float32"


def test_a_text_gives_its_perplexity(pitool: Pitool, bundle: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 20)
    result = pitool("verify", bundle, "--quant", "F16", "--text", text, "--json")
    assert result.code == 0, result.err
    (found,) = json.loads(result.out)["artifacts"]
    assert found["perplexity"] > 1
    assert found["mean_kl"] is None


def test_one_changed_byte_is_found(pitool: Pitool, copy: Path) -> None:
    path = next(copy.glob("*Q8_0.gguf"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "Q8_0.gguf has a different sha256" in check_failure(pitool("verify", copy), 4)


def test_a_missing_file_is_found(pitool: Pitool, copy: Path) -> None:
    (copy / "reference.npz").unlink()
    assert "reference.npz is missing" in check_failure(pitool("verify", copy), 4)


def test_answers_that_differ_fail(pitool: Pitool, copy: Path) -> None:
    """The file of another model, with its right hash: only its answers betray it."""
    made = json.loads((copy / "manifest.json").read_text())
    path = next(copy.glob("*F16.gguf"))
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + 4096] = bytes(4096)
    path.write_bytes(content)
    made["artifacts"][0]["files"][0] = {
        "path": path.name,
        "bytes": len(content),
        "sha256": manifest.file_entry(path, copy).sha256,
    }
    (copy / "manifest.json").write_text(json.dumps(made))
    result = pitool("verify", copy, "--quant", "F16")
    assert result.code == 1
    assert "F16 answers differently from when it was converted" in result.sentence
    assert "DIFFERS" in result.out


def test_a_bundle_without_reference_says_what_to_do(pitool: Pitool, copy: Path) -> None:
    made = json.loads((copy / "manifest.json").read_text())
    del made["reference"]
    (copy / "manifest.json").write_text(json.dumps(made))
    sentence = check_failure(pitool("verify", copy), 4)
    assert "has no compact reference" in sentence
    assert "--reference" in sentence


@pytest.mark.thorough
def test_max_kld_leaves_nothing(pitool: Pitool, one_layer: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "b"
    asked = ["--ram", "1gb", "--quant", "Q4_0", "--out", out, "--max-kld", "0.0001"]
    sentence = check_failure(pitool("convert", one_layer, *asked), 1)
    assert "above --max-kld 0.0001" in sentence
    assert not out.exists()
    assert list(out.parent.iterdir()) == []
