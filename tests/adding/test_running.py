"""A file and a row each: an engine, a family of models, a slash command, a published speed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pitool.catalog import manifest
from pitool.catalog.manifest import Artifact, FileEntry, MemoryLine, Source
from tests.adding.conftest import Extended
from tests.tiny import write_checkpoint

ENGINE = '''
"""Answers with what the artifact's file says."""

from pitool.engine.scripted import Scripted


class Echo(Scripted):
    """The script is the file."""

    def __init__(self, entry, settings, on_progress=None):
        super().__init__([entry.read_text()], settings=settings)
'''

FAMILY = '''
"""Llama under another name, its embedding multiplied by what ``toy_scale`` says."""

from dataclasses import replace

from pitool.architectures import llama
from pitool.architectures.base import Architecture


def describe(settings):
    return replace(llama.describe(settings), embedding_scale=settings.number("toy_scale", 1.0))


ARCHITECTURE = Architecture("Toy", describe, llama.LlamaFile())
'''

SPEED = """
[[source]]
source = "this test"
date = "2026-11"
board = "pi5"
threads = "best"
rows = [{ model = "qwen-0_5b", quantisation = "Q2_K", decode = 41.5 }]
"""

COMPARE = """
import pathlib
from benchmarks import predict
predict.DATA = pathlib.Path(__import__("sys").argv[1])
last = predict.compare()[-1]
print((last.source.source, last.row.decode, round(last.decode_error, 3)))
"""


def bundle_of(folder: Path, format_name: str, text: str) -> Path:
    """Write a bundle with one artifact of some format, whose file holds a text."""
    folder.mkdir()
    (folder / "model.bin").write_text(text, encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    artifact = Artifact(
        format=format_name,
        quantisation="F32",
        files=(FileEntry("model.bin", len(text), digest),),
        architecture="echo",
        parameters=1000,
        context=512,
        bits_per_weight=32.0,
        memory=(MemoryLine("weights", 4000),),
        speed=(),
        certificate=None,
    )
    source = Source("example/echo", "main", ())
    created = "2026-11-28T00:00:00Z"
    manifest.write(
        folder,
        manifest.Manifest("echo", source, "1gb", None, created, {"pitool": "0.1.0"}, (artifact,)),
    )
    return folder


def with_engine(extended: Extended) -> Path:
    """Add the engine; return a bundle for it."""
    extended.module("pitool.engine", "echo", ENGINE)
    extended.row("from pitool.engine.registry import ENGINES")
    extended.row('ENGINES["echo"] = "pitool.engine.echo:Echo"')
    return bundle_of(extended.folder / "echo", "echo", "said by the file")


@pytest.mark.thorough
def test_an_engine(extended: Extended) -> None:
    bundle = bundle_of(extended.folder / "unknown", "echo", "x")
    assert "echo" in extended.run("run", bundle, "hi", code=4)
    bundle = with_engine(extended)
    assert "said by the file" in extended.run("run", bundle, "hi")
    assert extended.json("run", bundle, "hi")["text"] == "said by the file"
    assert "tg8" in extended.run("bench", bundle, "-p", 8, "-n", 8, "-r", 1)
    assert "echo" in extended.run("show", bundle)


@pytest.mark.thorough
def test_a_family(extended: Extended) -> None:
    toy = write_checkpoint(extended.folder / "toy", model_type="toy", toy_scale=1.0)
    target = extended.folder / "bundle"
    extended.module("pitool.architectures", "toy", FAMILY)
    extended.row("from pitool.architectures.table import TABLE")
    extended.row('TABLE["toy"] = "pitool.architectures.toy"')
    assert extended.json("plan", toy, "--ram", "1gb")["architecture"] == "llama"
    extended.run("convert", toy, "--ram", "1gb", "--quant", "F16,INT8", "--out", target)
    made = {a.quantisation: a for a in manifest.read(target).artifacts}
    assert set(made) == {"F16", "INT8"}
    for artifact in made.values():
        assert artifact.certificate
        assert artifact.certificate.mean_kl < 0.01
    stranger = write_checkpoint(extended.folder / "stranger", model_type="toy", toy_shift=2.0)
    said = extended.run("convert", stranger, "--ram", "1gb", "--out", target, "--force", code=4)
    assert "toy_shift" in said


def test_a_slash_command(extended: Extended) -> None:
    bundle = with_engine(extended)
    extended.row("from pitool.chat import commands")
    extended.row("commands.COMMANDS.append(commands.Command('shout', '', 'say something loud'))")
    extended.row("commands.CommandHandlers.do_shout = lambda self, _: self.say('LOUD')")
    said = extended.run("run", "-i", bundle, stdin="/shout\n/help\n")
    assert "LOUD" in said
    assert "say something loud" in said


def test_a_published_speed(extended: Extended) -> None:
    published = Path(__file__).parents[2] / "benchmarks" / "published.toml"
    table = extended.folder / "published.toml"
    table.write_text(published.read_text(encoding="utf-8") + SPEED, encoding="utf-8")
    assert "('this test', 41.5" in extended.python(COMPARE, table)
