"""Verifies artifacts: loads what was written and judges how its logits differ from the checkpoint.

Owns the certificates of a conversion and what differences they allow. The reference is made once,
when the first artifact is loaded, by the forward pass that ``forward`` finds; where nobody has one
the first artifact stands in, and every certificate says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from pitool.catalog import cache
from pitool.catalog.bundles import Runnable
from pitool.catalog.manifest import Certificate
from pitool.catalog.model_shape import ModelShape
from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation
from pitool.checkpoint.config import GGUF
from pitool.checkpoint.source import Checkpoint, find_source, open_checkpoint
from pitool.convert import token_counts
from pitool.convert.engines import OpenEngine
from pitool.convert.forward import ForwardPass, open_forward, over_kept
from pitool.convert.reference import Reference, make_reference
from pitool.convert.trim.kept import read_kept
from pitool.convert.trim.source import retrim
from pitool.errors import BadInput, PitoolError
from pitool.planning.formats import FORMATS
from pitool.planning.onnx_weights import OnnxQuantisation
from pitool.quality import compact, comparison
from pitool.quality.comparison import Difference
from pitool.quality.divergence import WINDOW
from pitool.quality.health import AnswerCheck, LogitsEngine, OpenArtifact, answer_check
from pitool.report.numbers import compare_fixed, format_share, format_significant
from pitool.report.progress import Progress

# The float type whose rounding bounds an artifact's: both its weights, and what the runtime rounds
# on the way, such as the KV cache of float32 weights. A float32 graph rounds nothing.
ROUNDED_AS = {"F32": "F16", "F16": "F16", "FP16": "F16", "BF16": "BF16"}
# How much more than the weights alone the roundings on the way may cause.
MOST_ROUNDING = 4.0
LEAST_ERROR = 1e-3
# The same of the median token where nothing is rounded but what llama.cpp looks up: its GELU comes
# from a table of float16.
EXACT_ERROR = 2e-3
# Mean KL divergence between float artifacts where there is nothing to measure rounding with.
EXACT_KL = 2e-3

AnyQuantisation = Quantisation | OnnxQuantisation


def certify(
    engine: LogitsEngine, reference: Reference, quantisation: AnyQuantisation, source: str
) -> Certificate:
    """Return the measured quality; PitoolError when only a fault explains it.

    A float artifact must equal the checkpoint except for rounding; a quantised one must still be
    clearly better than chance.
    """
    found = comparison.compare(engine, reference, quantisation.name)
    check(found, reference, quantisation)
    return certificate(found, reference, source)


def check(found: Difference, reference: Reference, quantisation: AnyQuantisation) -> None:
    """Raise PitoolError when an artifact differs more than its type explains."""
    divergence = found.divergence.mean_kl
    error = found.typical if reference.routed else found.error
    if quantisation.quantised or reference.packed:
        wrong = divergence > math.log(reference.logits[0].shape[-1]) / 2
    elif reference.rounding:
        rounding = reference.rounding.get(ROUNDED_AS.get(quantisation.name, ""), 0.0)
        wrong = error > max(MOST_ROUNDING * rounding, LEAST_ERROR)
    else:
        wrong = divergence > EXACT_KL
    if wrong:
        raise PitoolError(
            f"{quantisation.name} differs from the checkpoint by a mean KL divergence of"
            f" {format_significant(divergence)} and by {format_share(error, 1)} of the"
            " logits' spread, more than rounding explains",
            "report this model: it was not converted correctly",
        )


def check_worst(certificates: Mapping[str, Certificate], worst: float | None) -> None:
    """Raise PitoolError when an artifact is worse than the mean KL divergence ``worst``."""
    for name, certificate in certificates.items():
        if worst is not None and certificate.mean_kl > worst:
            found, most = compare_fixed(certificate.mean_kl, worst, digits=4)
            raise PitoolError(
                f"{name} has a mean KL divergence of {found}, above --max-kld {most}",
                "choose a larger --quant or --size",
            )


def certificate(found: Difference, reference: Reference, source: str) -> Certificate:
    """Return the certificate of an artifact from its comparison."""
    return comparison.certificate(
        found,
        reference=reference.of.format(source),
        text=reference.text,
        verified=reference.verified,
        unseen=reference.unseen,
    )


class Certifier:
    """Certifies the artifacts of a bundle; writes the compact reference into its ``folder``.

    ``open_exact`` opens a GGUF so that llama.cpp rounds as little as it can. A context manager:
    transformers may run beside it until the reference is made.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: ModelShape,
        folder: Path,
        open_engine: OpenEngine,
        open_exact: OpenEngine,
        progress: Progress,
    ) -> None:
        self._checkpoint, self._folder = checkpoint, folder
        self._open_engine, self._open_exact, self._progress = open_engine, open_exact, progress
        self._tokens = token_counts.REFERENCE.find(model.parameters)
        # Within what every artifact computes as the checkpoint does.
        self._window = min(form.context(model, None, WINDOW) for form in FORMATS.values())
        self._reference: Reference | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Certifier:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @cached_property
    def _forward(self) -> ForwardPass | None:
        self._progress.stage("opening the checkpoint", 1)
        found = self._opened.enter_context(open_forward(self._checkpoint))
        if found is None and (whole := self._checkpoint.whole) and whole.config.model_type == GGUF:
            engine = self._opened.enter_context(self._open_engine(whole.folder, self._window))
            found = over_kept(stand_in(engine, is_source=True, is_onnx=False), self._checkpoint)
        self._progress.advance(1)
        return found

    @property
    def needs_float(self) -> bool:
        """Whether the next artifact stands in for the checkpoint, and so must be a float one."""
        return self._reference is None and self._forward is None

    def certify(self, entry: Path, kind: AnyQuantisation) -> Certificate:
        """Return the measured quality of an artifact, a float one where that is needed."""
        with self._open_engine(entry, self._window) as engine:
            reference = self._reference or self._make_reference(engine, entry, kind)
            self._progress.stage(f"verifying {kind.name}", 1)
            found = certify(engine, reference, kind, self._checkpoint.source.id)
            self._progress.advance(1)
        return found

    def check_reading(self, entry: Path) -> None:
        """Raise PitoolError where a GGUF in F32 is read otherwise than the checkpoint.

        Nothing rounds there, so that no misreading passes for rounding, however small. Where
        nobody has a forward pass there is nothing to compare with.
        """
        if self._forward is None:
            return
        kind = QUANTISATIONS["F32"]
        with self._open_exact(entry, self._window) as engine:
            reference = self._reference or self._make_reference(engine, entry, kind)
            found = comparison.compare(engine, reference, kind.name)
        if found.typical > EXACT_ERROR:
            raise PitoolError(
                f"llama.cpp's own converter reads this model differently from {self._forward.of}:"
                " without rounding, the logits of every second token differ by"
                f" {format_share(found.typical, 1)} of their spread or more",
                "try --format onnx, or report this model to llama.cpp",
            )

    def _make_reference(
        self, engine: LogitsEngine, entry: Path, kind: AnyQuantisation
    ) -> Reference:
        is_source = self._checkpoint.config.model_type == GGUF
        assert self._forward or is_source or not kind.quantised
        forward = self._forward or stand_in(engine, is_source=is_source, is_onnx=entry.is_dir())
        made = make_reference(
            self._checkpoint, engine, forward, self._tokens, self._window,
            self._folder, self._progress,
        )  # fmt: skip
        self._opened.close()
        compact.write(self._folder / compact.FILE_NAME, made.compact)
        self._reference = made
        return made


