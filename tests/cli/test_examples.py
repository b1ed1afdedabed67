"""Every example of every ``--help``, of README and of docs/ is run, or says what it would need.

As it is written, in a folder with what the examples name: checkpoints, an adapter, GGUFs, a text,
and in an own PITOOL_HOME the bundle of the sample model's shape.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pitool.cli.commands import cli
from tests.cli.conftest import environment
from tests.convert.test_adapter import write_lora
from tests.test_commands_in_docs import CALL, PAGES
from tests.tiny import write_checkpoint

ROOT = Path(__file__).parents[2]
HUB, BOARD, HOST, SCREEN, LONG, SYSTEMD, VOCABULARY = (
    "the hub", "a board", "a host with the toolchain", "a terminal", "minutes of computing",
    "a systemd of the user", "a vocabulary with tokens to spare",
)  # fmt: skip
# What is not run here, by how the line begins, and why.
NEEDS = {
    "pitool chat": SCREEN,  # tests/tui
    "pitool --continue": SCREEN,
    "pitool serve": SCREEN,  # until it is stopped: tests/serve
    "PITOOL_API_KEY=secret pitool serve": SCREEN,
    "pitool monitor": SCREEN,
    "pitool cluster": BOARD,  # tests/cluster
    "pitool run --cluster": BOARD,
    "pitool bench --cluster": BOARD,
    "pitool compare": LONG,  # tests/lab
    "pitool tune": LONG,
    "pitool bench sample-1gb": LONG,  # tests/bench
    "pitool bench my-bundle other-bundle": LONG,
    "pitool bench my-bundle --quant Q4_K_M": LONG,  # tests/bench/test_grid.py
    "pitool bench my-bundle --sustained": LONG,
    "pitool bench -m": LONG,
    "pitool convert ./my-finetune --ram 4gb --size": LONG,  # as ./model with --size
    "pitool convert ./my-finetune --ram 4gb --fit": LONG,
    "pitool convert ./my-finetune --ram 4gb --effort": LONG,  # tests/convert
    "pitool convert ./model --ram 4gb --quant Q4_K_M,INT4 --effort": LONG,
    "pitool convert ./model --ram 4gb --quant Q4_0 --effort": LONG,
    "pitool convert ./my-finetune --ram 2gb --size": LONG,
    "pitool convert ./my-finetune --ram 4gb --board": LONG,
    "pitool convert ./model --ram 4gb --board": LONG,  # tests/convert
    "pitool verify sample-1gb --kv-cache": LONG,
    "pitool show sample-1gb --plot": LONG,  # after a conversion with --fit
    "pitool convert sample": LONG,  # tests/sample
    "pitool convert ./model --ram 4gb --quant gptq-int4": LONG,  # tests/convert/techniques
    "pitool verify sample-1gb --text": LONG,
    "pitool verify sample-1gb --reference": LONG,
    "pitool verify Qwen3": HUB,
    "pitool pull": HUB,
    "pitool plan Qwen/": HUB,
    "pitool convert Qwen/": HUB,
    "pitool convert google/": HUB,
    "pitool convert --ram": HUB,
    "pitool convert ./model --languages": VOCABULARY,  # tests/convert
    "pitool convert ./model --ram 2gb --languages": VOCABULARY,
    "pitool convert model-F16.gguf --ram 1gb --languages": VOCABULARY,
    "pitool plan model-F16.gguf --board pi5 --languages": VOCABULARY,
    "pitool wheel": HOST,
    "pitool pack": HOST,
    "pitool push": BOARD,
    "pitool bench --hosts": BOARD,  # tests/remote
    "pitool bench my-bundle --energy": BOARD,
    "pitool bench my-bundle --power-meter": BOARD,
    "pitool service install": SYSTEMD,  # tests/deploy/test_service.py
    "pitool service uninstall": SYSTEMD,
    "systemctl": SYSTEMD,
    "journalctl": SYSTEMD,
}


def commands(group: click.Group, context: click.Context) -> Iterator[click.Command]:
    yield group
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, context)
        else:
            yield command


def documented() -> list[str]:
    """Return the lines of README and docs that call pitool; what is made of the help is there."""
    pages = (page for page in PAGES if page.name != "commands.md")
    return [line for page in pages for line in CALL.findall(page.read_text(encoding="utf-8"))]


def helped() -> list[str]:
    """Return the lines below every ``Example:``, in the order of the help."""
    found = []
    for command in commands(cli, click.Context(cli)):
        _, _, below = (command.help or "").partition("Example:")
        lines = [line.strip() for line in below.splitlines()]
        found += [line for line in lines if "pitool" in line]
        assert any(lines) or isinstance(command, click.Group), command.name
    return found


def examples() -> list[str]:
    """Return all of them, without their comments."""
    lines = (re.split(r"\s+# ", line)[0].strip() for line in (*helped(), *documented()))
    return list(dict.fromkeys(lines))


def need(line: str) -> str:
    if line == "pitool":
        return SCREEN
    return next((why for start, why in NEEDS.items() if line.startswith(start)), "")


RUN = [line for line in examples() if not need(line)]
# Bundles that an example takes as made by the one before it.
MADE = ("my-finetune-4gb", "little")


def test_every_command_has_an_example_and_most_are_run() -> None:
    assert len(helped()) > 50
    assert len(documented()) > 100
    assert len(RUN) >= 60
    stale = [start for start in NEEDS if not any(line.startswith(start) for line in examples())]
    assert stale == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples name."""
    made = tmp_path_factory.mktemp("examples")
    checkpoint = write_checkpoint(made / "model")
    write_lora(made / "adapter")
    shutil.copytree(checkpoint, made / "my-finetune")
    bundle = made / "home" / "bundles" / "sample-1gb"
    convert = f"pitool convert model --ram 1gb --quant F16,Q8_0,Q4_0,INT4 --out {bundle}"
    assert run(made, convert).returncode == 0
    shutil.copytree(bundle, made / "my-bundle")
    (file,) = bundle.glob("*F16.gguf")
    for name in ("model", "my-finetune"):
        shutil.copy(file, made / f"{name}-F16.gguf")
    for place in (".local/share/bash-completion/completions", ".config/fish/completions"):
        (made / "user" / place).mkdir(parents=True)
    (made / "notes.txt").write_text("Some notes about boards and models.\n" * 200)
    (made / "letter.txt").write_text("Dear board, run well.\n")
    (made / "prompts.txt").write_text("Which board has most memory?\n")
    (made / "system.txt").write_text("You know every board and its memory.\n" * 40)
    assert run(made, "pitool prefill sample-1gb system.txt").returncode == 0
    for name in ("before", "after"):
        measure = f"pitool bench sample-1gb --quant Q8_0 -p 8 -n 4 -r 2 -o json > {name}.json"
        assert run(made, measure).returncode == 0
    return made


