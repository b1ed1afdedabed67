"""push, against a real sshd on the loopback interface that says it is a Raspberry Pi."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from pitool.deploy import archive, push
from pitool.errors import BadInput, DoesNotFit, MissingPart, PitoolError
from tests.cli.conftest import Pitool, pitool  # noqa: F401 - a fixture
from tests.deploy import archives
from tests.remote.sshd import Board, needs_sshd
from tests.remote.sshd import board as board

pytestmark = needs_sshd

MIB = 1024**2


@dataclass
class Said:
    """Collects what a push says."""

    lines: list[str]

    def __call__(self, host: str, what: str) -> None:
        self.lines.append(f"{host}: {what}")


def pushed(board: Board, path: Path) -> tuple[push.Outcome, list[str]]:
    said = Said([])
    (outcome,) = push.push(path, [board.host], said)
    return outcome, said.lines


def failed(board: Board, path: Path, kind: type[PitoolError]) -> str:
    outcome, _ = pushed(board, path)
    assert type(outcome.error) is kind, outcome.error
    assert "\n" not in str(outcome.error)
    return str(outcome.error)


@pytest.mark.thorough
def test_push_switch_and_rollback(board: Board, tmp_path: Path, pitool: Pitool) -> None:  # noqa: F811
    first = archives.make(tmp_path / "first.pi", b"one")
    outcome, said = pushed(board, tmp_path / "first.pi")
    assert outcome == push.Outcome("board", first.id, None)
    assert said[-1] == "board: installing"
    assert board.model == b"one"
    assert (board.home / ".local/bin/pitool").exists()
    assert not list((board.home / push.INCOMING).iterdir())

    second = archives.make(tmp_path / "second.pi", b"two", runtime=False)
    config = board.folder / "config"
    done = pitool("push", tmp_path / "second.pi", "board", "-F", config, "--json")
    assert done.code == 0, done.err
    assert {item["release"] for item in json.loads(done.out)} == {second.id}
    assert board.model == b"two"

    back = pitool("push", "--rollback", "board", "-F", config)
    assert back.code == 0, back.err
    assert board.model == b"one"


@pytest.mark.thorough
def test_what_is_there_is_not_copied_again(board: Board, tmp_path: Path) -> None:
    archives.make(tmp_path / "first.pi", b"one")
    archives.make(tmp_path / "second.pi", b"two")
    for name in ("first", "second"):
        assert pushed(board, tmp_path / f"{name}.pi")[0].error is None
    board.session.write_text("exit 1\n")  # of a copy
    outcome, said = pushed(board, tmp_path / "first.pi")
    assert outcome.error is None
    assert said == ["board: nothing to copy: this release is already installed"]
    assert board.model == b"one"
    board.session.write_text("")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "part",
    [
        "bundles/tiny/a.gguf",
        "current/runtime/bin/python",
        "current/runtime/lib/python3*/site-packages/pitool/errors.py",
    ],
)
def test_what_is_there_and_damaged_is_mended(board: Board, tmp_path: Path, part: str) -> None:
    archives.make(tmp_path / "a.pi", b"one")
    pushed(board, tmp_path / "a.pi")
    (harmed,) = (board.home / ".local/share/pitool").glob(part)
    harmed.unlink()
    harmed.write_bytes(b"eno")
    outcome, said = pushed(board, tmp_path / "a.pi")
    assert outcome.error is None
    assert any("damaged" in line for line in said)
    assert board.model == b"one"
    python = board.home / ".local/share/pitool/current/runtime/bin/python"
    subprocess.run([python, "-c", "import llama_cpp.llama_cpp"], check=True)


@pytest.mark.thorough
@pytest.mark.parametrize("way", ["rsync", "sftp"])
def test_a_copy_that_was_cut_goes_on(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "rsync" and not shutil.which("rsync"):
        pytest.skip("rsync is not installed")
    if way == "sftp":
        monkeypatch.setattr("pitool.remote.ssh.RSYNC", "no-such-program")
    contents = archives.make(tmp_path / "a.pi", b"one", padding=8 * MIB)
    board.session.write_text(f"ulimit -f {4 * 1024}\n")  # KiB of bash: the copy dies at 4 MiB
    assert pushed(board, tmp_path / "a.pi")[0].error is not None
    part = board.home / push.INCOMING / f"{contents.id}.pi"
    size = part.stat().st_size
    assert 0 < size <= 4 * MIB
    assert not board.pitool_folders

    board.session.write_text("")
    outcome, said = pushed(board, tmp_path / "a.pi")
    assert outcome.error is None
    share = size / (tmp_path / "a.pi").stat().st_size
    assert any(f"{share:.0%} already copied" in line for line in said)
    assert board.model == b"one" + bytes(8 * MIB)


@pytest.mark.thorough
def test_a_part_that_is_wrong_is_thrown_away(board: Board, tmp_path: Path) -> None:
    contents = archives.make(tmp_path / "a.pi", b"one")
    part = board.home / push.INCOMING / f"{contents.id}.pi"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes((tmp_path / "a.pi").stat().st_size))
    assert "checksum does not match" in failed(board, tmp_path / "a.pi", PitoolError)
    assert not board.pitool_folders
    assert pushed(board, tmp_path / "a.pi")[0].error is None


@pytest.mark.thorough
@pytest.mark.parametrize("way", ["rsync", "sftp"])
def test_how_much_has_arrived_is_told(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "rsync" and not shutil.which("rsync"):
        pytest.skip("rsync is not installed")
    if way == "sftp":
        monkeypatch.setattr("pitool.remote.ssh.RSYNC", "no-such-program")
    archives.make(tmp_path / "a.pi", b"one", padding=2 * MIB)
    size = (tmp_path / "a.pi").stat().st_size
    # What takes long is what follows the copy, so that the last size is seen.
    board.session.write_text('sh -c "$SSH_ORIGINAL_COMMAND"; code=$?; sleep 2; exit $code\n')
    heard: list[tuple[str, int, int]] = []
    (outcome,) = push.push(
        tmp_path / "a.pi", [board.host], Said([]), lambda *words: heard.append(words)
    )
    assert outcome.error is None
    assert heard[-1] == ("board", size, size)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("model", "warned"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0", False),
        ("Raspberry Pi 4 Model B Rev 1.4", True),
        ("", True),
    ],
)
def test_another_board_than_it_was_packed_for(
    board: Board, tmp_path: Path, model: str, warned: bool
) -> None:
    board.tool("tr", f'echo "{model}"')
    archives.make(tmp_path / "a.pi", b"one")
    outcome, said = pushed(board, tmp_path / "a.pi")
    assert outcome.error is None
    assert any("packed for a Raspberry Pi 5" in line for line in said) == warned


@pytest.mark.thorough
def test_a_disk_that_fills_up(board: Board, tmp_path: Path) -> None:
    can = subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True)
    if can.returncode:
        pytest.skip("no user namespaces here: a small disk cannot be made")
    archives.make(tmp_path / "a.pi", b"one", padding=8 * MIB)
    small = f"mount -t tmpfs -o size=2m tmpfs {board.home} && cd {board.home}"
    small += f" && mkdir -p {push.INCOMING}"
    board.session.write_text(
        f"exec unshare -Urm bash -c '{small} && exec sh -c \"$SSH_ORIGINAL_COMMAND\"'\n"
    )
    assert "disk is full" in failed(board, tmp_path / "a.pi", DoesNotFit)
    assert not board.pitool_folders


def test_a_small_disk_is_seen_beforehand(board: Board, tmp_path: Path) -> None:
    archives.make(tmp_path / "a.pi", b"one")
    board.tool("df", 'echo head; echo "/dev/root 100 96 4 96% /"')
    assert "of free disk space and needs" in failed(board, tmp_path / "a.pi", DoesNotFit)
    assert not list((board.home / push.INCOMING).iterdir())


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("tool", "text", "reason"),
    [
        ("uname", "echo x86_64", "needs 64-bit aarch64"),
        ("uname", "echo armv7l", "needs 64-bit aarch64"),
        ("getconf", "echo 32", "32-bit userland"),
    ],
)
def test_the_wrong_machine(board: Board, tmp_path: Path, tool: str, text: str, reason: str) -> None:
    archives.make(tmp_path / "a.pi", b"one")
    board.tool(tool, text)
    assert reason in failed(board, tmp_path / "a.pi", MissingPart)
    assert not list((board.home / push.INCOMING).iterdir())


@pytest.mark.thorough
def test_too_little_memory_and_the_wrong_python(board: Board, tmp_path: Path) -> None:
    archives.make(tmp_path / "big.pi", memory=1 << 60)
    assert "of memory, and tiny needs" in failed(board, tmp_path / "big.pi", DoesNotFit)
    archives.make(tmp_path / "old.pi", python="3.9")
    assert "the archive is for 3.9" in failed(board, tmp_path / "old.pi", MissingPart)
    assert not list((board.home / push.INCOMING).iterdir())


@pytest.mark.parametrize(("available", "word"), [(90, "tight"), (79, "does not fit now"), (99, "")])
def test_little_memory_is_said_by_the_plans_verdict(available: int, word: str) -> None:
    mib = 2**20
    # Of 200 MiB a twentieth should stay free, so that 81 fit into 90 only tightly.
    found = push.Preflight(
        machine="aarch64", bits="64", python="3.11", interpreter="", system="", model="",
        memory=200 * mib, available=available * mib, free=None, rsync=True, arrived=None,
        installed=False,
    )  # fmt: skip
    contents = archive.Contents("m", "pi5", "0", {}, (), 81 * mib, ())
    said = push.little_memory(found, contents)
    assert (said or "").endswith(word)
    assert bool(said) == bool(word)


@pytest.mark.thorough
def test_one_board_that_fails_keeps_no_other_from_it(
    board: Board,
    tmp_path: Path,
    pitool: Pitool,  # noqa: F811
) -> None:
    archives.make(tmp_path / "a.pi", b"one")
    config = board.folder / "config"
    done = pitool("push", tmp_path / "a.pi", "nowhere.invalid", "board", "board", "-F", config)
    assert done.code == 1
    assert "nowhere.invalid" in done.sentence
    assert done.out.count("board: now using release") == 1
    assert board.model == b"one"


def test_a_damaged_archive_is_not_sent(board: Board, tmp_path: Path) -> None:
    (tmp_path / "a.pi").write_bytes(b"nothing")
    with pytest.raises(BadInput):
        push.push(tmp_path / "a.pi", [board.host], Said([]))