def stand_in(engine: LogitsEngine, *, is_source: bool, is_onnx: bool) -> ForwardPass:
    """Return a float artifact's forward pass; ``is_source``: it is itself what is converted."""
    kind = "the " if is_source else "the float "
    name = kind + ("ONNX graph of {} in onnxruntime" if is_onnx else "GGUF of {} in llama.cpp")
    return ForwardPass(
        name,
        1,
        lambda ids, _noise, _on_layer: engine.logits(ids),
        stands_in=True,
        verified=is_source,
    )


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
    reference: Reference | None = None
    with cache.working("reference") as folder, cache.working("vocabulary") as scratch:
        kept = read_kept(runnables[0].entry.parent) if runnables else None
        checkpoint = open_checkpoint(retrim(source, kept, scratch) if kept else source)
        for runnable in runnables:
            assert runnable.artifact  # it is one of a bundle
            window = min(WINDOW, runnable.artifact.context)
            with open_artifact(runnable, window) as engine:
                if reference is None:
                    tokens = token_counts.REFERENCE.find(runnable.artifact.parameters)
                    with _forward_of(checkpoint, name) as forward:
                        reference = make_reference(
                            checkpoint, engine, forward, tokens, window,
                            folder, progress, text,
                        )  # fmt: skip
                progress.stage(f"running {runnable.quantisation}", 1)
                unknown = Quantisation(runnable.quantisation, 0, runnable.quantisation)
                kind = QUANTISATIONS.get(runnable.quantisation, unknown)
                found = certify(engine, reference, kind, source.id)
            yield answer_check(runnable, found)


@contextmanager
def _forward_of(checkpoint: Checkpoint, name: str) -> Iterator[ForwardPass]:
    """Give the forward pass of the checkpoint of that name; BadInput where nobody has one."""
    with open_forward(checkpoint) as found:
        if found is None:
            raise BadInput(
                f"neither transformers nor pitool has a forward pass for {name!r} here",
                "install transformers, or drop --reference to use the reference in the bundle",
            )
        yield found
