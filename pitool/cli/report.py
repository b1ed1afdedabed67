"""``pitool report``: what an issue needs, without what is the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG_LINES = 80


@click.command("report")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="File to write (default: stdout)."
)
def command(out: Path | None) -> None:
    """Collect what an issue needs: versions, board, findings, the log.

    Names of the user and the machine, keys, addresses and conversations are removed. Nothing is
    sent: read the text, then paste it into the issue.

    \b
    Example:
      pitool report -o report.md
    """
    from pitool.catalog.outputs import check_output, write_output
    from pitool.report.progress import talk

    if out is not None:
        check_output(out, "-o")
    text = _report()
    if out is None:
        click.echo(text, nl=False)
    else:
        write_output(out, text.encode())
        talk(f"report: {out}; read it before you send it")


def _report() -> str:
    """Return the report, what was removed at its top."""
    from pitool.catalog import fault_log
    from pitool.device.detect import detect
    from pitool.device.doctor.examination import examine
    from pitool.device.doctor.issue import describe
    from pitool.errors import PitoolError
    from pitool.report.privacy import Redaction

    redaction, log = Redaction(), fault_log.tail(LOG_LINES)
    try:
        log = redaction.spoken(log, _conversations()) or "nothing was logged"
    except PitoolError as error:
        log = f"left out, since its text cannot be compared with the conversations: {error.what}"
    text = describe(detect(), examine(), log)
    text = redaction.names(redaction.secrets(text, _secrets()), _names())
    removed = ", ".join(f"{kind} ({count})" for kind, count in sorted(redaction.removed.items()))
    return (
        "# pitool report\n\n"
        f"Removed, and marked in brackets: {removed or 'nothing'}. What stays may still name other"
        " machines,\nmodels and folders: read it before you send it.\n\n"
        f"{text}"
    )


def _names() -> dict[str, list[str]]:
    """Return what names the user, this machine and the home folder, by kind."""
    import os
    import platform
    import pwd
    import socket

    users = [os.environ.get(name, "") for name in ("LOGNAME", "USER", "SUDO_USER")]
    homes = [os.environ.get("HOME", "")]
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        pass
    else:
        full = entry.pw_gecos.partition(",")[0]
        users += [entry.pw_name, full, *(part for part in full.split() if len(part) > 2)]
        homes.append(entry.pw_dir)
    hosts = [socket.gethostname(), platform.node()]
    hosts += [host.partition(".")[0] for host in hosts]
    return {
        "home folder": [home.rstrip("/") for home in homes],
        "machine": [host for host in hosts if host != "localhost"],
        "user": users,
    }


def _secrets() -> list[str]:
    """Return the keys in this environment, by the names of its variables."""
    import os
    import re

    named = re.compile("KEY|TOKEN|SECRET|PASSW", re.IGNORECASE)
    return [value for name, value in os.environ.items() if named.search(name) and len(value) > 3]


def _conversations() -> Iterator[str]:
    """Yield every text that the user and a model wrote; PitoolError where they cannot be read."""
    from contextlib import closing

    from pitool.catalog.bundles import home
    from pitool.store.conversation import Answer, Question
    from pitool.store.database import FILE_NAME, Database

    if not (home() / FILE_NAME).exists():
        return
    with closing(Database(home() / FILE_NAME)) as database:
        for summary in database.list():
            conversation = database.open(summary.key)
            yield from (conversation.title, conversation.system)
            for row in conversation.rows:
                if isinstance(row, Question | Answer):
                    yield row.text
