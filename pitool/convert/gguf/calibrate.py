"""The importance matrix of a conversion: read from a file, or collected on a text.

``self`` has the model write the text, so no corpus is needed. The matrix is stored in the bundle
and can be used again with ``--calibration BUNDLE/importance.gguf``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pitool.catalog.files import path_kind
from pitool.catalog.reading import read_text
from pitool.convert import token_counts
from pitool.convert.conversion import Conversion
from pitool.convert.describe import IMPORTANCE
from pitool.convert.effort import Effort
from pitool.convert.gguf import importance
from pitool.convert.gguf.importance import SELF, ImportanceMatrix
from pitool.errors import BadInput, UsageError

_OLD_KIND = (".dat", ".imatrix")
_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class Calibration:
    """A matrix and its file; ``windows``: the token ids it was collected on, none if read."""

    matrix: ImportanceMatrix
    path: Path
    windows: list[list[int]]


def check(calibration: str) -> None:
    """Raise BadInput when a calibration is not ``self``, ``none`` or a file."""
    if calibration not in (SELF, importance.NONE) and path_kind(Path(calibration)) != "file":
        raise BadInput(
            f"--calibration {calibration!r}: no such file",
            "use a text file, a llama.cpp importance matrix, 'self' or 'none'",
        )


def check_effort(calibration: str, effort: Effort) -> None:
    """Raise UsageError when an effort needs a text, and a calibration is none."""
    if not effort.feedback:
        return
    none = calibration == importance.NONE
    if none or (calibration != SELF and is_matrix(Path(calibration))):
        what = "'none'" if none else f"an importance matrix, {calibration}"
        raise UsageError(
            f"--effort {effort.name} needs a calibration text, but --calibration is {what}",
            "use --calibration FILE, --calibration self, or --effort fast",
        )


def calibrate(work: Conversion, exact: Path) -> Calibration:
    """Return the calibration that the job asks for, run on the float GGUF ``exact``."""
    asked, target = work.job.calibration, work.folder / IMPORTANCE
    file = Path(asked)
    text: list[list[int]] = []
    if asked != SELF and is_matrix(file):
        matrix = importance.read(file)
    else:
        text = windows(work, exact)
        name = SELF if asked == SELF else file.name
        work.progress.stage("collecting the importance matrix", len(text))
        with work.engines.open_calibrator(exact) as engine:
            matrix = importance.collect(engine, text, name, work.progress.advance)
    importance.write(target, matrix)
    return Calibration(matrix, target, text)


def is_matrix(path: Path) -> bool:
    """Tell whether a file is an importance matrix and no text."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC or path.suffix in _OLD_KIND


def windows(work: Conversion, exact: Path) -> list[list[int]]:
    """Return the calibration text in windows of token ids; ``exact``: a float GGUF."""
    if work.job.calibration not in work.texts:
        work.texts[work.job.calibration] = _find_text(work, exact)
    return work.texts[work.job.calibration]


def _find_text(work: Conversion, exact: Path) -> list[list[int]]:
    count = work.job.effort.tokens or token_counts.CALIBRATION
    tokens = count.find(work.plan.model.parameters)
    asked = work.job.calibration
    if asked == SELF:
        work.progress.stage("generating a calibration text", tokens)
        found = work.engines.write_text(exact, tokens, work.progress.advance)
    else:
        text = read_text(Path(asked))
        with work.tokens.open(exact, importance.WINDOW) as engine:
            ids = engine.tokenize(text[: tokens * 8])[:tokens]
        window = min(importance.WINDOW, work.plan.model.context)
        found = importance.join([ids], window)
    if sum(map(len, found)) < 2:
        raise BadInput(
            f"--calibration {asked!r}: the text is too short",
            "use a longer text, or use --calibration none",
        )
    return found
