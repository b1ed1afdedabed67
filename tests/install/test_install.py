"""install.sh on fake machines: its questions, its refusals, what an interruption leaves."""

from __future__ import annotations

import os
import platform
import pty
import re
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = sorted(REPOSITORY.glob("scripts/*.sh"))
MACHINE = platform.machine()
WHEEL = f"llama_cpp_python-0.0.9-py3-none-linux_{MACHINE}.whl"
TOOLS = (
    "awk basename bash cat cksum cp cut df dirname env getconf grep head id ln ls mkdir mv "
    "readlink rm sed sleep sort sync tail touch tr uname wc"
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fake machine is a Linux")


def hear_interrupts() -> None:
    """Undo that a test run in the background ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Machine:
    """A home, a checkout, a PATH, a /proc and a Python, all under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.tools = root / "bin"
        self.sysroot = root / "sys root"
        self.log = root / "calls.log"
        for folder in (self.home, self.tools, self.sysroot / "proc"):
            folder.mkdir(parents=True)
        for tool in TOOLS.split():
            (self.tools / tool).symlink_to(shutil.which(tool) or f"/missing/{tool}")
        for tool in ("cc", "c++", "apt-get"):
            self.tool(tool, "cat >/dev/null")
        shutil.copy(Path(__file__).with_name("fake_python.sh"), self.tools / "python3.12")
        self.memory(8000)
        self.cpu("avx2 f16c")
        self.project = self.checkout("a project")
        self.env = {
            "PATH": str(self.tools),
            "HOME": str(self.home),
            "PITOOL_SYSROOT": str(self.sysroot),
            "REAL_PYTHON": sys.executable,
            "FAKE_LOG": str(self.log),
        }

    def checkout(self, name: str) -> Path:
        """Return a fresh copy of what install.sh needs of the repository."""
        project = self.root / name
        shutil.copytree(REPOSITORY / "scripts", project / "scripts")
        shutil.copy(REPOSITORY / "install.sh", project)
        (project / "pyproject.toml").write_text('dependencies = ["llama-cpp-python==0.0.9"]\n')
        return project

    def tool(self, name: str, body: str) -> None:
        """Put a small script on the PATH, or over what is there."""
        path = self.tools / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def memory(self, megabytes: int) -> None:
        """Set what /proc/meminfo calls available; there is no swap."""
        text = f"MemAvailable: {megabytes * 1024} kB\nSwapFree: 0 kB\n"
        (self.sysroot / "proc/meminfo").write_text(text)

    def cpu(self, flags: str) -> None:
        """Set the CPU's features."""
        (self.sysroot / "proc/cpuinfo").write_text(f"flags : {flags}\n" * 2)

    def wheel(self, name: str = WHEEL) -> Path:
        """Make a wheel of that name and return its path."""
        path = self.root / "given" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        return path

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Start install.sh in the project."""
        return subprocess.Popen(
            [self.project / "install.sh", *arguments],
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_interrupts,
        )

    def run(self, *arguments: str, **env: str) -> tuple[int, str, str]:
        """Run install.sh to its end: exit code, stdout, stderr."""
        with self.start(*arguments, **env) as process:
            out, err = process.communicate(timeout=120)
            return process.returncode, out, err

    def works(self, *arguments: str, **env: str) -> str:
        """Run install.sh, hold that all went well, return stdout."""
        code, out, err = self.run(*arguments, **env)
        assert (code, err) == (0, "")
        return out

    def refuses(self, code: int, *arguments: str, **env: str) -> str:
        """Hold that one sentence with a fix is all that happens; return it."""
        got, out, err = self.run(*arguments, **env)
        assert got == code, err
        assert re.fullmatch(r"error: .+\. .+\n", err), err
        assert "Compiling" not in out
        assert "Installing" not in out
        assert not self.called("pip wheel")
        assert not self.called("pip install -e")
        return err

    def called(self, start: str) -> list[str]:
        """Return the calls of the fake Python and tools that begin so."""
        calls = self.log.read_text().splitlines() if self.log.exists() else []
        return [call for call in calls if call.startswith(start)]

    @property
    def cache(self) -> Path:
        """The folder where wheels, the lock and the log are."""
        return self.home / ".cache/pitool"

    @property
    def wheels(self) -> list[Path]:
        """The compiled wheels that are kept."""
        return sorted(self.cache.glob("wheels/**/*.whl"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A fresh machine with everything that is needed."""
    return Machine(tmp_path)


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read stdout up to a line that holds the text."""
    assert process.stdout
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"it ended before it said {text!r}")


# What it installs


def test_a_fresh_host_compiles_once_and_installs_the_converter(machine: Machine) -> None:
    out = machine.works()
    assert "step 2 of 2, 100%" in out
    assert "Installed pitool for this host" in out
    assert machine.called("pip install -e") == ["pip install -e .[host]"]
    assert [path.name for path in machine.wheels] == [WHEEL]
    assert not (machine.cache / "install.tmp").exists()


@pytest.mark.parametrize("place", ["proc/device-tree", "sys/firmware/devicetree/base"])
def test_a_raspberry_pi_is_told_by_its_model(machine: Machine, place: str) -> None:
    model = machine.sysroot / place / "model"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"Raspberry Pi 5 Model B Rev 1.1\0")
    code, out, err = machine.run()
    assert code == 0
    assert "Installed pitool for this board" in out
    assert machine.called("pip install -e") == ["pip install -e ."]
    assert re.fullmatch(
        r"warning: compiling on a Raspberry Pi takes up to an hour.*--wheel.*\n", err
    )


def test_the_machine_can_be_named(machine: Machine) -> None:
    assert "this board" in machine.works("--board")
    assert "this host" in machine.works("--host")
    assert machine.called("pip install -e") == ["pip install -e .", "pip install -e .[host]"]


def test_running_again_does_nothing(machine: Machine) -> None:
    machine.works()
    calls = machine.called("")
    assert "already installed" in machine.works()
    assert machine.called("") == calls


def test_extras_add_up(machine: Machine) -> None:
    machine.works("test")
    assert "already installed" in machine.works()
    assert "already installed" in machine.works("--board")
    machine.works("test", "--oracle")
    assert machine.called("pip install -e")[-1] == "pip install -e .[host,dev,oracle]"
    assert "already installed" in machine.works("test")


def test_every_checkout_uses_the_cached_wheel(machine: Machine) -> None:
    machine.works()
    shutil.rmtree(machine.project / ".venv")
    machine.works()
    machine.project = machine.checkout("another")
    machine.works()
    assert len(machine.called("pip wheel")) == 1


def test_another_cpu_gets_another_wheel(machine: Machine) -> None:
    machine.works()
    machine.cpu("avx2 f16c avx512f")
    machine.works()
    assert len(machine.wheels) == 2


def test_a_changed_project_is_installed_again_without_compiling(machine: Machine) -> None:
    machine.works()
    with (machine.project / "pyproject.toml").open("a") as file:
        file.write("# more\n")
    machine.works()
    assert len(machine.called("pip wheel")) == 1
    assert len(machine.called("pip install -e")) == 2
    assert len(machine.called("venv")) == 1


def test_an_environment_that_was_moved_is_made_anew(machine: Machine) -> None:
    machine.works()
    machine.project = machine.project.rename(machine.root / "moved")
    machine.works()
    assert len(machine.called("venv")) == 2


def test_an_environment_of_another_hand_is_completed(machine: Machine) -> None:
    machine.works()
    for stamp in machine.project.glob(".venv/.pitool-*"):
        stamp.unlink()
    machine.works()
    assert len(machine.called("venv")) == 1


def test_a_folder_that_is_no_environment_is_left_alone(machine: Machine) -> None:
    keep = machine.project / ".venv/important.txt"
    keep.parent.mkdir()
    keep.write_text("mine")
    assert "Move it away" in machine.refuses(1)
    assert keep.read_text() == "mine"


def test_link(machine: Machine) -> None:
    code, _, err = machine.run("--link")
    assert code == 0
    assert "not on the PATH" in err
    assert (machine.home / ".local/bin/pitool").resolve() == machine.project / ".venv/bin/pitool"


def test_a_service_and_taking_all_of_it_away(machine: Machine) -> None:
    machine.tool("systemctl", 'echo "systemctl $*" >>"$FAKE_LOG"')
    assert machine.run("--link", "--service")[0] == 0
    assert machine.called("pitool service install")
    unit = machine.home / ".config/systemd/user/pitool.service"
    venv = machine.project / ".venv"
    unit.parent.mkdir(parents=True)
    unit.write_text(f'[Service]\nExecStart="{venv}/bin/pitool" serve $PITOOL_SERVE\n')
    wheels = machine.wheels

    assert "Uninstalled" in machine.works("uninstall")
    assert machine.called("systemctl --user disable --now pitool.service")
    link = machine.home / ".local/bin/pitool"
    assert not any(os.path.lexists(path) for path in (unit, venv, link))
    assert machine.wheels == wheels
    assert "Uninstalled" in machine.works("uninstall")


def test_uninstall_leaves_alone_what_is_not_its_own(machine: Machine) -> None:
    machine.works()
    unit = machine.home / ".config/systemd/user/pitool.service"
    link = machine.home / ".local/bin/pitool"
    for path, text in ((unit, "[Service]\nExecStart=other\n"), (link, "#!/bin/sh\n")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    machine.works("uninstall")
    assert unit.exists()
    assert link.exists()
    (machine.project / ".venv").mkdir()
    (machine.project / ".venv/mine").touch()
    code, _, err = machine.run("uninstall")
    assert code == 1
    assert "not a Python environment created by install.sh" in err
    assert (machine.project / ".venv/mine").exists()


def test_a_service_needs_systemd(machine: Machine) -> None:
    code, _, err = machine.run("--service")
    assert code == 5
    assert "needs systemd" in err


@pytest.mark.parametrize(("megabytes", "jobs"), [(800, 1), (1500, 2), (8000, 4)])
def test_compile_jobs_are_held_to_the_memory(machine: Machine, megabytes: int, jobs: int) -> None:
    machine.tool("getconf", "case $1 in *NPROC*) echo 4 ;; LONG_BIT) echo 64 ;; *) exit 1 ;; esac")
    machine.memory(megabytes)
    machine.works()
    assert machine.called("jobs") == [f"jobs {jobs}"]


# Given wheels


def test_a_given_wheel_is_used_and_remembered(machine: Machine) -> None:
    wheel = machine.wheel()
    machine.works("--wheel", str(wheel))
    assert not machine.called("pip wheel")
    assert machine.called("pip install --no-deps")[0].endswith(WHEEL)
    assert "already installed" in machine.works()
    assert "already installed" in machine.works(PITOOL_WHEEL=str(wheel))
    wheel.write_text("another build")
    assert "Installed" in machine.works(f"--wheel={wheel}")
    assert len(machine.called("pip install --no-deps")) == 2


@pytest.mark.parametrize("given", ["--wheel", "wheels/"])
def test_of_a_folder_the_fitting_wheel_is_taken(machine: Machine, given: str) -> None:
    machine.wheel("llama_cpp_python-0.0.9-py3-none-linux_riscv64.whl")
    folder = machine.wheel().parent
    if given == "--wheel":
        machine.works("--wheel", str(folder))
    else:
        folder.rename(machine.project / "wheels")
        machine.works()
    assert machine.called("pip install --no-deps")[0].split(" --find")[0].endswith(WHEEL)
    assert "--find-links" in machine.called("pip install -e")[0]


def test_a_wheels_folder_for_another_machine_is_only_warned_of(machine: Machine) -> None:
    folder = machine.wheel("llama_cpp_python-0.0.9-py3-none-linux_riscv64.whl").parent
    folder.rename(machine.project / "wheels")
    code, _, err = machine.run()
    assert code == 0
    assert err.startswith("warning: ignored: wheels/llama_cpp_python")
    assert machine.wheels


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (f"llama_cpp_python-0.0.8-py3-none-linux_{MACHINE}.whl", "version 0.0.8"),
        ("llama_cpp_python-0.0.9-py3-none-linux_riscv64.whl", "for linux_riscv64"),
        ("llama_cpp_python-0.0.9-py3-none-win_amd64.whl", "for win_amd64"),
        (f"llama_cpp_python-0.0.9-py3-none-manylinux_2_999_{MACHINE}.whl", "glibc 2.999"),
        ("numpy-2.0-cp312-cp312-linux_x86_64.whl", "not a llama-cpp-python wheel"),
        ("notes.txt", "not a llama-cpp-python wheel"),
    ],
)
def test_a_wrong_wheel_is_refused(machine: Machine, name: str, reason: str) -> None:
    if "glibc" in reason and platform.libc_ver()[0] != "glibc":
        pytest.skip("no glibc here")
    assert reason in machine.refuses(2, "--wheel", str(machine.wheel(name)))
    assert not machine.called("")


def test_a_missing_wheel_is_refused(machine: Machine) -> None:
    assert "does not exist" in machine.refuses(2, "--wheel", "/nowhere/at/all.whl")


def test_a_folder_without_a_wheel_is_refused(machine: Machine) -> None:
    assert "contains no llama-cpp-python" in machine.refuses(2, "--wheel", str(machine.home))


def test_a_wheel_for_another_cpu_is_told(machine: Machine) -> None:
    code, _, err = machine.run("--wheel", str(machine.wheel()), FAKE_SMOKE="sigill")
    assert code == 1
    assert "instructions that this CPU does not have" in err
    assert err.count("\n") == 1
    assert "Installed" in machine.works()


# What is missing is said before anything long


def test_32_bit(machine: Machine) -> None:
    machine.tool("getconf", 'if [ "$1" = LONG_BIT ]; then echo 32; else exit 1; fi')
    assert "Raspberry Pi OS (64-bit)" in machine.refuses(5)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("3.9 64 venv", "found 3.9"),
        ("3.14 64 venv", "found 3.14"),
        ("3.12 32 venv", "a 32-bit 3.12"),
        ("3.12 64 no", "apt-get install python3-venv python3.12-venv"),
        ("", "found none"),
    ],
)
def test_no_suitable_python(machine: Machine, answer: str, words: str) -> None:
    assert words in machine.refuses(5, FAKE_PROBE=answer or " ")
    assert not machine.called("venv")


def test_no_python(machine: Machine) -> None:
    (machine.tools / "python3.12").unlink()
    assert "found none" in machine.refuses(5)


def test_a_named_python(machine: Machine) -> None:
    python = machine.root / "my python"
    (machine.tools / "python3.12").rename(python)
    assert "none in PITOOL_PYTHON" in machine.refuses(5, PITOOL_PYTHON="/not/there")
    machine.works(PITOOL_PYTHON=str(python))
    assert "already installed" in machine.works(PITOOL_PYTHON=str(python))


@pytest.mark.parametrize("missing", ["cc", "c++"])
def test_no_compiler(machine: Machine, missing: str) -> None:
    machine.tool(missing, "cat >/dev/null; exit 1")
    assert "sudo apt-get install g++" in machine.refuses(5)
    machine.works("--wheel", str(machine.wheel()))


def test_too_little_disk(machine: Machine) -> None:
    machine.tool("df", 'echo head; echo "/dev/sda 9000000 0 307200 1% /data"')
    assert re.search(
        r"needs \d+ MB of disk space on /data, but only 300 MB are free", machine.refuses(1)
    )


def test_too_little_disk_for_the_compile_only(machine: Machine) -> None:
    big, small = "/dev/a 9 0 9000000 1% /big", "/dev/b 9 0 307200 1% /small"
    machine.tool("df", f'echo head; case $2 in *home*) echo "{small}" ;; *) echo "{big}" ;; esac')
    assert "Compiling needs" in machine.refuses(1)
    machine.works("--wheel", str(machine.wheel()))


def test_too_little_memory(machine: Machine) -> None:
    machine.memory(200)
    assert "200 MB are free" in machine.refuses(1)
    with (machine.sysroot / "proc/meminfo").open("a") as file:
        file.write("SwapFree: 2097152 kB\n")
    machine.works()


def test_no_network(machine: Machine) -> None:
    assert "--wheel FOLDER" in machine.refuses(5, FAKE_OFFLINE="1")
    machine.works("--wheel", str(machine.wheel().parent), FAKE_OFFLINE="1")
    assert "--no-index" in machine.called("pip install -e")[0]


def test_a_cache_that_cannot_be_written(machine: Machine) -> None:
    (machine.home / ".cache").write_text("a file")
    assert "XDG_CACHE_HOME" in machine.refuses(1)


def test_an_incomplete_checkout(machine: Machine) -> None:
    (machine.project / "pyproject.toml").unlink()
    assert "complete clone" in machine.refuses(1)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["--nonsense"], ["demo", "test"], ["--wheel"], ["test", "-k", "a"]]
)
def test_usage(machine: Machine, arguments: list[str]) -> None:
    machine.refuses(2, *arguments)
    assert not machine.called("")


def test_help(machine: Machine) -> None:
    assert machine.works("--help").startswith("usage: ./install.sh")


# Faults and interruptions leave nothing that breaks the next run


def test_a_failed_compile_shows_its_error_and_the_log(machine: Machine) -> None:
    code, _, err = machine.run(FAKE_BUILD="fail")
    assert code == 1
    assert "fatal error: no such thing" in err
    assert str(machine.cache / "install.log") in err.splitlines()[-1]
    assert not machine.wheels
    machine.works()


def test_a_failed_install_is_made_anew(machine: Machine) -> None:
    code, _, err = machine.run(FAKE_PIP="fail")
    assert code == 1
    assert "Could not install" in err
    machine.works()
    assert len(machine.called("venv")) == 2


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("where", ["FAKE_BUILD", "FAKE_PIP"])
def test_an_interrupted_run(machine: Machine, where: str, kind: signal.Signals) -> None:
    with machine.start(**{where: "hang"}) as process:
        wait_for(process, "step 1 of 2" if where == "FAKE_BUILD" else "Installing pitool")
        wait_for(process, "packages") if where == "FAKE_PIP" else None
        process.send_signal(kind)
        process.communicate(timeout=120)
    codes = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
    assert process.returncode == codes[kind]
    assert len(machine.wheels) == (where == "FAKE_PIP")
    assert (machine.cache / "install.tmp").exists() == (kind == signal.SIGKILL)
    assert "Installed" in machine.works()
    assert not (machine.cache / "install.tmp").exists()
    assert len(machine.called("venv")) == (2 if where == "FAKE_PIP" else 1)
    assert "already installed" in machine.works()


def test_of_two_at_once_the_second_waits(machine: Machine) -> None:
    with machine.start(FAKE_BUILD="hang") as first:
        wait_for(first, "step 1 of 2")
        with machine.start() as second:
            wait_for(second, "Another install is running")
            first.terminate()
            first.communicate(timeout=120)
            second.communicate(timeout=120)
    assert (first.returncode, second.returncode) == (143, 0)
    assert len(machine.wheels) == 1


# The other commands


def test_demo_runs_the_main_job(machine: Machine) -> None:
    machine.works("demo")
    bundle = "build/demo/sample"
    assert machine.called("pitool") == [
        f"pitool convert sample --ram 1gb --force --out {bundle}",
        f"pitool run {bundle} What is a Raspberry Pi 5? --temp 0 --max-tokens 120",
        f"pitool bench {bundle} -p 128 -n 32 -r 3",
    ]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("typed", "chats"), [("\n", 1), ("yes\n", 1), ("n\n", 0), ("later\n", 0), ("\x04", 0)]
)
def test_demo_ends_by_offering_the_chat_where_somebody_is_there(
    machine: Machine, typed: str, chats: int
) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [machine.project / "install.sh", "demo"], env=machine.env,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    said = ""
    with suppress(OSError):  # the terminal is gone with the program
        while piece := os.read(ours, 4096).decode():
            asked, said = "[Y/n]" in said, said + piece
            if not asked and "Open the chat now? [Y/n] " in said:
                os.write(ours, typed.encode())
    os.close(ours)
    assert process.wait() == 0
    assert len(machine.called("pitool chat build/demo/sample")) == chats
    assert "Chat with it: .venv/bin/pitool chat build/demo/sample" in said


def test_demo_fails_with_its_step(machine: Machine) -> None:
    code, _, _ = machine.run("demo", FAKE_FAILS="run")
    assert code == 1
    assert len(machine.called("pitool")) == 2


def test_demo_on_a_board_installs_the_converter(machine: Machine) -> None:
    machine.works("demo", "--board")
    assert machine.called("pip install -e") == ["pip install -e .[host]"]


def test_test_hands_its_arguments_on(machine: Machine) -> None:
    machine.works("test", "--", "-k", "two words")
    assert machine.called("pip install -e") == ["pip install -e .[host,dev]"]
    assert machine.called("pytest") == [
        "pytest -n logical --maxprocesses 4 --dist loadfile -k two words"
    ]
    assert machine.run("test", FAKE_FAILS="pytest")[0] == 1


def test_check_goes_to_the_end_and_names_what_failed(machine: Machine) -> None:
    assert "All checks passed." in machine.works("check")
    code, out, err = machine.run("check", FAKE_FAILS="mypy format")
    assert code == 1
    assert err == "error: Failed: ruff-format mypy. See the output above.\n"
    assert "pytest" in out


# The scripts themselves


def test_versions_stand_in_pyproject_only() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    pinned = re.search(r'"llama-cpp-python==([0-9.]+)', project)
    assert pinned
    for script in (REPOSITORY / "install.sh", *SCRIPTS):
        assert pinned[1] not in script.read_text()
    low, high = map(int, re.findall(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', project)[0])
    pythons = " ".join(f"3.{minor}" for minor in reversed(range(low, high)))
    assert f'PYTHONS="{pythons}"' in (REPOSITORY / "scripts/machine.sh").read_text()


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck() -> None:
    files = [
        REPOSITORY / "install.sh",
        REPOSITORY / ".ci/run",
        Path(__file__).with_name("fake_python.sh"),
    ]
    subprocess.run(["shellcheck", "-x", *files], check=True, cwd=REPOSITORY)


def test_the_script_stays_small() -> None:
    assert os.access(REPOSITORY / "install.sh", os.X_OK)
    assert len((REPOSITORY / "install.sh").read_text().splitlines()) < 400