def run(folder: Path, line: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line as a shell does, without a terminal."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    program = programs / "pitool"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pitool "$@"\n')
    program.chmod(0o755)
    return subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {line}"],
        cwd=folder, capture_output=True, timeout=200, check=False, input=b"",
        env={**environment(80), "PITOOL_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT),
             "PATH": f"{programs}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1",
             "HOME": str(folder / "user")},
    )  # fmt: skip


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.parametrize("line", RUN)
def test_example(folder: Path, line: str) -> None:
    if "| jq" in line and not shutil.which("jq"):
        pytest.skip("jq is not installed")
    if "sqlite3 " in line and not shutil.which("sqlite3"):
        pytest.skip("sqlite3 is not installed")
    bundles, kept = folder / "home" / "bundles", folder / "kept"
    shutil.copytree(bundles, kept)
    if not line.startswith("pitool rename"):
        for name in MADE:
            if f" {name}" in line:
                shutil.copytree(bundles / "sample-1gb", bundles / name)
    try:
        done = run(folder, line)
    finally:
        shutil.rmtree(bundles)
        kept.rename(bundles)
    said = done.stderr.decode()
    assert "Traceback" not in said
    if line.startswith("pitool bench compare"):
        assert done.returncode in (0, 1), said  # 1: this machine was slower the second time
    elif line.startswith("pitool rm") and "--yes" not in line:
        assert (done.returncode, "use --yes" in said) == (2, True)
    else:
        assert done.returncode == 0, said
