"""Memory of processes and machine, from recorded trees and from this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pitool.device import memory

FIXTURES = Path(__file__).parent / "fixtures"
KIB = 1024
MIB = 1024 * KIB
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


def test_a_process_is_read_from_its_status() -> None:
    root = FIXTURES / "pi4"
    assert memory.rss(4242, root) == 790112 * KIB
    assert memory.peak_rss(4242, root) == 812344 * KIB
    assert memory.anonymous(4242, root) == 120448 * KIB


def test_a_process_that_is_gone_is_unknown() -> None:
    root = FIXTURES / "pi4"
    assert memory.rss(4243, root) is None
    assert memory.peak_rss(4243, root) is None
    assert memory.anonymous(4243, root) is None


def test_the_machine_is_read_from_meminfo() -> None:
    root = FIXTURES / "pi4"
    assert memory.total(root) == 3884360 * KIB
    assert memory.available(root) == 3512988 * KIB
    assert memory.swap_total(root) == 2097148 * KIB


def test_without_proc_everything_is_unknown(tmp_path: Path) -> None:
    assert memory.total(tmp_path) is None
    assert memory.available(tmp_path) is None
    assert memory.swap_total(tmp_path) is None


def test_figures_that_are_no_sizes_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: many kB\nMemAvailable: 7\nSwapTotal 9 kB\n")
    assert memory.total(tmp_path) is None
    assert memory.available(tmp_path) is None
    assert memory.swap_total(tmp_path) is None


def cgroups(root: Path, own: str, **limits: dict[str, str]) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"9:name=systemd:/old\n0::{own}\n")
    (root / "proc/meminfo").write_text(f"MemAvailable: {1024 * KIB} kB\n")
    for folder, files in limits.items():
        path = root / "sys/fs/cgroup" / folder.replace("__", "/")
        path.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (path / name.replace("_", ".")).write_text(text)


def test_a_cgroup_lowers_what_is_available(tmp_path: Path) -> None:
    cgroups(tmp_path, "/box", box={"memory_max": f"{300 * MIB}\n"})
    assert memory.available(tmp_path) == 300 * MIB


def test_a_cgroup_above_counts_as_well(tmp_path: Path) -> None:
    cgroups(
        tmp_path,
        "/box/inner",
        box={"memory_max": f"{200 * MIB}\n"},
        box__inner={"memory_max": f"{300 * MIB}\n"},
    )
    assert memory.available(tmp_path) == 200 * MIB


def test_what_the_cgroup_uses_is_gone_but_not_its_page_cache(tmp_path: Path) -> None:
    cgroups(
        tmp_path,
        "/box",
        box={
            "memory_max": f"{500 * MIB}\n",
            "memory_current": f"{300 * MIB}\n",
            "memory_stat": f"anon {200 * MIB}\nactive_file {30 * MIB}\ninactive_file {70 * MIB}\n",
        },
    )
    assert memory.available(tmp_path) == 300 * MIB


def test_a_full_cgroup_leaves_nothing(tmp_path: Path) -> None:
    cgroups(
        tmp_path,
        "/box",
        box={"memory_max": f"{100 * MIB}\n", "memory_current": f"{120 * MIB}\n"},
    )
    assert memory.available(tmp_path) == 0


@pytest.mark.parametrize("limit", ["max\n", f"{64 * 1024 * MIB}\n", "", "nonsense"])
def test_a_cgroup_without_a_tighter_limit_changes_nothing(limit: str, tmp_path: Path) -> None:
    cgroups(tmp_path, "/box", box={"memory_max": limit})
    assert memory.available(tmp_path) == 1024 * MIB


def test_a_container_sees_its_own_limit_at_the_top(tmp_path: Path) -> None:
    cgroups(tmp_path, "/", **{".": {"memory_max": f"{256 * MIB}\n"}})
    assert memory.available(tmp_path) == 256 * MIB


def test_a_cgroup_path_never_leaves_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    cgroups(root, "/../../../../outside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/memory.max").write_text("1\n")
    assert memory.available(root) == 1024 * MIB


@linux
def test_this_process_holds_memory() -> None:
    now, peak, anonymous = (
        read(os.getpid()) for read in (memory.rss, memory.peak_rss, memory.anonymous)
    )
    assert now
    assert peak
    assert anonymous
    assert anonymous < now


@linux
def test_this_machine_has_memory() -> None:
    total, available = memory.total(), memory.available()
    assert total
    assert available is not None
    assert available < total
