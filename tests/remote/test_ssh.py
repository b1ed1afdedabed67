"""ssh, against a real sshd: what it says when there is no way in, addresses, running commands."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from pitool.errors import PitoolError, UsageError
from pitool.remote.ssh import Host
from tests.remote.sshd import Board, needs_sshd
from tests.remote.sshd import board as board

pytestmark = needs_sshd


def failed(host: Host) -> str:
    with pytest.raises(PitoolError) as caught:
        host.run("true")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wrong_or_unknown_host_key(board: Board) -> None:
    known = board.folder / "known_hosts"
    known.write_text(f"board {(board.folder / 'key.pub').read_text()}")
    said = failed(board.host)
    assert "the host key has changed" in said
    # The advice is a command, and it works.
    forget = re.findall(r"ssh-keygen .*(?=, then)", said)
    subprocess.run(["sh", "-c", *forget], check=True, capture_output=True)
    assert "the host key is unknown" in failed(board.host)
    assert not list(board.home.iterdir())


def test_a_board_that_is_not_there(board: Board) -> None:
    config = board.folder / "config"
    text = config.read_text()
    config.write_text(re.sub(r"HostName .*", "HostName nowhere.invalid", text))
    assert "unknown host" in failed(board.host)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        config.write_text(re.sub(r"Port .*", f"Port {port}", text))
        assert "raspi-config" in failed(board.host)


def test_no_password_is_asked_for(board: Board) -> None:
    (board.folder / "key.pub").write_text("")
    assert "permission denied" in failed(board.host)


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


def by_address(board: Board, name: str) -> Host:
    """Return the same board under an address, which its configuration does not know."""
    config = board.folder / "config"
    text = config.read_text().replace("Host board", "Host *")
    by_name = re.sub(r"(?m)^ *HostName .*\n", "", text)
    config.write_text(by_name)
    return Host(name, config)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["::1", "[::1]", "{user}@::1", "{user}@[::1]", "127.0.0.1"])
@pytest.mark.parametrize("way", ["rsync", "sftp"])
def test_an_address_is_written_one_way_for_everything(
    board: Board, tmp_path: Path, name: str, way: str
) -> None:
    if way == "rsync" and not shutil.which("rsync"):
        pytest.skip("rsync is not installed")
    if ":" in name and not has_ipv6():
        pytest.skip("there is no IPv6 here")
    host = by_address(board, name.format(user=board.user))
    (tmp_path / "a.pi").write_bytes(b"x" * 5000)
    assert host.run("echo here") == "here\n"
    host.send(tmp_path / "a.pi", "arrived.pi", rsync=way == "rsync", there=False)
    assert (board.home / "arrived.pi").read_bytes() == b"x" * 5000


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    ["127.0.0.1:{port}", "{user}@127.0.0.1:{port}", "[::1]:{port}", "{user}@[::1%1]:{port}"],
)
@pytest.mark.parametrize("way", ["rsync", "sftp"])
def test_a_port_may_follow(board: Board, tmp_path: Path, name: str, way: str) -> None:
    if way == "rsync" and not shutil.which("rsync"):
        pytest.skip("rsync is not installed")
    if "[" in name and not has_ipv6():
        pytest.skip("there is no IPv6 here")
    config = board.folder / "config"
    (port,) = re.findall(r"Port (\d+)", config.read_text())
    config.write_text(re.sub(r"(?m)^ *Port .*\n", "", config.read_text()))
    host = by_address(board, name.format(user=board.user, port=port))
    (tmp_path / "a.pi").write_bytes(b"x" * 5000)
    assert host.run("echo here") == "here\n"
    host.send(tmp_path / "a.pi", "arrived.pi", rsync=way == "rsync", there=False)
    assert (board.home / "arrived.pi").read_bytes() == b"x" * 5000


@pytest.mark.thorough
@pytest.mark.parametrize("way", ["rsync", "sftp"])
@pytest.mark.parametrize(
    "name",
    [
        "a:b.pi",
        "-a.pi",
        "a b.pi",
        "a\"b'c\\d.pi",
        "a\nput b.pi",
        "größe 模型.pi",
        "*[a]?.pi",
        "$(id).pi",
    ],
)
def test_a_name_that_could_be_misread(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, way: str
) -> None:
    if way == "rsync" and not shutil.which("rsync"):
        pytest.skip("rsync is not installed")
    folder = tmp_path / "host:folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path(name).write_bytes(b"first")
    board.host.send(Path(name), "arrived.pi", rsync=way == "rsync", there=False)
    Path(name).write_bytes(b"first and second")
    board.host.send(Path(name), "arrived.pi", rsync=way == "rsync", there=True)
    assert (board.home / "arrived.pi").read_bytes() == b"first and second"
    assert [path.name for path in board.home.iterdir()] == ["arrived.pi"]


def test_what_is_advised_has_the_port(board: Board) -> None:
    config = board.folder / "config"
    (port,) = re.findall(r"Port (\d+)", config.read_text())
    (board.folder / "key.pub").write_text("")
    said = failed(by_address(board, f"{board.user}@127.0.0.1:{port}"))
    assert f"ssh-copy-id -p {port} {board.user}@127.0.0.1" in said


@pytest.mark.parametrize(
    "name",
    ["", "-oProxyCommand=x", "pi@-oProxyCommand=x", "a b", "host:", "host:ssh", "a:b:c", "[::1",
     "::1]:22", "[::1]:", "pi@", "a/b", "host\n", "[nonsense:x]", "ssh://host"],
)  # fmt: skip
def test_what_is_no_host_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a host"):
        Host(name)


@pytest.mark.parametrize("name", ["host:0", "host:65536", "[::1]:99999"])
def test_what_is_no_port_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a port"):
        Host(name)


def test_lines_of_a_running_command_arrive_and_its_code(board: Board) -> None:
    output: list[str] = []
    talk: list[str] = []
    command = board.host.start("echo one; echo two; echo said >&2; exit 7")
    assert command.run(output.append, talk.append) == 7
    assert (output, talk) == (["one\n", "two\n"], ["said\n"])


@pytest.mark.timeout(120)
def test_a_running_command_is_ended_from_another_thread(board: Board) -> None:
    first = threading.Event()
    codes: list[int] = []
    command = board.host.start("echo ready; sleep 3600")

    def run() -> None:
        codes.append(command.run(lambda _: first.set(), lambda _: None))

    running = threading.Thread(target=run)
    running.start()
    first.wait()
    command.end()
    running.join()
    assert codes[0] != 0
