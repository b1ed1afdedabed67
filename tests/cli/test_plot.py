"""The chart of a plan: its front by hand, and that it is an SVG with every point."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitool.cli import plot
from pitool.cli.plot import PlannedSpeed
from pitool.report import scatter
from pitool.report.canvas import PAPER
from tests.cli.conftest import Pitool, check_failure

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def pitool(call: Pitool) -> Pitool:
    """Run a command in this process."""
    return call


def point(label: str, bits: float, speed: float) -> PlannedSpeed:
    return PlannedSpeed(label, round(bits * 1e9 / 8), speed, bits, fits=True)


def test_the_front_by_hand() -> None:
    points = [point("a", 16, 1), point("b", 8, 3), point("c", 6, 2), point("d", 4, 5)]
    assert [p.label for p in plot.pareto(points)] == ["d", "b", "a"]


@given(st.lists(st.tuples(st.floats(1, 32), st.floats(0.1, 100)), max_size=12))
def test_nothing_beats_the_front(pairs: list[tuple[float, float]]) -> None:
    points = [point(str(i), bits, speed) for i, (bits, speed) in enumerate(pairs)]
    front = plot.pareto(points)
    for p in points:
        assert any(f.bits >= p.bits and f.speed >= p.speed for f in front)
    for p in front:
        beaten = [q for q in front if q.bits > p.bits and q.speed > p.speed]
        assert not beaten


def test_every_quantisation_is_drawn_inside(pitool: Pitool, tmp_path: Path) -> None:
    path = tmp_path / "chart.svg"
    assert pitool("plan", "3B", "--ram", "4gb", "--plot", path).code == 0
    root = ET.fromstring(path.read_text(encoding="utf-8"))
    marks = [c for c in root.iter(f"{SVG}circle") if c.find(f"{SVG}title") is not None]
    rows = json.loads(pitool("plan", "3B", "--ram", "4gb", "--json").out)["rows"]
    loading = [row for row in rows if row["verdict"] != "no"]
    assert 0 < len(loading) < 8
    assert len(marks) == 2 * len(loading)  # two groups of boards
    for mark in marks:
        assert scatter.LEFT <= float(mark.get("cx", -1)) <= scatter.WIDTH - scatter.RIGHT
        assert scatter.TOP <= float(mark.get("cy", -1)) <= scatter.HEIGHT - scatter.BOTTOM
    hollow = [m for m in marks if m.get("fill") == PAPER.light]
    assert len(hollow) == 2 * sum(row["verdict"] != "fits" for row in loading)
    lines = [e for e in root.iter(f"{SVG}polyline") if not e.get("stroke-dasharray")]
    assert len(lines) == 2
    assert any("people read 5 tokens/s" in (e.text or "") for e in root.iter(f"{SVG}text"))


def test_another_format_is_refused(pitool: Pitool, tmp_path: Path) -> None:
    result = pitool("plan", "3B", "--plot", tmp_path / "chart.png")
    assert "SVG" in result.sentence
    assert (result.code, result.out) == (2, "")
    result = pitool("plan", "3B", "--plot", tmp_path / "none" / "chart.svg", "--json")
    assert (result.code, result.out) == (1, "")
    assert "cannot write to" in result.sentence
    check_failure(pitool("plan", "5M", "--plot", tmp_path / "chart.svg"), 4)


def test_a_device_has_no_suffix_and_stays_a_device(pitool: Pitool, tmp_path: Path) -> None:
    words = ("plan", "3B", "--ram", "4gb", "--plot")
    assert "No space left" in check_failure(pitool(*words, "/dev/full"), 3)
    assert Path("/dev/full").is_char_device()
    assert "ends in .svg" in check_failure(pitool(*words, tmp_path / "chart.txt"), 2)


def test_quality_is_across_where_certificates_are_there(pitool: Pitool, bundle: Path) -> None:
    path = bundle.parent / "quality.svg"
    assert pitool("plan", bundle, "--ram", "1gb", "--plot", path).code == 0
    text = path.read_text(encoding="utf-8")
    assert "mean KL divergence from the checkpoint" in text
    assert "size of the file" not in text
    made = json.loads((bundle / "manifest.json").read_text())
    for artifact in made["artifacts"]:
        assert f"{artifact['quantisation']}: " in text
        assert f"KL {artifact['certificate']['mean_kl']:.4f}" in text


def test_nothing_to_draw_is_said(pitool: Pitool, tmp_path: Path) -> None:
    result = pitool("plan", "72B", "--ram", "1gb", "--plot", tmp_path / "chart.svg")
    assert "nothing can be loaded on 1gb" in check_failure(result, 2)
