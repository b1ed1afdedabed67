"""Converts tiny checkpoints: with the real engine, or with one that answers as it is told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pitool.catalog.bundles import Bundle
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import read_config
from pitool.checkpoint.source import Checkpoint, Source, find_source, open_checkpoint
from pitool.cli import convert_engines
from pitool.convert.conversion import Job
from pitool.convert.engines import Engines, OpenEngine
from pitool.convert.gguf.grids import Found
from pitool.convert.gguf.model import find_model
from pitool.convert.gguf.vocabulary import read_vocabulary
from pitool.convert.gguf.writer import write_gguf
from pitool.convert.numpy_forward import reference_logits
from pitool.convert.pipeline import convert
from pitool.convert.plan import make_plan
from pitool.engine import worker
from pitool.engine.base import Prompt, Settings
from pitool.engine.tokenizer_folder import TokenizerFolder
from pitool.quality.health import LogitsEngine
from pitool.report.progress import Silent


def source_of(folder: Path, text: Path | None = None) -> Source:
    """Return the source of a checkpoint folder."""
    return Source(folder.name, None, folder, text=text)


def checkpoint_of(folder: Path) -> Checkpoint:
    """Return an opened checkpoint folder."""
    return open_checkpoint(source_of(folder))


def real_engine(path: Path, tokens: int) -> AbstractContextManager[LogitsEngine]:
    """Load a GGUF with llama.cpp in a worker."""
    context = -(-tokens // 256) * 256
    return worker.start("gguf", path, Settings(context, 1, 1, micro_batch=64, outputs=64))


class Honest:
    """Gives the checkpoint's own logits and tokens, whatever the file holds."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.tokenizer = TokenizerFolder(checkpoint.folder)

    def tokenize(self, prompt: Prompt) -> list[int]:
        """Return token ids by the tokenizers library."""
        return self.tokenizer.encode(prompt)

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the reference's logits."""
        return reference_logits(self.checkpoint, ids)


def always(engine: LogitsEngine) -> OpenEngine:
    """Return an opener that gives ``engine`` for every file."""

    @contextmanager
    def opener(_path: Path, _tokens: int) -> Iterator[LogitsEngine]:
        yield engine

    return opener


def convert_folder(
    folder: Path,
    target: Path,
    quants: str = "F16",
    *,
    engine: OpenEngine = real_engine,
    replace: bool = False,
    text: Path | None = None,
    found: Found | None = None,
) -> Bundle:
    """Run the whole pipeline on a checkpoint folder for the 1gb tier.

    ``found``: the matrices that a plan saw to lie on grids.
    """
    plan = make_plan(read_config(folder), "1gb", tiers()["1gb"], quants, 512, found=found)
    job = Job(plan, target, replace, 1)
    return convert(source_of(folder, text), job, engines_of(engine), Silent())


def engines_of(engine: OpenEngine) -> Engines:
    """Return an opener with the real engines for calibration."""
    return Engines(
        engine,
        convert_engines.open_calibrator,
        convert_engines.write_text,
        convert_engines.open_with if engine is real_engine else lambda _: engine,
    )


def write_float(folder: Path, path: Path, kind: str) -> Path:
    """Write the GGUF of a checkpoint in a float type, and nothing else of the pipeline."""
    checkpoint = checkpoint_of(folder)
    model = find_model(checkpoint.config)
    vocabulary = read_vocabulary(folder, model.shape.vocabulary)
    write_gguf(path, checkpoint, model, vocabulary, QUANTISATIONS[kind])
    return path


def tensors(path: Path) -> dict[str, tuple[str, bytes]]:
    """Return type and bytes of each tensor of a GGUF, as gguf-py reads them."""
    return {t.name: (t.tensor_type.name, t.data.tobytes()) for t in GGUFReader(path).tensors}


def names(folder: Path) -> set[str]:
    """Return the names in a folder, hidden ones too, the cache's apart; none where it is not."""
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return found - {Path(os.environ["PITOOL_CACHE"]).name}


def sample_texts() -> tuple[Checkpoint, list[int], list[list[int]]]:
    """Return the sample model, tokens that it is judged on, and windows of others."""
    source = find_source("sample", "1gb")
    assert source.text
    checkpoint = open_checkpoint(source)
    tokenizer = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    ids = tokenizer.encode(source.text.read_text(encoding="utf-8")).ids
    judged, text = ids[:256], [ids[at : at + 256] for at in range(256, 1280, 256)]
    return checkpoint, judged, text
