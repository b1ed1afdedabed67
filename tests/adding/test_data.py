"""Rows of recipes/: each is all that a board, a card, a profile, a size or a recipe takes."""

from __future__ import annotations

import re

from pitool.catalog.tables import recipes_folder
from tests.adding.conftest import Extended


def table(name: str, key: str) -> str:
    """Return a table of a data file, with its tables of tables, as it is written."""
    text = (recipes_folder() / name).read_text(encoding="utf-8")
    found = re.search(
        rf"^\[{re.escape(key)}\]\n.*?(?=^\[(?!{re.escape(key)}\.)|\Z)", text, re.M | re.S
    )
    assert found
    return found[0]


def renamed(text: str, key: str, new: str, **values: str) -> str:
    """Return a table under another name, with other values."""
    text = text.replace(f"[{key}]", f"[{new}]").replace(f"[{key}.", f"[{new}.")
    for name, value in values.items():
        text, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, count=1, flags=re.M)
        assert count == 1, name
    return text


def test_a_board(extended: Extended) -> None:
    extended.data(
        "boards.toml",
        renamed(
            table("boards.toml", "pi5"), "pi5", "pi6",
            name='"Raspberry Pi 6 Model B"',
            compatible='["raspberrypi,6-model-b"]',
            revision_types="[0x77]",
        ),
    )  # fmt: skip
    rows = extended.json("plan", "1B", "--board", "pi6")["rows"]
    assert {row["place"] for row in rows} >= {"pi6-4gb", "pi6-8gb", "pi6-16gb"}
    assert all(row["speed"]["pi6"]["decode"] > 0 for row in rows)
    assert "pi6-8gb" in extended.run("plan", "1B", "--buy")
    assert "pi6" in extended.run("plan", "1B", "--board", "pi7", code=2)


def test_a_rented_gpu(extended: Extended) -> None:
    row = renamed(table("rented.toml", "ADA_24_PRO"), "ADA_24_PRO", "TEST_48", vram_gb="48")
    extended.data("rented.toml", row)
    assert "TEST_48" in extended.run("plan", "14B", "--rent")


def test_a_profile(extended: Extended) -> None:
    row = renamed(table("profiles.toml", "balanced"), "balanced", "patient", context="3333")
    extended.data("profiles.toml", row)
    plan = extended.run("plan", "1B", "--ram", "8gb", "--profile", "patient", "--details")
    assert "3333" in plan.replace(",", "").replace(" ", "")


def test_a_storage(extended: Extended) -> None:
    row = renamed(table("storage.toml", "BCM2712"), "BCM2712", "BCM9999", sd="1.0")
    extended.data("storage.toml", row)
    extended.data(
        "boards.toml",
        renamed(
            table("boards.toml", "pi5"), "pi5", "pi6", soc='"BCM9999"',
            compatible='["raspberrypi,6-model-b"]', revision_types="[0x77]",
        ),
    )  # fmt: skip
    fast = extended.run("plan", "1B", "--board", "pi5", "--ram", "8gb")
    slow = extended.run("plan", "1B", "--board", "pi6", "--ram", "8gb")
    assert fast != slow


def test_a_size(extended: Extended) -> None:
    row = renamed(table("sizes.toml", '"135m"'), '"135m"', '"136m"', model='"A model of 136M"')
    extended.data("sizes.toml", row)
    assert "A model of 136M" in extended.run("plan", "136M")


def test_a_recipe(extended: Extended) -> None:
    text = (recipes_folder() / "models" / "smollm2-135m.toml").read_text(encoding="utf-8")
    text = text.replace('default_for = ["512mb"]', "default_for = []")
    extended.data("models/test-model.toml", text.replace("The smallest", "A test's smallest"))
    assert "test-model" in extended.run("plan", "test-modell", code=4)
    assert "test-model" in extended.run("models", "--board", "pi5", "--ram", "2gb")


def test_something_for_the_lane(extended: Extended) -> None:
    row = renamed(table("accelerators.toml", "used_gpu"), "used_gpu", "test_card")
    extended.data("accelerators.toml", row.replace("a used RTX 3060", "a used TEST 9000"))
    assert "a used TEST 9000 (12 GB): faster than" in extended.run("plan", "3B", "--buy")


def test_what_is_assumed_of_onnxruntime(extended: Extended) -> None:
    before = extended.run("plan", "1B", "--board", "pi5", "--ram", "8gb", "--format", "onnx")
    extended.data("onnxruntime.toml", "")
    path = extended.folder / "recipes" / "onnxruntime.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("decode_error = 0.5", "decode_error = 0.1", 1), encoding="utf-8")
    after = extended.run("plan", "1B", "--board", "pi5", "--ram", "8gb", "--format", "onnx")
    assert before != after
