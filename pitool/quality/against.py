"""Certifies an artifact against another one of the same model, where there is no checkpoint.

The other artifact, of more bits, runs first; the rows of its logits that are scored wait on the
disk. Needs no host package: a board does it with what it pulled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pitool.catalog import manifest, reading
from pitool.catalog.bundles import Bundle, Runnable
from pitool.catalog.manifest import Artifact, Certificate
from pitool.catalog.scratch import scratch
from pitool.catalog.staging import check_disk
from pitool.engine.base import Engine
from pitool.errors import BadInput, PitoolError
from pitool.planning.formats import find_format
from pitool.quality import compact, comparison, texts
from pitool.quality.compact import CompactReference
from pitool.quality.comparison import scored_rows
from pitool.quality.divergence import WINDOW
from pitool.quality.health import AnswerCheck, OpenArtifact, answer_check, windows_of
from pitool.quality.kinds import Kind, kind_windows, tokens_beside
from pitool.report.progress import Progress

# Tokens that are read, of which every second is scored.
TOKENS = 2048
LEAST_TOKENS, LEAST_WINDOW = 64, 32


@dataclass(frozen=True, slots=True)
class Other:
    """What the other artifact says: windows of tokens, and its logits of the rows that count.

    ``name``: of the artifact; ``text``: of the text; ``vocabulary``: tokens that it knows;
    ``kinds``: the same of chat, prose and code.
    """

    name: str
    text: str
    windows: list[list[int]]
    logits: list[NDArray[np.float32]]
    compact: CompactReference
    vocabulary: int
    kinds: list[Kind]


def check_against_other(
    bundle: Bundle,
    runnables: Sequence[Runnable],
    other: Runnable,
    text: Path | None,
    open_artifact: OpenArtifact,
    progress: Progress,
) -> Iterator[AnswerCheck]:
    """Yield how each artifact answers beside another one, and certify those that have nothing.

    A certificate against the checkpoint is kept. BadInput where both are not of one model.
    """
    with scratch(bundle.path.parent, f"{bundle.path.name}-against") as folder:
        known = _run(other, text, open_artifact, folder, progress)
        made: dict[str, Certificate] = {}
        checks = []
        for runnable in runnables:
            certificate = _certify(runnable, known, open_artifact, progress)
            made[runnable.quantisation] = certificate
            checks.append(answer_check(runnable, certificate))
        _keep_certificates(bundle, made, known)
    yield from checks


def _run(
    other: Runnable, text: Path | None, open_artifact: OpenArtifact, folder: Path, to: Progress
) -> Other:
    """Return what the other artifact says of a text; its logits go into ``folder``."""
    with open_artifact(other, WINDOW) as engine:
        name, content = _text(engine, text)
        ids = engine.tokenize(content)[:TOKENS]
        if len(ids) < LEAST_TOKENS:
            raise BadInput(f"the text has {len(ids)} tokens", "use a longer text")
        size = engine.info.vocabulary
        # As many logits at once as a board with 1 GB holds beside the model.
        window = max(compact.length(ids[: min(WINDOW, other.context)], size), LEAST_WINDOW)
        windows = windows_of(engine, ids, window)
        others = kind_windows(engine, tokens_beside(len(ids)), window)
        read = [*windows, *(w for each in others.values() for w in each)]
        rows = sum(len(range(len(w))[scored_rows(w)]) for w in read)
        check_disk([(folder, rows * size * 4)])
        to.stage(f"running {other.quantisation} of {other.name}", len(read))
        logits, heads = [], []
        for i, each in enumerate(windows):
            found = engine.logits(each)
            if i < compact.MOST_WINDOWS:
                heads.append(found)
            logits.append(_on_disk(folder / f"{i}.npy", found[scored_rows(each)]))
            to.advance(1)
        kinds = [Kind(kind, own, []) for kind, own in others.items()]
        for kind in kinds:
            for i, each in enumerate(kind.windows):
                found = engine.logits(each)[scored_rows(each)]
                kind.logits.append(_on_disk(folder / f"{kind.name}-{i}.npy", found))
                to.advance(1)
    runtime = find_format(other.format).runtime
    named = f"the {other.quantisation} of {other.name} in {runtime}"
    return Other(named, name, windows, logits, compact.make(windows, heads), size, kinds)


def _text(engine: Engine, text: Path | None) -> tuple[str, str]:
    if text is None:
        return "built-in", texts.built_in(engine.tokenize, TOKENS)
    return text.name, reading.read_text(text)[: TOKENS * 8]


def _on_disk(path: Path, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep an array in a file, which the system may drop from memory."""
    kept = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=rows.shape)
    kept[:] = rows
    return kept


def _certify(
    runnable: Runnable, other: Other, open_artifact: OpenArtifact, progress: Progress
) -> Certificate:
    windows = [*other.windows, *(w for kind in other.kinds for w in kind.windows)]
    progress.stage(f"running {runnable.quantisation} of {runnable.name}", len(windows))
    with open_artifact(runnable, max(map(len, windows))) as engine:
        if engine.info.vocabulary != other.vocabulary:
            raise BadInput(
                f"{runnable.name} has a vocabulary of {engine.info.vocabulary} tokens, and"
                f" {other.name} one of {other.vocabulary}",
                "choose two artifacts of the same model",
            )
        name = f"{runnable.quantisation} of {runnable.name}"
        found = comparison.compare(engine, other, name, progress.advance)
    if found.divergence.mean_kl > math.log(other.vocabulary) / 2:
        raise PitoolError(
            f"{name} answers nothing like {other.name}",
            "choose two artifacts of the same model; if they are, one of them is damaged",
        )
    return comparison.certificate(found, reference=other.name, text=other.text, verified=False)


def _keep_certificates(bundle: Bundle, made: dict[str, Certificate], other: Other) -> None:
    """Write the certificates into the manifest of a bundle that has none against a checkpoint.

    The compact reference goes with them, so that the bundle can be verified later by itself.
    """
    artifacts = bundle.manifest.artifacts
    if any(a.certificate and a.certificate.verified for a in artifacts):
        return

    def certified(artifact: Artifact) -> Artifact:
        found = made.get(artifact.quantisation, artifact.certificate)
        return replace(artifact, certificate=found)

    path = bundle.path / compact.FILE_NAME
    compact.write(path, other.compact)
    changed = replace(
        bundle.manifest,
        artifacts=tuple(certified(artifact) for artifact in artifacts),
        reference=manifest.file_entry(path, bundle.path),
    )
    manifest.write(bundle.path, changed)
