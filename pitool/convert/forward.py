"""The forward pass that a checkpoint's artifacts are verified against, and whose it is.

transformers' own where it is installed and knows the model, in a process of its own; else the one
in ``reference``, which reads the checkpoint's settings as the writers do and so cannot see a
misreading of these. Owns the choice; never falls back to an artifact.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pitool.architectures.table import describe
from pitool.catalog import cache
from pitool.checkpoint.config import GGUF, Config
from pitool.checkpoint.scaled import is_readable
from pitool.checkpoint.source import Checkpoint
from pitool.convert import legacy
from pitool.convert.numpy_forward import covers, reference_logits
from pitool.device import memory
from pitool.errors import BadInput, WorkerDied
from pitool.process.child import Child

PACKAGES = ("accelerate", "torch", "transformers")
OWN = "pitool's own forward pass"
# What a float32 model may take of the free memory; a larger one is computed matrix by matrix.
SHARE = 0.5

OnLayer = Callable[[], None]


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """A forward pass: ``of`` says whose, ``layers`` how many steps it takes.

    ``logits`` returns those after each token, shape (tokens, vocabulary), and calls back after
    each layer; with ``noise`` every number of a matrix is changed by up to this share of itself.
    ``stands_in``: it is not the checkpoint's own in float32 but an artifact's, which knows no
    noise, and ``of`` has a place for the checkpoint's name. ``verified``: it is what must be
    reproduced.
    """

    of: str
    layers: int
    logits: Callable[[Sequence[int], float, OnLayer], NDArray[np.float32]]
    stands_in: bool = False
    verified: bool = True


def runs(config: Config) -> bool:
    """Tell whether transformers is asked about a checkpoint: it computes FP8 on a GPU only."""
    return config.model_type != GGUF and not is_readable(config.values) and installed()


def installed() -> bool:
    """Tell whether transformers is to run here: ``PITOOL_REFERENCE=pitool`` says no."""
    if os.environ.get("PITOOL_REFERENCE") == "pitool":
        return False
    return all(importlib.util.find_spec(package) for package in PACKAGES)


def expected(config: Config, parameters: int) -> str:
    """Return whose forward pass is tried first, for a plan; nothing where there is none."""
    if config.model_type == GGUF:
        return ""
    if not runs(config):
        return OWN if covers(config) else ""
    streamed = is_large(4 * parameters, memory.available())
    return f"transformers {version()}" + (", matrix by matrix" if streamed else "")


def is_large(wide: int, free: int | None) -> bool:
    """Tell whether a model of ``wide`` bytes in float32 is computed matrix by matrix."""
    return free is not None and wide > SHARE * free


def version() -> str:
    """Return the version of the transformers that is installed."""
    return importlib.metadata.version("transformers")


@contextmanager
def open_forward(checkpoint: Checkpoint) -> Iterator[ForwardPass | None]:
    """Give the forward pass of a checkpoint, None where nobody has one.

    transformers' memory is back afterwards. Of a checkpoint whose vocabulary is cut it is that of
    the whole one, so that nothing which cut it is part of what it is compared with.
    """
    if checkpoint.whole:
        with open_forward(checkpoint.whole) as found:
            yield over_kept(found, checkpoint) if found else None
        return
    if runs(checkpoint.config):
        with cache.working("checkpoint") as scratch, _child() as child:
            if found := _transformers(child, checkpoint, _readable(checkpoint, scratch)):
                yield found
                return
    yield _own(checkpoint) if covers(checkpoint.config) else None


def over_kept(found: ForwardPass, checkpoint: Checkpoint) -> ForwardPass:
    """Return the forward pass of a whole checkpoint by the ids of one whose vocabulary is cut."""
    assert checkpoint.source.trim
    kept = checkpoint.source.trim.kept

    def logits(ids: Sequence[int], noise: float, on_layer: OnLayer) -> NDArray[np.float32]:
        rows = found.logits(kept[list(ids)].tolist(), noise, on_layer)
        return np.ascontiguousarray(rows[:, kept])

    return replace(found, of=f"{found.of} over the tokens that are kept", logits=logits)


def _readable(checkpoint: Checkpoint, scratch: Path) -> Path:
    """Return a folder that the installed transformers reads as the one that saved it does."""
    if int(version().partition(".")[0]) >= 5:
        return checkpoint.folder
    legacy.link_checkpoint(checkpoint.folder, scratch)
    return scratch


def _child() -> Child:
    return Child(
        "pitool.convert.transformers_child",
        name="the process that runs transformers",
        advice="close other programs, or uninstall transformers to verify without it",
    )


def _transformers(child: Child, checkpoint: Checkpoint, folder: Path) -> ForwardPass | None:
    """Return transformers' forward pass, None where it does not run this model."""
    adapters = checkpoint.source.adapters
    try:
        found, _ = child.call(
            "open",
            folder=str(folder),
            adapters=[str(adapter.folder) for adapter in adapters],
            scales=[adapter.scale for adapter in adapters],
            streamed=is_large(_wide(checkpoint), memory.available()),
        )
    except (BadInput, WorkerDied):
        return None

    def logits(ids: Sequence[int], noise: float, on_layer: OnLayer) -> NDArray[np.float32]:
        shape, payload = child.call("logits", lambda _event: on_layer(), ids=list(ids), noise=noise)
        return np.frombuffer(payload, np.float32).reshape(shape)

    return ForwardPass(f"transformers {found['version']}", found["layers"], logits)


def _wide(checkpoint: Checkpoint) -> int:
    """Return the bytes of a checkpoint in float32."""
    return 4 * sum(prod(tensor.shape) for tensor in checkpoint.tensors.values())


def _own(checkpoint: Checkpoint) -> ForwardPass:
    def logits(ids: Sequence[int], noise: float, on_layer: OnLayer) -> NDArray[np.float32]:
        return reference_logits(checkpoint, ids, lambda _done, _all: on_layer(), noise=noise)

    return ForwardPass(OWN, describe(checkpoint.config).sizes.layers, logits)
