"""Verifies artifacts: loads what was written and compares its logits with the checkpoint's.

Owns the certificates of a conversion and the reference that they share, made when the first
artifact is loaded. Never computes a reference with the code it judges, except where a family has
no forward pass here; the certificate then says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.bundles import Runnable
from pitool.catalog.manifest import Certificate
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.reading import read_text
from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation
from pitool.checkpoint.config import GGUF
from pitool.checkpoint.source import Checkpoint, find_source, open_checkpoint
from pitool.convert.engines import OpenEngine
from pitool.convert.reference import covers, reference_logits
from pitool.errors import BadInput, PitoolError, panics_raised
from pitool.planning.onnx_weights import OnnxQuantisation
from pitool.quality import compact
from pitool.quality.compact import CompactReference
from pitool.quality.divergence import WINDOW, Divergence, score, summarise, unscored
from pitool.quality.health import AnswerCheck, LogitsEngine, OpenArtifact, windows_of
from pitool.report.numbers import compare_fixed, format_significant
from pitool.report.progress import Progress, stage_of

# Mean KL divergence that casts to 16 bits and a different order of summation can cause.
EXACT_KL = 2e-3
# Models with fewer weights, and the number of tokens that their reference covers.
TOKENS = ((50_000_000, 2048), (500_000_000, 1024))
TOKENS_OF_LARGE = 128

TEXT = """A Raspberry Pi is a small computer. It was made so that people could learn how to \
write programs, and it costs about as much as a meal for two. In the morning the children \
opened the box, put the card into the slot and waited. "It works!" said the girl, and her \
brother wrote the first line: print("hello, world"). The screen answered at once. They counted \
from 1 to 10, then to 1000, and asked how far the numbers would go. Their mother smiled and \
said that nobody had ever reached the end. Outside it was raining; the trees were green and the \
river was high. After lunch they built a lamp that turned on when it got dark, and a bell that \
rang when somebody came to the door."""


AnyQuantisation = Quantisation | OnnxQuantisation


@dataclass(frozen=True, slots=True)
class Reference:
    """A text in windows of token ids, the logits of each window, and the name of the text.

    ``of``: whose logits these are: the checkpoint's, by our forward pass, or those of the first
    float artifact for a family that it does not cover. ``compact``: the part that is stored in
    the bundle.
    """

    text: str
    windows: list[list[int]]
    logits: list[NDArray[np.float32]]
    compact: CompactReference
    of: str = "{} in float32"


def tokens_to_compare(parameters: int) -> int:
    """Return the number of tokens that a reference covers: fewer for a large model."""
    return next((tokens for most, tokens in TOKENS if parameters < most), TOKENS_OF_LARGE)


def make_reference(
    checkpoint: Checkpoint,
    engine: LogitsEngine,
    tokens: int,
    on_layer: Callable[[int, int], None],
    text_file: Path | None = None,
) -> Reference:
    """Return the reference for a text: a file, the checkpoint's held-out text, or ``TEXT``.

    PitoolError when the artifact tokenizes the text differently from tokenizer.json.
    """
    held_out = text_file or checkpoint.source.text
    text = read_text(held_out) if held_out else TEXT
    text, expected = _known_words(checkpoint, text[: tokens * 8])
    ids = engine.tokenize(text)
    if expected is not None and expected != ids:
        pairs = zip_longest(expected, ids)
        at = next(i for i, (want, got) in enumerate(pairs) if want != got)
        raise PitoolError(
            f"the artifact tokenizes text differently from tokenizer.json, starting at token {at}",
            "report this model: its tokenizer was not converted correctly",
        )
    ids = ids[:tokens]
    name = held_out.name if held_out else "built-in"
    cut = windows_of(engine, ids)
    if covers(checkpoint.config):
        logits = [reference_logits(checkpoint, window, on_layer) for window in cut]
        return Reference(name, cut, logits, compact.make(cut, logits))
    logits = [engine.logits(window) for window in cut]
    of = f"the {'' if checkpoint.config.model_type == GGUF else 'float '}GGUF of {{}} in llama.cpp"
    return Reference(name, cut, logits, compact.make(cut, logits), of)


def _known_words(checkpoint: Checkpoint, text: str) -> tuple[str, list[int] | None]:
    """Return the text and its tokens by tokenizer.json, None if there is no such file.

    Words with unknown tokens are left out, because runtimes legitimately differ on them.
    """
    path = checkpoint.folder / "tokenizer.json"
    if not path.is_file():
        return text, None
    from tokenizers import Tokenizer

    try:
        with panics_raised():
            tokenizer = Tokenizer.from_file(str(path))
            unknown = getattr(tokenizer.model, "unk_token", None)
            if unknown and unknown in tokenizer.encode(text).tokens:
                spelled = [w for w in text.split() if unknown not in tokenizer.encode(w).tokens]
                text = " ".join(spelled)
            return text, tokenizer.encode(text).ids
    except Exception as error:
        raise BadInput(f"cannot read {path} ({error})", "download it again") from None


def certify(
    engine: LogitsEngine, reference: Reference, quantisation: AnyQuantisation, source: str
) -> Certificate:
    """Return the measured quality; PitoolError when only a fault explains it.

    A float artifact must equal the checkpoint except for rounding; a quantised one must still be
    clearly better than chance.
    """
    logits = [engine.logits(ids) for ids in reference.windows]
    if not all(np.isfinite(window).all() for window in logits):
        raise PitoolError(
            f"{quantisation.name} produces logits that are not finite",
            "choose another quantisation",
        )
    result = diverge(reference, logits)
    chance = math.log(logits[0].shape[-1])
    if result.mean_kl > (chance / 2 if quantisation.quantised else EXACT_KL):
        raise PitoolError(
            f"{quantisation.name} differs from the checkpoint by a mean KL divergence of"
            f" {format_significant(result.mean_kl)}, more than rounding explains",
            "report this model: it was not converted correctly",
        )
    return certificate(result, logits, reference, source)


def check_worst(certificates: Mapping[str, Certificate], worst: float | None) -> None:
    """Raise PitoolError when an artifact is worse than the mean KL divergence ``worst``."""
    for name, certificate in certificates.items():
        if worst is not None and certificate.mean_kl > worst:
            found, most = compare_fixed(certificate.mean_kl, worst, digits=4)
            raise PitoolError(
                f"{name} has a mean KL divergence of {found}, above --max-kld {most}",
                "choose a larger --quant or --size",
            )


def diverge(reference: Reference, logits: Sequence[NDArray[np.float32]]) -> Divergence:
    """Return the divergence of logits, one array (tokens, vocabulary) per window."""
    return summarise(
        [
            score(base, other, ids, unscored(ids))
            for base, other, ids in zip(reference.logits, logits, reference.windows, strict=True)
        ]
    )


def certificate(
    result: Divergence,
    logits: Sequence[NDArray[np.float32]],
    reference: Reference,
    source: str,
) -> Certificate:
    """Return the certificate of an artifact from its logits, one array per window."""
    small = reference.compact
    shown = [rows[: small.ids.shape[1]] for rows in logits[: len(small.ids)]]
    return Certificate(
        reference=reference.of.format(source),
        text=reference.text,
        tokens=result.tokens,
        mean_kl=result.mean_kl,
        max_kl=result.max_kl,
        top1=result.top1,
        perplexity=result.perplexity,
        reference_perplexity=result.base_perplexity,
        median_kl=result.median_kl,
        p99_kl=result.p99_kl,
        compact_kl=compact.compare(small, shown).mean_kl,
    )


class Certifier:
    """Certifies the artifacts of a bundle; writes the compact reference into its ``folder``."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: ModelShape,
        folder: Path,
        open_engine: OpenEngine,
        progress: Progress,
    ) -> None:
        self._checkpoint, self._layers, self._folder = checkpoint, model.layers, folder
        self._open_engine, self._progress = open_engine, progress
        self._tokens = tokens_to_compare(model.parameters)
        self._reference: Reference | None = None

    @property
    def has_reference(self) -> bool:
        """Whether the reference was made."""
        return self._reference is not None

    def certify(self, entry: Path, kind: AnyQuantisation) -> Certificate:
        """Return the measured quality of an artifact.

        For a family without a forward pass here the first artifact must be a float one: its
        logits become the reference.
        """
        with self._open_engine(entry, min(self._tokens, WINDOW)) as engine:
            reference = self._reference or self._make_reference(engine, entry)
            self._progress.stage(f"verifying {kind.name}", 1)
            found = certify(engine, reference, kind, self._checkpoint.source.id)
            self._progress.advance(1)
        return found

    def _make_reference(self, engine: LogitsEngine, entry: Path) -> Reference:
        progress = self._progress
        progress.stage("computing the reference", self._layers)
        made = make_reference(
            self._checkpoint, engine, self._tokens, lambda _done, _all: progress.advance(1)
        )
        if entry.is_dir() and not covers(self._checkpoint.config):
            made = replace(made, of="the float ONNX graph of {}")
        compact.write(self._folder / compact.FILE_NAME, made.compact)
        self._reference = made
        return made


