"""Boards: what a Raspberry Pi is made of and what it was measured to do.

The facts live in ``recipes/boards.toml``; this file gives them names and units.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pitool.catalog import tables
from pitool.catalog.kernels import Kernels, find_kernels
from pitool.catalog.tensor_types import repacked_types
from pitool.errors import UsageError


@dataclass(frozen=True, slots=True)
class Ram:
    """One RAM size that a board is sold with.

    ``tier`` is a key of ``tiers.toml``; ``mem_total_mib`` is what Linux reports as MemTotal, the
    smallest value seen; ``price_usd`` is the list price on ``price_date`` (YYYY-MM);
    ``available``: whether it can be bought.
    """

    tier: str
    mem_total_mib: int
    price_usd: float | None = None
    price_date: str | None = None
    available: bool = True


@dataclass(frozen=True, slots=True)
class Watts:
    """Power at the wall in watts."""

    idle: float
    load: float


@dataclass(frozen=True, slots=True)
class Sensors:
    """Where a board's sensors are; paths are below the root, commands are lists of words.

    ``temperature`` in thousandths of °C, ``clock`` in kHz; ``throttled`` prints the firmware's
    flags, ``rails`` volts and amperes of each rail, empty where the board has no power chip.
    """

    temperature: str = "sys/class/thermal/thermal_zone0/temp"
    clock: str = "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
    throttled: tuple[str, ...] = ("vcgencmd", "get_throttled")
    rails: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Supply:
    """The power supply of a board: what it promises in amperes, and what it is called."""

    amperes: float
    name: str


@dataclass(frozen=True, slots=True)
class Bootloader:
    """The first bootloader (YYYY-MM-DD) that sets the memory up well, and what decode gains."""

    since: str
    decode_gain: float


@dataclass(frozen=True, slots=True)
class Board:
    """A Raspberry Pi model.

    ``compatible``: entries of the device tree's ``compatible`` that name it;
    ``revision_types``: the type field (bits 4-11) of its revision codes;
    ``features``: of ``neon crc fp16 dotprod``; ``bandwidth_gbs``: effective memory bandwidth of a
    decode at the best thread count, in 1e9 bytes/s, ``bandwidth_all_gbs`` on every core;
    ``prefill_gflops``: rate of products with weights of cost 1 on every core, in 1e9 operations/s,
    two for each weight and token; ``kernels``: the table of ``kernels.toml`` that says what each
    type costs; ``cache_mib``: what all cores' caches hold;
    ``prefill_error``, ``decode_error``: share by which predictions were seen to miss;
    ``read_gbs``: what plain reading gives, as ``pitool tune --probe`` measures it;
    ``ethernet_mbit``: what its Ethernet carries in Mbit/s, 0 for none;
    ``throttle_c``: °C from which the firmware lowers the clock; ``fan``: the cooler that it has a
    connector for; ``supply``: the one it wants, where it can tell;
    ``sources``: where each figure is from.
    """

    name: str
    compatible: tuple[str, ...]
    revision_types: tuple[int, ...]
    soc: str
    cpu: str
    cores: int
    clock_mhz: int
    features: tuple[str, ...]
    page_kib: int
    decode_threads: int
    bandwidth_gbs: float
    bandwidth_all_gbs: float
    prefill_error: float
    decode_error: float
    prefill_gflops: float
    kernels: str
    cache_mib: float
    ram: tuple[Ram, ...]
    sources: dict[str, str]
    watts: Watts | None = None
    read_gbs: float | None = None
    ethernet_mbit: int = 0
    throttle_c: float = 80.0
    fan: str | None = None
    supply: Supply | None = None
    bootloader: Bootloader | None = None
    sensors: Sensors = Sensors()
    notes: tuple[str, ...] = field(default=())

    @property
    def repacked(self) -> frozenset[str]:
        """Names of the tensor types that ggml interleaves for this CPU."""
        return repacked_types(self.features)

    @property
    def costs(self) -> Kernels:
        """What each tensor type costs on this CPU."""
        return find_kernels(self.kernels)

    @property
    def dotprod(self) -> bool:
        """Whether the CPU has the integer dot product that ggml's fast kernels use."""
        return "dotprod" in self.features


def load_boards(path: Path | None = None) -> dict[str, Board]:
    """Return every board by its id, in the order of the file."""
    path = path or tables.recipes_folder() / "boards.toml"
    return {
        key: tables.build(Board, table, f"{path.name}: {key}")
        for key, table in tables.read_toml(path).items()
    }


@cache
def boards() -> dict[str, Board]:
    """Return the boards of the installed recipes."""
    return load_boards()


def find_board(key: str) -> Board:
    """Return the board with this id; UsageError names the nearest."""
    return tables.lookup(boards(), key, "board", UsageError)


def boards_with(tier: str) -> dict[str, Board]:
    """Return the boards that are sold with the RAM of ``tier``."""
    return {k: b for k, b in boards().items() if any(ram.tier == tier for ram in b.ram)}
