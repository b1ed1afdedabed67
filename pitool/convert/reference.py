"""What artifacts are compared with: a text in tokens, and the checkpoint's logits on it.

Owns the choice of the text and the logits, which are kept on disk. Whose forward pass they come
from is ``forward``'s choice; what a difference means is ``verify``'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pitool.catalog import reading
from pitool.checkpoint.config import GGUF, Config
from pitool.checkpoint.source import Checkpoint
from pitool.convert.forward import ForwardPass
from pitool.convert.scope import packed, routed, unseen
from pitool.convert.token_counts import LEAST_TOKENS
from pitool.convert.tokens import spelled
from pitool.errors import PitoolError
from pitool.quality import compact, texts
from pitool.quality.compact import CompactReference
from pitool.quality.comparison import scored_rows
from pitool.quality.divergence import WINDOW, spread_share, squares
from pitool.quality.health import LogitsEngine, windows_of
from pitool.quality.kinds import Kind, Windows, kind_windows, tokens_beside
from pitool.report.progress import Progress

RANDOM = "random tokens"
# The largest relative error of rounding to nearest.
PRECISIONS = {"F16": 2.0**-11, "BF16": 2.0**-8}


@dataclass(frozen=True, slots=True)
class Reference:
    """A text in windows of token ids, and the float32 logits of the rows that are scored.

    ``text`` is its name; ``of``: whose logits these are; ``verified``: they are the checkpoint's
    and not an artifact's. ``compact``: the part that is stored in the bundle. ``rounding``: by
    float type, the error that its precision alone makes in the checkpoint's weights; empty where
    an artifact stands in. ``unseen``: as a certificate has it. ``routed``: tokens go to experts,
    and some to others by any rounding, so that only the ``typical`` error tells a fault.
    ``packed``: experts are in few bits in every artifact, which is judged as a quantised one.
    ``kinds``: chat, prose and code, read beside the text.
    """

    text: str
    windows: list[list[int]]
    logits: list[NDArray[np.float32]]
    compact: CompactReference
    of: str
    verified: bool
    rounding: Mapping[str, float] = field(default_factory=dict)
    unseen: str = ""
    routed: bool = False
    packed: bool = False
    kinds: tuple[Kind, ...] = ()


def make_reference(
    checkpoint: Checkpoint,
    engine: LogitsEngine,
    forward: ForwardPass,
    tokens: int,
    window: int,
    folder: Path,
    progress: Progress,
    text_file: Path | None = None,
) -> Reference:
    """Return the reference for a text: a file, the checkpoint's held-out text, or the built-in.

    ``window``: tokens that are read at once, the model's context at most. Logits are kept in
    ``folder``. PitoolError when the artifact tokenizes the text differently from tokenizer.json.
    """
    name, ids = _text(checkpoint, engine, tokens, text_file)
    window = min(window, WINDOW)
    windows = windows_of(engine, ids[:tokens], window)
    others = {} if name == RANDOM else kind_windows(engine, tokens_beside(tokens), window)
    return run_reference(forward, name, windows, folder, progress, checkpoint.config, others)


def run_reference(
    forward: ForwardPass,
    name: str,
    windows: list[list[int]],
    folder: Path,
    progress: Progress,
    config: Config | None = None,
    others: Mapping[str, Windows] = MappingProxyType({}),
) -> Reference:
    """Return the reference for windows of a text of that name, its logits kept in ``folder``.

    ``config``: of the checkpoint, where it is one; ``others``: windows of other kinds of text.
    """
    known = config if config and config.model_type != GGUF else None
    whose = forward.of.replace(" of {}", "")
    count = len(windows) + sum(map(len, others.values()))
    progress.stage(f"computing the reference with {whose}", count * forward.layers)
    logits, heads = [], []
    for i, ids in enumerate(windows):
        rows = forward.logits(ids, 0.0, lambda: progress.advance(1))
        if i < compact.MOST_WINDOWS:
            heads.append(rows[: compact.length(ids, rows.shape[-1])].copy())
        logits.append(_keep(folder / f".logits-{i}.npy", rows[scored_rows(ids)]))
    kinds = [Kind(kind, own, []) for kind, own in others.items()]
    for kind in kinds:
        for i, ids in enumerate(kind.windows):
            rows = forward.logits(ids, 0.0, lambda: progress.advance(1))[scored_rows(ids)]
            kind.logits.append(_keep(folder / f".logits-{kind.name}-{i}.npy", rows))
    of = forward.of if forward.stands_in else f"{{}} in {forward.of}, float32"
    small = compact.make(windows, heads)
    made = Reference(
        name, windows, logits, small, of, forward.verified,
        unseen=unseen(known, max(map(len, windows))) if known else "",
        routed=known is not None and routed(known),
        packed=known is not None and packed(known),
        kinds=tuple(kinds),
    )  # fmt: skip
    if forward.stands_in or made.packed:
        return made
    return replace(made, rounding=_rounding(forward, made, progress))


def _rounding(forward: ForwardPass, reference: Reference, progress: Progress) -> dict[str, float]:
    """Return the error that the precision of each float type makes in the first window.

    By noise and not by rounding: weights may lie on the type's grid already, and the runtime
    still rounds what it computes from them.
    """
    progress.stage("measuring rounding errors", len(PRECISIONS) * forward.layers)
    found = {}
    ids, exact = reference.windows[0], reference.logits[0]
    middle = np.median if reference.routed else np.mean
    for kind, precision in PRECISIONS.items():
        rows = forward.logits(ids, precision, lambda: progress.advance(1))
        found[kind] = spread_share(squares(exact, rows[scored_rows(ids)]), middle)
    return found


def _keep(path: Path, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep an array in a file that has no name any more, which the system may drop from memory."""
    kept = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=rows.shape)
    kept[:] = rows
    path.unlink()
    return kept


def _text(
    checkpoint: Checkpoint, engine: LogitsEngine, tokens: int, text_file: Path | None
) -> tuple[str, list[int]]:
    """Return the name of the text and its tokens."""
    held_out = text_file or checkpoint.source.text
    if held_out:
        name, text = held_out.name, reading.read_text(held_out)[: tokens * 8]
    else:
        name, text = "built-in", texts.built_in(engine.tokenize, tokens)
    text, expected = spelled(checkpoint, text)
    ids = engine.tokenize(text)
    if expected is not None and expected != ids:
        pairs = zip_longest(expected, ids)
        at = next(i for i, (want, got) in enumerate(pairs) if want != got)
        raise PitoolError(
            f"the artifact tokenizes text differently from tokenizer.json, starting at token {at}",
            "report this model: its tokenizer was not converted correctly",
        )
    if len(ids) >= LEAST_TOKENS or held_out:
        return name, ids
    vocabulary = checkpoint.config.text_model().count("vocab_size")
    return RANDOM, np.random.default_rng(0).integers(0, vocabulary, 2 * WINDOW).tolist()
