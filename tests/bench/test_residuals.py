"""From a bench on a board to the next plan for it: measured beside predicted, kept, used."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pitool.catalog import manifest
from pitool.catalog.manifest import Speed
from pitool.cli.commands import cli
from pitool.device import detect as detect_module
from pitool.device import probe, residuals
from pitool.device.detect import Machine
from pitool.device.probe import Probe

FIXTURE = Path(__file__).parents[1] / "device" / "fixtures" / "pi5"


@pytest.fixture
def pi5(monkeypatch: pytest.MonkeyPatch, private_home: Path) -> Machine:
    """A Raspberry Pi 5 whose memory was measured at what is usual."""
    machine = detect_module.detect(FIXTURE)
    for room in ("pitool.bench.session.detect", "pitool.device.settings.detect"):
        monkeypatch.setattr(room, lambda *_: machine)
    monkeypatch.setattr(detect_module, "detect", lambda *_: machine)
    probe.keep(Probe(probe.key(machine), 14.0, 3, 1, "2026-11-01"))
    return machine


def pitool(*words: object) -> Any:
    done = CliRunner().invoke(cli, [*map(str, words)], standalone_mode=False)
    assert done.exception is None, done.output
    return json.loads(done.stdout)


def predicted(folder: Path, prefill: float, decode: float) -> None:
    """Write into a bundle what was predicted for the board."""
    made = manifest.read(folder)
    (artifact,) = made.artifacts
    speeds = (Speed("pi5", prefill, decode), Speed("pi4b", 1.0, 1.0))
    manifest.write(folder, replace(made, artifacts=(replace(artifact, speed=speeds),)))


def test_a_bench_corrects_the_next_plan(
    pi5: Machine, bundle: Callable[..., Path], private_home: Path
) -> None:
    folder = bundle(prefill_rate=256.0, decode_rate=8.0)
    predicted(folder, 512.0, 10.0)
    before = pitool("plan", "3B", "--board", "here", "--json")
    rows = pitool("bench", folder, "-r", "2", "--json")
    shares = [(row["predicted_ts"], row["avg_ts"]) for row in rows]
    assert shares == [(512.0, pytest.approx(256.0)), (10.0, pytest.approx(8.0))]
    assert rows[1]["plausibility"]["predicted_share"] == pytest.approx(0.8)
    kept = residuals.factors(probe.key(pi5), "scripted")
    assert kept == {"prefill": pytest.approx(0.5), "decode": pytest.approx(0.8)}
    # The script stands for llama.cpp.
    path = private_home / residuals.FILE_NAME
    path.write_text(path.read_text().replace('"scripted"', '"llamacpp"'))
    after = pitool("plan", "3B", "--board", "here", "--json")
    assert any("0.50 x the predicted prefill" in note for note in after["notes"])
    for old, new in zip(before["rows"], after["rows"], strict=True):
        assert new["speed"]["pi5"]["prefill"] == pytest.approx(0.5 * old["speed"]["pi5"]["prefill"])
        assert new["speed"]["pi5"]["decode"] == pytest.approx(0.8 * old["speed"]["pi5"]["decode"])
    # What holds here holds for no board that is to be bought.
    boards = pitool("plan", "3B", "--buy", "--json")["boards"]
    shop = {b["board"]: b["decode_four_bit"] for b in boards}
    q4 = next(r for r in before["rows"] if r["quantisation"] == "Q4_K_M")
    assert shop["pi5-8gb"] == pytest.approx(q4["speed"]["pi5"]["decode"])
