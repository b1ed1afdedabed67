"""The service of the user: systemd itself reads its unit, a shell its settings."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pitool.catalog.tiers import MIB
from pitool.cli.commands import cli
from pitool.deploy import service, systemd
from pitool.device.detect import Machine, detect
from pitool.errors import MissingPart, PitoolError, UsageError

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd is not installed"
)
# What a path may hold, and what a unit would expand or cut.
ODD = "a b%h $HOME"
QUOTES = "\"q\" 'p' \\"


@pytest.fixture
def machine() -> Machine:
    """A Pi 4 with 1 GB, as its table has it."""
    return replace(detect(), board_id="pi4", mem_total=909 * MIB)


@pytest.fixture(params=["plain", ODD])
def launcher(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A pitool in a folder with a name that is plain, or odd; its data lie beside it."""
    path = tmp_path / str(request.param) / "pitool"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv(service.LAUNCHER, str(path))
    monkeypatch.setenv("PITOOL_HOME", str(path.parent / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(path.parent / "config"))
    return path


def verified(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Return what ``systemd-analyze verify`` says of a unit of a user with nothing else."""
    unit, run = folder / "pitool.service", folder / "run"
    unit.write_text(text)
    run.mkdir(mode=0o700, exist_ok=True)
    return subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", unit],
        env={**os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(run)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@needs_systemd
@pytest.mark.parametrize("kind", [service.SERVE, service.CLUSTER], ids=lambda kind: kind.unit)
def test_systemd_takes_the_unit(
    tmp_path: Path,
    launcher: Path,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    kind: service.Kind,
) -> None:
    text = service.unit(machine, kind)
    done = verified(text, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    unknown = text.replace("RestartSec", "RestartSeconds")
    assert "RestartSeconds" in verified(unknown, tmp_path).stderr
    # Data may lie anywhere.
    monkeypatch.setenv("PITOOL_HOME", str(tmp_path / QUOTES))
    done = verified(service.unit(machine), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    # It is the launcher that is looked for, by whatever name.
    launcher.unlink()
    assert verified(text, tmp_path).returncode != 0


def test_a_program_with_quotes_in_its_path(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(service.LAUNCHER, f"/{QUOTES}/pitool")
    with pytest.raises(UsageError, match="another folder"):
        service.unit(machine)


def test_the_memory_is_what_a_plan_may_use(machine: Machine) -> None:
    lines = service.unit(machine).splitlines()
    # 909 MiB, less 220 of the system; less a margin of 5 %.
    assert "MemoryMax=689M" in lines
    assert "MemoryHigh=643M" in lines
    # A Zero 2 W: less than the smallest table's memory is the smallest.
    assert "MemoryMax=256M" in service.unit(replace(machine, mem_total=400 * MIB)).splitlines()
    with pytest.raises(PitoolError, match="memory"):
        service.unit(replace(machine, mem_total=None))


def test_the_settings_are_what_a_shell_reads(launcher: Path) -> None:
    path = service.environment_file()
    path.parent.mkdir(parents=True)
    path.write_text("# mine\nOTHER=1\nPITOOL_SERVE=old\nPITOOL_API_KEY='first'\n")
    path.chmod(0o644)
    value = f"'{ODD}' {QUOTES} `x` --host 0.0.0.0"
    service.choose({service.ARGUMENTS: value})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("# mine\nOTHER=1\nPITOOL_API_KEY='first'\n")
    said = subprocess.run(
        ["sh", "-c", '. "$1"; printf "%s|%s" "$PITOOL_SERVE" "$PITOOL_API_KEY"', "sh", path],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said == f"{value}|first"
    assert service.chosen() == {"OTHER": "1", service.KEY: "first", service.ARGUMENTS: value}


def test_settings_that_are_no_words(launcher: Path) -> None:
    service.choose({service.ARGUMENTS: "'half"})
    with pytest.raises(UsageError, match="not valid"):
        service.arguments()


@pytest.mark.parametrize(("port", "lowest", "allowed"), [
    (80, "1024", False), (80, "80", True), (8080, "1024", True), (0, "1024", True), (80, "", True),
])  # fmt: skip
def test_a_port_of_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int, lowest: str, allowed: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    file = tmp_path / service.LOWEST_PORT
    file.parent.mkdir(parents=True)
    file.write_text(lowest)
    if allowed:
        service.check_port(port, tmp_path)
    else:
        with pytest.raises(UsageError, match="ip_unprivileged_port_start=80"):
            service.check_port(port, tmp_path)


def test_what_the_user_should_know(tmp_path: Path, machine: Machine) -> None:
    linger, memory = service.notes(machine, _root(tmp_path / "a", "cpu io pids"))
    assert "loginctl enable-linger" in linger
    assert "cgroup_enable=memory to /boot/firmware/cmdline.txt" in memory
    root = _root(tmp_path / "b", "cpu memory pids")
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    (root / service.LINGER).mkdir(parents=True)
    (root / service.LINGER / user).touch()
    assert service.notes(machine, root) == []


def _root(root: Path, controllers: str) -> Path:
    file = root / service.CONTROLLERS
    file.parent.mkdir(parents=True)
    file.write_text(controllers)
    return root


# -- the command, with a systemctl that notes what it is told ----------------------------------


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a systemctl on the PATH; return the file of its calls. It says what is in ``state``."""
    tools, calls = tmp_path / "tools", tmp_path / "calls"
    tools.mkdir()
    (tmp_path / "state").write_text("active")
    systemctl = tools / "systemctl"
    systemctl.write_text(
        f'#!/bin/sh\necho "$*" >>{calls}\n[ "$2" != show ] || cat {tmp_path}/state\n'
    )
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    monkeypatch.setattr(service, "WATCHED", 0.1)
    monkeypatch.delenv(service.KEY, raising=False)
    monkeypatch.delenv(service.LAUNCHER, raising=False)
    return calls


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["service", *words])


def test_install_and_uninstall(told: Path) -> None:
    done = run("install", "toy", "--port", "9000")
    assert done.exit_code == 0, done.output
    assert "running at http://127.0.0.1:9000" in done.stderr
    first = told.read_text().splitlines()
    assert first[:3] == [
        "--user daemon-reload", "--user enable pitool.service", "--user restart pitool.service",
    ]  # fmt: skip
    unit = systemd.unit_file()
    assert unit.read_text() == run("show").stdout
    assert service.arguments() == ["toy", "--port", "9000"]

    # Again, such as by an update: what was chosen stays.
    assert "http://127.0.0.1:9000" in run("install").stderr
    assert service.arguments() == ["toy", "--port", "9000"]

    assert "removed" in run("uninstall").stderr
    assert told.read_text().splitlines()[-2:] == [
        "--user disable --now pitool.service", "--user daemon-reload",
    ]  # fmt: skip
    assert not unit.exists()
    assert service.environment_file().exists()
    assert "no service" in run("uninstall").stderr


def test_a_board_of_a_cluster_is_a_service_beside_the_other(told: Path) -> None:
    words = ["cluster", "serve", "--host", "127.0.0.1", "--port", "6000"]
    done = CliRunner().invoke(cli, [*words, "--install"])
    assert done.exit_code == 0, done.output
    assert "pitool cluster serve is running at 127.0.0.1:6000" in done.stderr
    unit = systemd.unit_file(systemd.CLUSTER_NAME)
    assert "cluster serve $PITOOL_CLUSTER" in unit.read_text()
    assert service.chosen() == {"PITOOL_CLUSTER": "--host 127.0.0.1 --port 6000"}
    assert not systemd.unit_file().exists()
    assert f"--user restart {systemd.CLUSTER_NAME}" in told.read_text()
    assert "removed" in CliRunner().invoke(cli, ["cluster", "serve", "--uninstall"]).stderr
    assert not unit.exists()
    assert "no service" in CliRunner().invoke(cli, ["cluster", "serve", "--uninstall"]).stderr


def test_files_of_this_folder_are_named_wholly(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my bundle", "prompt.txt", "cert.pem"):
        (tmp_path / name).touch()
    words = ["./my bundle", "--prefill=prompt.txt", "--tls-cert", "cert.pem", "--quant", "Q4_0"]
    assert run("install", *words, "--tls-key", "/etc/key.pem").exit_code == 0
    assert service.arguments() == [
        f"{tmp_path}/my bundle", f"--prefill={tmp_path}/prompt.txt",
        "--tls-cert", f"{tmp_path}/cert.pem", "--quant", "Q4_0", "--tls-key", "/etc/key.pem",
    ]  # fmt: skip
    # A bundle by its name, which is no file here.
    assert run("install", "toy").exit_code == 0
    assert service.arguments() == ["toy"]


def test_the_key_comes_from_the_environment_or_is_made(
    told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "anyone on this network" in run("install", "--host", "0.0.0.0").stderr
    monkeypatch.setenv(service.KEY, "secret")
    done = run("install", "--host", "0.0.0.0")
    assert "anyone" not in done.stderr
    assert "secret" not in done.output
    assert service.chosen()[service.KEY] == "secret"
    made = run("install", "--make-key").stdout.strip()
    assert len(made) >= 32
    assert service.chosen()[service.KEY] == made
    assert stat.S_IMODE(service.environment_file().stat().st_mode) == 0o600


def test_options_that_serve_does_not_have_change_nothing(told: Path) -> None:
    for words in (["--bogus"], ["--port", "many"]):
        assert run("install", *words).exit_code != 0
    assert not told.exists()
    assert not systemd.unit_file().exists()
    assert not service.environment_file().exists()


def test_a_service_that_fails_at_once(told: Path, tmp_path: Path, machine: Machine) -> None:
    (tmp_path / "state").write_text("failed")
    with pytest.raises(PitoolError, match="journalctl --user -u pitool"):
        service.install(machine)


def test_a_systemd_that_refuses(told: Path, tmp_path: Path, machine: Machine) -> None:
    (tmp_path / "tools/systemctl").write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
    with pytest.raises(PitoolError, match="no bus"):
        service.install(machine)


def test_a_machine_without_systemd(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPart, match="no systemd"):
        service.install(machine)


def test_how_pitool_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(service.LAUNCHER, raising=False)
    script = tmp_path / "pitool"
    script.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(script), "service"])
    assert service.program() == [str(script)]
    monkeypatch.setattr(sys, "argv", ["/x/pitool/__main__.py", "service"])
    assert service.program() == [sys.executable, "-P", "-m", "pitool"]
