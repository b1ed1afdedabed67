"""Recordings of terminals as pictures: frames by hand, and that those in docs are of the casts."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyte")

from scripts import cast_svg
from scripts.recordings import CASTS, PICTURES, RECORDINGS

SVG = "{http://www.w3.org/2000/svg}"
HEAD: dict[str, Any] = {"version": 2, "width": 20, "height": 3, "title": "a <title>"}


def pictured(*events: tuple[float, str]) -> tuple[list[cast_svg.Frame], ElementTree.Element]:
    found = cast_svg.frames(HEAD, list(events))
    return found, ElementTree.fromstring(cast_svg.draw(HEAD, found))


def shown(frame: cast_svg.Frame) -> list[str]:
    return ["".join(text for _, _, text, _ in row).rstrip() for row in frame.rows]


def test_screens_last_as_long_as_they_were_seen_by_hand() -> None:
    found, _ = pictured((0.0, "$ "), (0.5, "ls"), (1.5, "\r\na  b"), (1.52, "  c"), (60.0, "\r\n$"))
    assert [shown(frame) for frame in found] == [
        ["$", "", ""], ["$ ls", "", ""], ["$ ls", "a  b  c", ""], ["$ ls", "a  b  c", "$"],
    ]  # fmt: skip
    assert [frame.seconds for frame in found] == pytest.approx(
        [0.5, 1.0, 0.02 + cast_svg.LONGEST, cast_svg.LAST]
    )


def test_the_strip_moves_by_whole_screens_and_rests_on_the_last() -> None:
    _, drawing = pictured((0.0, "one"), (1.0, "\r\ntwo"), (2.0, "\r\nthree"))
    style = "".join(drawing.itertext())
    height = 3 * cast_svg.LINE
    steps = re.findall(r"([\d.]+)%{transform:translateY\((-?\d+)px\)}", style)
    assert [int(pixels) for _, pixels in steps] == [0, -height, -2 * height]
    assert [float(share) for share, _ in steps] == pytest.approx([0, 100 / 6, 200 / 6], abs=0.01)
    assert "prefers-reduced-motion" in style
    strip = next(e for e in drawing.iter(f"{SVG}g") if e.get("id") == "s")
    assert strip.get("transform") == f"translate(0 {-2 * height})"


def test_equal_lines_are_stored_once() -> None:
    _, drawing = pictured((0.0, "same\r\n"), (1.0, "same\r\n"), (2.0, "x"))
    stored = [e for e in drawing.iter(f"{SVG}g") if (e.get("id") or "").startswith("l")]
    uses = list(drawing.iter(f"{SVG}use"))
    texts = ["".join(e.itertext()) for e in stored]
    assert texts.count("same") == 1
    assert len(uses) > len(stored)
    assert {use.get("href") for use in uses} == {f"#{e.get('id')}" for e in stored}


def test_colours_and_styles_of_a_terminal() -> None:
    ((row, *_),) = (
        frame.rows
        for frame in pictured((0.0, "\x1b[?25l\x1b[1;31mred\x1b[0m \x1b[48;2;1;2;3mon"))[0]
    )
    first, second = row
    assert first[:3] == (0, 3, "red")
    assert first[3] == (cast_svg.PALETTE["red"], "", True, False, False)
    assert (second[0], second[3][1]) == (4, "010203")


def test_what_a_terminal_says_cannot_become_markup() -> None:
    _, drawing = pictured((0.0, "<script>x</script>"))
    assert drawing.find(f".//{SVG}script") is None
    assert drawing.get("aria-label") == "a <title>"
    assert "<script>x</script>" in "".join(drawing.itertext())


@pytest.mark.thorough
@pytest.mark.parametrize("name", RECORDINGS)
def test_the_pictures_are_those_of_the_recordings(name: str) -> None:
    picture = (PICTURES / f"demo-{name}.svg").read_text(encoding="utf-8")
    assert cast_svg.to_svg(CASTS / f"{name}.cast") == picture
    assert len(picture) < 400_000
    ElementTree.fromstring(picture)


@pytest.mark.parametrize("path", sorted(CASTS.glob("*.cast")), ids=lambda path: path.stem)
def test_no_recording_names_this_machine(path: Path) -> None:
    head, *events = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert head["version"] == 2
    text = "".join(event[2] for event in events)
    assert str(Path(__file__).parents[1]) not in text
    assert not re.findall(r"/(?:root|home|work)/\w+", text)
