"""This machine as a place: recorded boards, the probe, and what benches taught."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pitool.catalog.manifest import Artifact, FileEntry, Speed
from pitool.catalog.profiles import find_profile
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.device import detect as detect_module
from pitool.device import probe, residuals
from pitool.device.detect import Machine, detect
from pitool.device.forecast import Judge
from pitool.device.here import this_machine
from pitool.device.probe import Probe
from pitool.device.residuals import Residual
from pitool.errors import PitoolError
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import Load
from pitool.planning.planner import Planner
from pitool.planning.shapes import typical_shape
from pitool.planning.speed import Correction

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def pi5() -> Machine:
    return detect(FIXTURES / "pi5")


def notes(machine: Machine, root: Path = FIXTURES / "pi5") -> str:
    return "\n".join(this_machine(machine, root).notes)


def test_the_room_is_what_is_available_now(pi5: Machine) -> None:
    found = this_machine(pi5, FIXTURES / "pi5")
    assert found.place.room == pi5.mem_available
    assert found.place.margin == int((pi5.mem_total or 0) * 0.05)
    assert list(found.place.boards) == [pi5.board_id]
    assert "Q4_0" in found.place.repacked


def test_less_than_the_table_is_said(pi5: Machine) -> None:
    assert "less memory is available" in notes(replace(pi5, mem_available=500 * 2**20))
    roomy = notes(replace(pi5, mem_available=pi5.mem_total))
    assert "less memory is available" not in roomy
    bare = tuple(f for f in pi5.features if f != "dotprod")
    without = this_machine(replace(pi5, features=bare), FIXTURES / "pi5")
    assert any("the CPU does not report dotprod" in note for note in without.notes)
    assert "Q4_0" not in without.place.repacked
    assert "usually has pages of 16 KiB" in notes(replace(pi5, page_kib=4))


ZRAM, FILE = "/dev/zram0 partition 2097136 0 100\n", "/var/swap file 2097136 0 -2\n"


@pytest.mark.parametrize(
    ("swaps", "kind"),
    [
        (ZRAM, "GB, compressed RAM (zram), not"),
        (FILE, "GB, on disk, not"),
        (ZRAM + FILE, "GB, compressed RAM (zram) and disk, not"),
        (None, "GB, not"),
    ],
)
def test_swap_of_a_board(tmp_path: Path, swaps: str | None, kind: str) -> None:
    root = shutil.copytree(FIXTURES / "pi5", tmp_path / "root")
    if swaps:
        (root / "proc" / "swaps").write_text(f"Filename Type Size Used Priority\n{swaps}")
    found = this_machine(detect(root), root)
    assert f"swap: 2.15 {kind} counted" in "\n".join(found.notes)
    assert found.place.room == 7871744 * 1024


def test_a_limit_on_a_board_is_the_room(tmp_path: Path) -> None:
    """2 GiB less 512 MiB in use, of which 300 MB are files' pages, which give way."""
    root = shutil.copytree(FIXTURES / "pi5", tmp_path / "root")
    (root / "proc" / "self" / "cgroup").write_text("0::/system.slice/chat.service\n")
    group = root / "sys/fs/cgroup/system.slice/chat.service"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{2 << 30}\n")
    (group / "memory.current").write_text(f"{512 << 20}\n")
    (group / "memory.stat").write_text("active_file 100000000\ninactive_file 200000000\n")
    found = this_machine(detect(root), root)
    assert found.place.room == (2 << 30) - (512 << 20) + 300_000_000
    said = "\n".join(found.notes)
    assert "a cgroup limits memory" in said
    assert "less memory is available than after a fresh boot: raise the limit" in said


def test_pages_features_and_memory_of_a_board(tmp_path: Path) -> None:
    root = shutil.copytree(FIXTURES / "pi5", tmp_path / "root")
    for name, old, new in (
        ("self/smaps", "16 kB", "4 kB"),
        ("cpuinfo", " asimddp", ""),
        ("meminfo", "7871744", "3000000"),
    ):
        path = root / "proc" / name
        path.write_text(path.read_text().replace(old, new))
    said = "\n".join(this_machine(detect(root), root).notes)
    for part in ("pages of 4 KiB", "does not report dotprod", "fresh boot: close other programs"):
        assert part in said


def test_swap_is_named_and_not_counted(pi5: Machine, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "swaps").write_text("Filename Type\n/dev/zram0 partition 2097136 0 100\n")
    swapping = replace(pi5, swap_total=2 * 2**30)
    assert "compressed RAM (zram), not counted" in notes(swapping, tmp_path)
    assert this_machine(swapping, tmp_path).place.room == pi5.mem_available


def test_a_cgroup_limit_is_named() -> None:
    root = FIXTURES / "x86_laptop"
    assert "a cgroup limits memory" in notes(detect(root), root)


def test_a_machine_that_says_nothing(pi5: Machine) -> None:
    with pytest.raises(PitoolError, match="cannot be detected"):
        this_machine(replace(pi5, mem_available=None))


# -- the probe -----------------------------------------------------------------------------