def check_against_checkpoint(
    runnables: Sequence[Runnable],
    name: str,
    text: Path | None,
    open_artifact: OpenArtifact,
    progress: Progress,
) -> Iterator[AnswerCheck]:
    """Yield how each artifact answers beside the checkpoint of that name itself."""
    source = find_source(name, "8gb")
    if source.folder is None:
        raise BadInput(f"{name!r} is not on this machine", "use a checkpoint folder")
    checkpoint = open_checkpoint(source)
    if not covers(checkpoint.config):
        raise BadInput(
            f"{name!r} belongs to a family that the float32 reference does not support",
            "drop --reference to use the reference in the bundle",
        )
    reference: Reference | None = None
    for runnable in runnables:
        assert runnable.artifact  # it is one of a bundle
        tokens = tokens_to_compare(runnable.artifact.parameters)
        with open_artifact(runnable, tokens) as engine:
            if reference is None:
                on_layer = stage_of(progress, f"computing the reference of {source.id}")
                reference = make_reference(checkpoint, engine, tokens, on_layer, text)
            progress.stage(f"running {runnable.quantisation}", 1)
            unknown = Quantisation(runnable.quantisation, 0, runnable.quantisation)
            kind = QUANTISATIONS.get(runnable.quantisation, unknown)
            found = certify(engine, reference, kind, source.id)
        known = runnable.artifact.certificate
        yield AnswerCheck(
            quantisation=runnable.quantisation,
            reference=found.reference,
            tokens=found.tokens,
            perplexity=found.perplexity,
            mean_kl=found.mean_kl,
            median_kl=found.median_kl,
            p99_kl=found.p99_kl,
            max_kl=found.max_kl,
            top1=found.top1,
            certified_kl=known.mean_kl if known else None,
        )
