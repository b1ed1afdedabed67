"""Detection on recorded trees of /proc and /sys, and on this machine."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pitool.catalog.boards import boards
from pitool.device.detect import Machine, bootloader_date, detect

FIXTURES = Path(__file__).parent / "fixtures"
KIB = 1024
BITS = struct.calcsize("P") * 8
A53 = ("neon", "crc")
A76 = ("neon", "crc", "fp16", "dotprod")


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        pytest.param(
            "pi3",
            Machine(
                board_id="pi3bplus",
                board_name="Raspberry Pi 3 Model B Plus Rev 1.3",
                arch="aarch64",
                cores=4,
                physical_cores=4,
                features=A53,
                page_kib=4,
                userland_bits=BITS,
                mem_total=931440 * KIB,
                mem_available=660336 * KIB,
                swap_total=102396 * KIB,
            ),
            id="pi3: the tree only below /sys/firmware",
        ),
        pytest.param(
            "pi4",
            Machine(
                board_id="pi4b",
                board_name="Raspberry Pi 4 Model B Rev 1.4",
                arch="aarch64",
                cores=4,
                physical_cores=4,
                features=A53,
                page_kib=4,
                userland_bits=BITS,
                mem_total=3884360 * KIB,
                mem_available=3512988 * KIB,
                swap_total=2097148 * KIB,
            ),
            id="pi4",
        ),
        pytest.param(
            "pi5",
            Machine(
                board_id="pi5",
                board_name="Raspberry Pi 5 Model B Rev 1.0",
                arch="aarch64",
                cores=4,
                physical_cores=4,
                features=A76,
                page_kib=16,
                userland_bits=BITS,
                mem_total=8245024 * KIB,
                mem_available=7871744 * KIB,
                swap_total=2097136 * KIB,
            ),
            id="pi5: 16 KiB pages",
        ),
        pytest.param(
            "zero2w",
            Machine(
                board_id="zero2w",
                board_name="Raspberry Pi Zero 2 W",
                arch="aarch64",
                cores=4,
                physical_cores=4,
                features=A53,
                page_kib=None,
                userland_bits=BITS,
                mem_total=426060 * KIB,
                mem_available=278528 * KIB,
                swap_total=425980 * KIB,
            ),
            id="zero2w: the revision code alone",
        ),
        pytest.param(
            "x86_laptop",
            Machine(
                board_id=None,
                board_name="generic x86_64",
                arch="x86_64",
                cores=8,
                physical_cores=4,
                features=("avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni"),
                page_kib=4,
                userland_bits=BITS,
                mem_total=16307216 * KIB,
                mem_available=(4096 - 1500 + 500) * KIB * KIB,
                swap_total=4194300 * KIB,
            ),
            id="x86 laptop: hyperthreads, and a cgroup with less than the machine",
        ),
        pytest.param(
            "unknown_arm",
            Machine(
                board_id=None,
                board_name="Example SBC One",
                arch="aarch64",
                cores=8,
                physical_cores=8,
                features=(*A76, "i8mm"),
                page_kib=None,
                userland_bits=BITS,
                mem_total=None,
                mem_available=None,
                swap_total=None,
            ),
            id="unknown ARM board: generic, no memory known",
        ),
    ],
)
def test_recorded_machines(tree: str, expected: Machine) -> None:
    assert detect(FIXTURES / tree) == expected


@pytest.mark.parametrize("tree", ["pi3", "pi4", "pi5", "zero2w"])
def test_what_a_board_shows_is_what_the_recipes_say(tree: str) -> None:
    machine = detect(FIXTURES / tree)
    assert machine.board_id is not None
    board = boards()[machine.board_id]
    assert machine.features == board.features
    assert machine.cores == board.cores
    assert machine.page_kib in {board.page_kib, None}


def write(root: Path, path: str, data: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)


REVISIONS = [
    ("a02082", "pi3b"),
    ("a020d3", "pi3bplus"),
    ("9020e0", "pi3aplus"),
    ("902120", "zero2w"),
    ("a03111", "pi4b"),
    ("d03114", "pi4b"),
    ("c03130", "pi400"),
    ("b03140", "cm4"),
    ("c04170", "pi5"),
    ("e04171", "pi5"),
    ("d04190", "pi500"),
    ("e04190", "pi500plus"),
    ("d04180", "cm5"),
    ("c041a0", "cm5"),
    ("900093", None),  # a Zero: 32 bits only
    ("000e", None),  # old style: its digits mean something else
    ("1000000", None),
    ("not hexadecimal", None),
]


@pytest.mark.parametrize(("revision", "board"), REVISIONS)
def test_revision_codes(revision: str, board: str | None, tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", f"processor\t: 0\n\nRevision\t: {revision}\n".encode())
    assert detect(tmp_path).board_id == board


def test_every_board_has_a_published_revision_code_above() -> None:
    assert {board for _, board in REVISIONS} == {*boards(), None}


@pytest.mark.parametrize("board", list(boards()))
def test_every_board_is_known_by_its_compatible_and_its_ram(board: str, tmp_path: Path) -> None:
    facts = boards()[board]
    compatible = f"{facts.compatible[0]}\0brcm,soc\0"
    write(tmp_path, "proc/device-tree/compatible", compatible.encode())
    for ram in facts.ram:
        write(tmp_path, "proc/meminfo", f"MemTotal: {ram.mem_total_mib * 1024} kB\n".encode())
        assert detect(tmp_path).board_id == board


@pytest.mark.parametrize("board", list(boards()))
def test_every_board_is_known_by_its_model(board: str, tmp_path: Path) -> None:
    write(tmp_path, "proc/device-tree/model", f"{boards()[board].name} Rev 1.0\0".encode())
    machine = detect(tmp_path)
    assert machine.board_id == board
    assert machine.board_name == f"{boards()[board].name} Rev 1.0"


@pytest.mark.parametrize(
    "model",
    ["Raspberry Pi Compute Module 4S Rev 1.0", "Raspberry Pi 50", "Raspberry Pi", "pitool box"],
)
def test_a_model_that_only_looks_like_a_board_is_generic(model: str, tmp_path: Path) -> None:
    write(tmp_path, "proc/device-tree/model", f"{model}\0".encode())
    machine = detect(tmp_path)
    assert machine.board_id is None
    assert machine.board_name == model


def test_compatible_counts_more_than_model_and_revision(tmp_path: Path) -> None:
    write(tmp_path, "proc/device-tree/compatible", b"raspberrypi,5-model-b\0brcm,bcm2712\0")
    write(tmp_path, "proc/device-tree/model", b"Raspberry Pi 4 Model B Rev 1.4\0")
    write(tmp_path, "proc/cpuinfo", b"processor\t: 0\n\nRevision\t: a020d3\n")
    assert detect(tmp_path).board_id == "pi5"


def test_model_counts_more_than_the_revision(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", b"Revision : c03114\nModel : Raspberry Pi 5 Model B Rev 1.0\n")
    assert detect(tmp_path).board_id == "pi5"


def test_an_empty_tree_is_one_unknown_core(tmp_path: Path) -> None:
    assert detect(tmp_path) == Machine(
        None, "generic unknown", "unknown", 1, 1, (), None, BITS, None, None, None
    )


@pytest.mark.parametrize(
    ("cpuinfo", "arch"),
    [
        ("processor : 0\nFeatures : half thumb fastmult vfp neon vfpv4 crc32\n", "armv7l"),
        ("processor : 0\nFeatures : fp asimd\n", "aarch64"),
        ("processor : 0\nflags : fpu lm\n", "x86_64"),
        ("processor : 0\nflags : fpu\n", "i686"),
    ],
)
def test_arch_from_the_cpu_flags(cpuinfo: str, arch: str, tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", cpuinfo.encode())
    assert detect(tmp_path).arch == arch


def test_siblings_in_sys_tell_hyperthreads_where_cpuinfo_does_not(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", b"".join(b"processor : %d\n\n" % cpu for cpu in range(4)))
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        path = f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        write(tmp_path, path, siblings.encode())
    machine = detect(tmp_path)
    assert (machine.cores, machine.physical_cores) == (4, 2)


def test_this_machine_is_described() -> None:
    machine = detect()
    assert 1 <= machine.physical_cores <= machine.cores
    assert machine.userland_bits == BITS
    assert machine.page_kib in {4, 16, 64}
    assert machine.board_name
    assert machine.arch


def test_the_bootloader_s_date_is_its_big_endian_timestamp(tmp_path: Path) -> None:
    assert bootloader_date(tmp_path) is None
    path = tmp_path / "proc/device-tree/chosen/bootloader/build-timestamp"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes.fromhex("65a6b3c0"))
    assert bootloader_date(tmp_path) == "2024-01-16"
    path.write_bytes(b"?")
    assert bootloader_date(tmp_path) is None
