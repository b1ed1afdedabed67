"""A real sshd on the loopback interface that says it is a Raspberry Pi, for push and for ssh."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pitool.remote.ssh import Host

needs_sshd = [
    pytest.mark.network,
    pytest.mark.skipif(
        not Path("/usr/sbin/sshd").exists() or not shutil.which("ssh"),
        reason="openssh-server is not installed",
    ),
]

# Every session runs in the board's home with the board's tools first on the PATH. `session` is
# sourced before a copy begins, so that a test can make it fail.
SHELL = """#!/bin/bash
export HOME={home} PATH={tools}:$PATH
cd {home}
case $SSH_ORIGINAL_COMMAND in rsync*|*sftp-server*) . {session} ;; esac
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""

SSHD = """Port {port}
ListenAddress 127.0.0.1
ListenAddress ::1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
Subsystem sftp /usr/lib/openssh/sftp-server
ForceCommand {folder}/shell
"""

SSH = """Host board
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    HostKeyAlias board
"""


@dataclass(frozen=True)
class Board:
    """A home, the tools that lie about the machine, and how to get there."""

    home: Path
    tools: Path
    session: Path
    folder: Path
    host: Host
    user: str

    def tool(self, name: str, text: str) -> None:
        path = self.tools / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    @property
    def model(self) -> bytes:
        return (self.home / ".local/share/pitool/bundles/tiny/a.gguf").read_bytes()

    @property
    def pitool_folders(self) -> list[Path]:
        return list((self.home / ".local").rglob("*"))


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    folder, home, tools = tmp_path / "ssh", tmp_path / "home", tmp_path / "tools"
    for path in (folder, home, tools):
        path.mkdir()
    for name in ("key", "host_key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    facts = {"folder": folder, "port": port, "user": getpass.getuser(), "home": home,
             "tools": tools, "session": folder / "session"}  # fmt: skip
    (folder / "session").write_text("")
    for name, text in (("shell", SHELL), ("sshd_config", SSHD), ("config", SSH)):
        (folder / name).write_text(text.format(**facts))
    (folder / "shell").chmod(0o755)
    (folder / "known_hosts").write_text(f"board {(folder / 'host_key.pub').read_text()}")
    made = Board(
        home, tools, folder / "session", folder, Host("board", folder / "config"), getpass.getuser()
    )
    made.tool("uname", 'if [ "$1" = -m ]; then echo aarch64; else exec /usr/bin/uname "$@"; fi')
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen(
        ["/usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd_config"],
        stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield made
    server.terminate()
    server.wait()
