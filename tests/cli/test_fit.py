"""``convert --fit``: sizes and speeds as budgets, what is said of them, and the front."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pitool.catalog import manifest
from tests.cli.conftest import Pitool, check_failure
from tests.tiny import write_checkpoint

pytestmark = pytest.mark.engine
PLACE = ("--ram", "1gb", "--board", "pi5", "--context", "512", "--format", "gguf")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read little, for what is said and not for how good it is."""
    monkeypatch.setenv("PITOOL_REFERENCE_TOKENS", "256")
    monkeypatch.setenv("PITOOL_CALIBRATION_TOKENS", "256")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("fit") / "c", num_hidden_layers=2)


@pytest.mark.thorough
@pytest.mark.usefixtures("short")
def test_size_and_speed_are_both_kept(call: Pitool, checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "calibration.txt"
    text.write_text("The quick brown fox jumps over the lazy dog, and 12 more. " * 40)
    words = (checkpoint, *PLACE, "--calibration", text, "--json")
    done = call("convert", *words, "--quant", "Q4_K_M", "--out", tmp_path / "usual")
    assert done.code == 0, done.err
    (usual,) = manifest.read(tmp_path / "usual").artifacts
    (speed,) = usual.speed
    size = usual.files[0].bytes

    asked = ("--fit", "--size", f"{size / 1e6:.6f}mb", "--target-tps", speed.decode - 0.1)
    done = call("convert", *words, *asked, "--out", tmp_path / "fit")
    assert done.code == 0, done.err
    (made,) = manifest.read(tmp_path / "fit").artifacts
    assert made.files[0].bytes <= size
    assert made.speed[0].decode >= speed.decode - 0.1
    assert made.fit
    assert made.fit.made.startswith("made: ")
    assert " tokens/s of " in made.fit.made
    assert made.fit.why.startswith(("why: the s", "why: size and speed decide together"))
    assert " 0% of the loss" not in made.fit.why
    assert made.fit.mean_kl is not None
    assert made.certificate
    assert [kind.name for kind in made.certificate.kinds] == ["chat", "prose", "code"]

    front = made.fit.front
    assert len(front) >= 10
    assert [p.bytes for p in front] == sorted(p.bytes for p in front)
    merits = [(-p.bytes, -p.mean_kl, p.speed[0].decode) for p in front]
    for one, other in itertools.permutations(merits, 2):
        assert not all(a >= b for a, b in zip(one, other, strict=True)) or one == other
    assert all(point.speed[0].board == "pi5" for point in front)

    shown = call("show", tmp_path / "fit", "--plot", tmp_path / "front.svg").out
    for word in ("made: ", "why: ", "The least loss by size", "Quality by kind of text", "flips"):
        assert word in shown
    drawn = ElementTree.parse(tmp_path / "front.svg").getroot()
    marks = [e for e in drawn.iter() if e.tag.endswith("circle")]
    assert len(marks) == len(front) + 1  # and that of the legend


def test_what_cannot_be_reached_is_refused_before_anything(
    call: Pitool, checkpoint: Path, tmp_path: Path
) -> None:
    words = ("convert", checkpoint, *PLACE, "--out", tmp_path / "b")
    said = check_failure(call(*words, "--target-tps", "1e9"), 3)
    assert "no types reach 1,000,000,000.0 tokens/s" in said
    assert "--target-tps" in said
    assert not (tmp_path / "b").exists()
    said = check_failure(call("convert", checkpoint, "--ram", "1gb", "--format", "onnx",
                              "--target-tps", "1"), 2)  # fmt: skip
    assert "--target-tps can only make a GGUF" in said


@pytest.mark.thorough
def test_the_types_of_the_cache_are_planned_and_kept(
    call: Pitool, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PITOOL_REFERENCE_TOKENS", "64")
    words = ("convert", checkpoint, *PLACE, "--quant", "F16", "--json", "--out")
    assert call(*words, tmp_path / "usual").code == 0
    assert call(*words, tmp_path / "small", "--kv-type", "q8_0,q5_1").code == 0
    (usual,), (small,) = (manifest.read(tmp_path / n).artifacts for n in ("usual", "small"))
    assert str(small.cache) == "q8_0,q5_1"

    def cache_bytes(artifact: manifest.Artifact) -> int:
        return next(line.bytes for line in artifact.memory if line.name == "KV cache")

    assert cache_bytes(small) * 64 == cache_bytes(usual) * 29
    done = call("run", tmp_path / "small", "Hello", "--max-tokens", "3", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["decoded_tokens"] > 0


def test_a_bundle_without_a_front_says_how_to_get_one(call: Pitool, bundle: Path) -> None:
    said = check_failure(call("show", bundle, "--plot", "x.svg"), 4)
    assert "has no front of sizes to draw" in said