def test_a_probe_is_measured_kept_and_found(pi5: Machine, private_home: Path) -> None:
    small = replace(pi5, mem_available=64 * 2**20, physical_cores=2)
    found = probe.measure(small, seconds=0.02)
    assert found.passes >= 1
    assert found.read_gbs > 0
    assert found.buffer_bytes == 8 * 2**20
    assert probe.keep(found).is_relative_to(private_home)
    assert probe.find(small) == found
    assert probe.find(replace(small, cores=1)) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"read_gbs": "x"}', "\0"])
def test_a_broken_probe_is_none(pi5: Machine, tmp_path: Path, text: str) -> None:
    (tmp_path / "probe.json").write_text(text)
    assert probe.find(pi5, tmp_path / "probe.json") is None


def test_a_slow_memory_lowers_the_prediction_and_a_fast_one_does_not(
    pi5: Machine, private_home: Path
) -> None:
    for rate, factor in ((7.0, 0.5), (20.0, 1.0)):
        probe.keep(Probe(probe.key(pi5), rate, 3, 1, "2026-11-01"))
        assert this_machine(pi5, FIXTURES / "pi5").corrections["gguf"] == Correction(1.0, factor)
        assert ("slower than usual" in notes(pi5)) == (rate < 14)


# -- residuals -----------------------------------------------------------------------------


def test_predictions_learn_from_benches(pi5: Machine, private_home: Path) -> None:
    machine = probe.key(pi5)
    for model, measured in (("a", 8.0), ("b", 12.0), ("b", 9.0)):
        residuals.keep(Residual(machine, model, "decode", 10.0, measured, "2026-11-01"))
    residuals.keep(Residual("another/4", "a", "decode", 10.0, 1.0, "2026-11-01"))
    assert [r.measured for r in residuals.read() if r.machine == machine] == [8.0, 9.0]
    assert residuals.factors(machine) == {"decode": pytest.approx(0.85)}
    found = this_machine(pi5, FIXTURES / "pi5")
    planner = Planner(PlannedModel("", typical_shape(1e9)), find_profile("balanced"), Load(512))
    kind = QUANTISATIONS["Q4_0"]
    plain = planner.row(kind, found.place).artifact.estimates[0]
    learnt = replace(planner, corrections=found.corrections).row(kind, found.place)
    assert learnt.artifact.estimates[0].decode == pytest.approx(0.85 * plain.decode)
    assert learnt.artifact.estimates[0].prefill == pytest.approx(plain.prefill)


def test_a_probe_counts_until_a_decode_was_measured(pi5: Machine, private_home: Path) -> None:
    """A memory at half the usual rate halves decodes; a bench knows better, and of one engine."""
    machine = probe.key(pi5)
    probe.keep(Probe(machine, 7.0, 3, 1, "2026-11-01"))
    residuals.keep(Residual(machine, "a", "prefill", 100.0, 90.0, "2026-11-01"))
    assert this_machine(pi5, FIXTURES / "pi5").corrections["gguf"] == Correction(0.9, 0.5)
    residuals.keep(Residual(machine, "a", "decode", 10.0, 9.0, "2026-11-01"))
    residuals.keep(Residual(machine, "a INT4", "decode", 10.0, 7.0, "2026-11-01", "onnx"))
    found = this_machine(pi5, FIXTURES / "pi5")
    assert found.corrections == {"gguf": Correction(0.9, 0.9), "onnx": Correction(1.0, 0.7)}
    assert "onnxruntime measured 0.70 x the predicted decode" in "\n".join(found.notes)


def test_the_chat_s_list_predicts_as_the_plan_does(
    pi5: Machine, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    residuals.keep(Residual(probe.key(pi5), "a", "decode", 10.0, 8.0, "2026-11-01"))
    monkeypatch.setattr(detect_module, "detect", lambda _root: pi5)
    judge = Judge(FIXTURES / "pi5")
    assert pi5.board_id
    for form, rate in (("gguf", 4.0), ("onnx", 5.0)):
        speed = (Speed(pi5.board_id, 50.0, 5.0),)
        artifact = Artifact(
            form, "Q4_0", (FileEntry("a", 1, "0" * 64),), "llama", 1, 512, 4.5, (), speed
        )
        predicted = judge(artifact).speed
        assert predicted
        assert predicted.decode == pytest.approx(rate)


def test_only_the_last_residuals_are_kept(private_home: Path) -> None:
    for i in range(residuals.KEPT + 5):
        residuals.keep(Residual("m", str(i), "prefill", 1.0, 2.0, "2026-11-01"))
    assert residuals.read()[0].model == "5"
    assert len(residuals.read()) == residuals.KEPT


@pytest.mark.parametrize("data", [[{}], {}, 3, [{"machine": "m"}], "x"])
def test_broken_residuals_are_none(tmp_path: Path, data: object) -> None:
    path = tmp_path / "residuals.json"
    path.write_text(json.dumps(data))
    assert residuals.read(path) == []
    assert residuals.factors("m", path=path) == {}
