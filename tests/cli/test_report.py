"""``pitool report``: an issue learns of the machine, and nothing of its user."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from pitool import __version__
from pitool.catalog import fault_log
from pitool.cli.commands import cli
from pitool.device.doctor.finding import Finding
from pitool.errors import UsageError
from pitool.store.conversation import Answer, Conversation, Question
from pitool.store.database import FILE_NAME, Database

USER, MACHINE = "marlene", "marlenes-board"
TOKEN, KEY = "hf_AbCdEfGhIjKlMnOpQrSt", "correct horse battery"
QUESTION, ANSWER = "Where did I hide the letters?", "Under the third stone, as you told me before."
PLANTED = (USER, MACHINE, "letters", "third stone", TOKEN, KEY, "192.168.4.7", "garage", "bread")


@pytest.fixture(autouse=True)
def planted(private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is private stand in the environment, in the log, and in what the doctor says."""
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, USER)
    monkeypatch.setenv("HOME", f"/home/{USER}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("PITOOL_API_KEY", KEY)
    monkeypatch.setattr(socket, "gethostname", lambda: MACHINE)
    finding = Finding("storage", "warning", f"/home/{USER}/models is slow", "tokens wait", "buy")
    monkeypatch.setattr("pitool.device.doctor.examination.examine", lambda: [finding])
    with closing(Database(private_home / FILE_NAME)) as database:
        conversation = Conversation("You bake bread for everyone here.")
        conversation.rows += [Question(QUESTION), Answer("model", ANSWER)]
        database.save(conversation, conversation.rows, ())
    fault_log.record(
        f"cannot reach {USER}@garage.example at 192.168.4.7",
        f'File "/home/{USER}/pitool/x.py", line 7, in ask\n'
        f"ValueError: {QUESTION}\nKeyError: '{ANSWER} And more.'\n"
        f"You bake bread for everyone here.\nAuthorization: Bearer {KEY}\ntoken {TOKEN}",
    )


def report(*words: str) -> str:
    done = CliRunner().invoke(cli, ["report", *words], standalone_mode=False)
    assert done.exception is None
    return done.stdout


def test_nothing_that_was_planted_appears() -> None:
    text = report()
    assert not [secret for secret in PLANTED if secret.lower() in text.lower()]
    top = text.partition("## ")[0]
    for kind in ("address", "conversation", "home folder", "key or token"):
        assert kind in top
    for title in ("Versions", "Machine", "Findings of pitool doctor", "End of the log"):
        assert f"\n## {title}\n" in text
    assert f"pitool {__version__}" in text
    assert "warning: storage: /home/[home folder]/models is slow (tokens wait; buy)" in text
    assert 'pitool/x.py", line 7, in ask' in text
    assert "\n    [conversation]\n" in text


def test_a_file_is_written_as_a_user_expects(tmp_path: Path) -> None:
    (tmp_path / "link.md").symlink_to(tmp_path / "report.md")
    assert report("-o", str(tmp_path / "link.md")) == ""
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "report.md").read_text().startswith("# pitool report\n")
    done = CliRunner().invoke(cli, ["report", "-o", str(tmp_path)], standalone_mode=False)
    assert isinstance(done.exception, UsageError)


def test_a_log_that_cannot_be_compared_is_left_out(private_home: Path) -> None:
    (private_home / FILE_NAME).write_bytes(b"SQLite format 3\0" + b"damaged" * 1000)
    text = report()
    assert "    left out, since its text cannot be compared with the conversations" in text
    assert "ValueError" not in text


def test_without_conversations_and_log_it_says_so(private_home: Path) -> None:
    for name in (FILE_NAME, "fault.log"):
        (private_home / name).unlink()
    assert "    nothing was logged\n" in report()
    assert not (private_home / FILE_NAME).exists()
