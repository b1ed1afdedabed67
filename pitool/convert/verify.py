"""Verifies an artifact: loads what was written and compares logits with the checkpoint's own.

Handed an engine; the reference is ``reference.reference_logits``. The result is the certificate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pitool.catalog.bundles import Runnable
from pitool.catalog.manifest import Certificate
from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation
from pitool.checkpoint.config import GGUF
from pitool.checkpoint.source import Checkpoint, find_source, open_checkpoint
from pitool.convert.reference import covers, reference_logits
from pitool.errors import BadInput, PitoolError
from pitool.planning.onnx_weights import OnnxQuantisation
from pitool.quality import compact
from pitool.quality.compact import CompactReference
from pitool.quality.divergence import Divergence, score, summarise, unscored
from pitool.quality.health import AnswerCheck, LogitsEngine, OpenArtifact, windows_of

# Mean KL divergence that casts to 16 bits and another order of summation may cause.
EXACT_KL = 2e-3
# Models up to so many weights, and how many tokens their reference is computed for.
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


Kind = Quantisation | OnnxQuantisation
OpenEngine = Callable[[Path, int], AbstractContextManager[LogitsEngine]]
"""Loads a GGUF file or an ONNX folder with room for so many tokens."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A text in windows of token ids, the logits for each, and the name of the text.

    ``of``: whose logits they are: the checkpoint's by our own forward pass, or, for a family
    that it does not cover, those of the first float artifact. ``compact``: what of it travels in
    the bundle.
    """

    text: str
    windows: list[list[int]]
    logits: list[NDArray[np.float32]]
    compact: CompactReference
    of: str = "{} in float32"


def tokens_to_compare(parameters: int) -> int:
    """Return how many tokens a reference is computed for: fewer for a large model."""
    return next((tokens for most, tokens in TOKENS if parameters < most), TOKENS_OF_LARGE)


def make_reference(
    checkpoint: Checkpoint,
    engine: LogitsEngine,
    tokens: int,
    on_layer: Callable[[int, int], None],
    text_file: Path | None = None,
) -> Reference:
    """Return the reference for a text: a file's, the checkpoint's held-out one, or ``TEXT``.

    PitoolError when the artifact splits the text into other tokens than tokenizer.json does.
    """
    held_out = text_file or checkpoint.source.text
    text = held_out.read_text(encoding="utf-8") if held_out else TEXT
    text, expected = _known_words(checkpoint, text[: tokens * 8])
    ids = engine.tokenize(text)
    if expected is not None and expected != ids:
        pairs = zip_longest(expected, ids)
        at = next(i for i, (want, got) in enumerate(pairs) if want != got)
        raise PitoolError(
            f"the artifact splits text into other tokens than tokenizer.json, from token {at} on",
            "report this model: its tokenizer is not converted rightly",
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
    """Return the text and its tokens by tokenizer.json, None where there is no such file.

    Words that the tokenizer cannot spell are left out: their tokens are a matter of taste.
    """
    path = checkpoint.folder / "tokenizer.json"
    if not path.is_file():
        return text, None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise BadInput(f"{path} cannot be read ({error})", "download it again") from None
    unknown = getattr(tokenizer.model, "unk_token", None)
    if unknown and unknown in tokenizer.encode(text).tokens:
        spelled = [w for w in text.split() if unknown not in tokenizer.encode(w).tokens]
        text = " ".join(spelled)
    return text, tokenizer.encode(text).ids


def certify(
    engine: LogitsEngine, reference: Reference, quantisation: Kind, source: str
) -> Certificate:
    """Return the measured quality; PitoolError when it can only be a fault.

    A float artifact must equal the checkpoint but for rounding; a quantised one must still know
    more than chance.
    """
    logits = [engine.logits(ids) for ids in reference.windows]
    if not all(np.isfinite(window).all() for window in logits):
        raise PitoolError(
            f"{quantisation.name} gives logits that are not finite", "use another quantisation"
        )
    result = diverge(reference, logits)
    chance = math.log(logits[0].shape[-1])
    if result.mean_kl > (chance / 2 if quantisation.quantised else EXACT_KL):
        raise PitoolError(
            f"{quantisation.name} differs from the checkpoint by a mean KL divergence of"
            f" {result.mean_kl:.3g}",
            "report this model: its conversion is wrong",
        )
    return certificate(result, logits, reference, source)


def check_worst(certificates: Mapping[str, Certificate], worst: float | None) -> None:
    """Raise PitoolError when an artifact is worse than the mean KL divergence ``worst``."""
    for name, certificate in certificates.items():
        if worst is not None and certificate.mean_kl > worst:
            raise PitoolError(
                f"{name} has a mean KL divergence of {certificate.mean_kl:.4g}, more than"
                f" the {worst:g} of --max-kld",
                "take a larger --quant or --size",
            )


def diverge(reference: Reference, logits: Sequence[NDArray[np.float32]]) -> Divergence:
    """Return how far logits, one array (tokens, vocabulary) a window, are from the reference."""
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
    """Return the certificate of an artifact with these logits, one array a window."""
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


def check_against_checkpoint(
    runnables: Sequence[Runnable],
    name: str,
    text: Path | None,
    open_artifact: OpenArtifact,
    say: Callable[[str], object],
) -> Iterator[AnswerCheck]:
    """Yield how each artifact answers beside the checkpoint of that name itself."""
    source = find_source(name, "8gb")
    if source.folder is None:
        raise BadInput(f"{name!r} is not on this machine", "name a checkpoint folder")
    checkpoint = open_checkpoint(source)
    if not covers(checkpoint.config):
        raise BadInput(
            f"{name!r} is of a family that has no forward pass in float32 here",
            "verify without --reference: the bundle carries one",
        )
    reference: Reference | None = None
    for runnable in runnables:
        assert runnable.artifact  # it is one of a bundle
        tokens = tokens_to_compare(runnable.artifact.parameters)
        with open_artifact(runnable, tokens) as engine:
            if reference is None:
                say(f"computing the reference of {source.id}")
                reference = make_reference(checkpoint, engine, tokens, lambda *_: None, text)
            say(f"running {runnable.quantisation}")
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
