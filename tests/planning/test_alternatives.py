"""Ways to load, savings and storage, by hand."""

from __future__ import annotations

import pytest

from pitool.catalog.boards import boards
from pitool.catalog.profiles import find_profile
from pitool.planning.alternatives import METHODS, load_methods, savings, storages
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import Load
from pitool.planning.places import board_place
from pitool.planning.planner import Planner
from pitool.planning.shapes import typical_shape

PI5 = boards()["pi5"]
PLACE = board_place("pi5", PI5, PI5.ram[-1])
PLANNER = Planner(PlannedModel("", typical_shape(7e9)), find_profile("balanced"), Load(4096))


def test_every_soc_has_a_storage_with_a_source() -> None:
    assert {board.soc for board in boards().values()} <= set(storages())
    assert all(len(s.source) > 10 and s.sd > 0 for s in storages().values())


def test_what_is_mapped_may_be_dropped_and_repacked_copies_are_counted() -> None:
    found = {(m.row.artifact.quantisation.name, m.mode): m for m in load_methods(PLANNER, PLACE)}
    assert set(found) == set(METHODS)
    read, mapped, locked = (found["Q4_K_M", mode] for mode in ("read", "mmap", "mlock"))
    assert (read.droppable, locked.droppable) == (0, 0)
    assert mapped.droppable == mapped.row.artifact.tensor_bytes
    copies = {line.name: line.bytes for line in mapped.row.artifact.memory.lines}
    assert copies["repacked copies"] > 0.5 * mapped.row.artifact.bytes
    assert mapped.row.artifact.memory.total == locked.row.artifact.memory.total
    assert read.seconds["sd"] == pytest.approx(read.row.artifact.bytes / 85e6)
    assert set(read.seconds) == {"sd", "usb", "nvme"}


def test_savings_by_hand() -> None:
    eight, four, both = savings(PLANNER, PLACE)
    assert both.file == eight.file + four.file
    assert both.memory == eight.memory + four.memory
    assert eight.file_share == pytest.approx(1 - 8.5 / 16, abs=0.01)
