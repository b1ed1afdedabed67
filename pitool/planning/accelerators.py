"""What is put on a board's PCIe lane to run a model: published speeds, beside those of the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pitool.catalog import tables
from pitool.catalog.boards import Ram, find_board
from pitool.catalog.model_argument import parse_size
from pitool.planning.formats import GGUF
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import Load
from pitool.planning.offers import FOUR
from pitool.planning.places import board_place
from pitool.planning.shapes import sizes
from pitool.planning.speed import NONE

# The board that has the lane, with as much memory as any model of the table needs.
BOARD = "pi5"
# The context of the figures that were published.
CONTEXT = 2048


@dataclass(frozen=True, slots=True)
class Published:
    """A published decode in tokens/s; ``size``: the row of ``sizes.toml`` to compare with."""

    model: str
    size: str
    decode: float


@dataclass(frozen=True, slots=True)
class Accelerator:
    """``price_usd`` on ``price_date`` (YYYY-MM), None where unknown; ``source``: of the speeds.

    ``watts``: of the whole system under load; ``watts_saved``: what it takes less than the CPU.
    ``takes_lane``: an SSD has no place beside it.
    """

    name: str
    speeds: tuple[Published, ...]
    source: str
    price_usd: float | None = None
    price_date: str | None = None
    watts: float | None = None
    watts_saved: float | None = None
    takes_lane: bool = True

    def faster(self, cpu: Mapping[str, float]) -> bool:
        """Tell whether it was published to be clearly faster than the CPU is predicted.

        ``cpu``: by size; a difference within the error of predictions is none.
        """
        margin = 1 + find_board(BOARD).decode_error
        return any(each.decode > cpu[each.size] * margin for each in self.speeds)

    def to_json(self, cpu: Mapping[str, float]) -> dict[str, Any]:
        """Return every number; ``cpu``: the predicted decode of the board's own by size."""
        return {
            "name": self.name,
            "price_usd": self.price_usd,
            "price_date": self.price_date,
            "watts": self.watts,
            "watts_saved": self.watts_saved,
            "faster_than_cpu": self.faster(cpu),
            "speeds": [
                {"model": s.model, "decode": s.decode, "cpu_decode": cpu[s.size]}
                for s in self.speeds
            ],
            "source": self.source,
        }


def load_accelerators(path: Path | None = None) -> dict[str, Accelerator]:
    """Return every accelerator by its name, in the order of the file."""
    path = path or tables.recipes_folder() / "accelerators.toml"
    return {
        key: tables.build(Accelerator, table, f"{path.name}: {key}")
        for key, table in tables.read_toml(path).items()
    }


@cache
def accelerators() -> dict[str, Accelerator]:
    """Return the accelerators of the installed recipes."""
    return load_accelerators()


def cpu_decodes() -> dict[str, float]:
    """Return the predicted decode of the board's CPU at 4 bits, for each size that is compared."""
    board = find_board(BOARD)
    ram: Ram = max(board.ram, key=lambda each: each.mem_total_mib)
    place = board_place(BOARD, board, ram)
    asked = {each.size for found in accelerators().values() for each in found.speeds}
    made = {}
    for size in asked:
        model = PlannedModel(size, sizes()[parse_size(size) or 0].shape)
        plan = GGUF.artifact(model, GGUF.find(FOUR), place, Load(CONTEXT), NONE)
        made[size] = plan.estimates[0].decode
    return made
