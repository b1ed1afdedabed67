"""The way of a comparison: one technique after the other, the baseline first.

Owns the work folder and what techniques begin with. Results that are kept are not made again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pitool.catalog import manifest
from pitool.catalog.reading import read_text
from pitool.catalog.scratch import scratch
from pitool.checkpoint.source import Checkpoint, Source, open_checkpoint
from pitool.convert.download import download
from pitool.convert.forward import open_forward
from pitool.convert.gguf.model import model_shape
from pitool.convert.reference import Reference, run_reference
from pitool.convert.sources import hash_sources
from pitool.convert.techniques import BASELINE, find_technique
from pitool.convert.techniques.base import ArtifactFiles, Technique
from pitool.convert.techniques.bundle import Provenance, write_bundle
from pitool.convert.techniques.gguf import exact
from pitool.convert.techniques.workbench import Workbench
from pitool.convert.tokens import Tokens
from pitool.convert.verify import certificate, stand_in
from pitool.device import detect
from pitool.errors import PitoolError
from pitool.lab import making, measure
from pitool.lab.material import Material, gather
from pitool.lab.result import Comparison, TechniqueResult
from pitool.lab.store import MaterialNames, ResultStore, versions
from pitool.planning.formats import GGUF
from pitool.quality.calibration import write_text
from pitool.quality.divergence import WINDOW
from pitool.quality.similarity import mean_similarity
from pitool.report.progress import ItemProgress


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What is to be compared, on what.

    ``text``: a file to measure on and calibrate with, None for the checkpoint's own; ``save``:
    folder for the bundles; ``tier``: name and bytes for a model; ``resume``: take
    results that are kept.
    """

    techniques: tuple[Technique, ...]
    prompts: tuple[str, ...]
    text: Path | None = None
    save: Path | None = None
    tier: tuple[str, int] | None = None
    resume: bool = True


def compare(source: Source, options: CompareOptions, progress: ItemProgress) -> Comparison:
    """Return every technique's result; what goes wrong with the baseline is raised."""
    checkpoint = open_checkpoint(download(source, progress, for_gguf=True))
    threads = max(detect.detect().physical_cores, 1)
    text = read_text(options.text) if options.text else ""
    hashed = hash_sources(checkpoint, progress)
    store = ResultStore(hashed, text, options.prompts, detect.cpu_name(), threads)
    if not options.resume:
        store.forget()
    wanted = with_baseline(options.techniques)
    results: list[TechniqueResult] = []
    with ComparisonJob(checkpoint, hashed, options, store, threads, progress) as job:
        for technique in wanted:
            progress.begin(technique.name, len(results), len(wanted))
            results.append(job.result(technique, results[0] if results else None))
    material = store.material()
    return Comparison(
        model=source.id,
        parameters=job.shape.parameters,
        machine=detect.cpu_name(),
        threads=threads,
        text=material.text,
        tokens=material.tokens,
        calibration=material.calibration,
        prompts=options.prompts,
        rows=tuple(results),
        versions=versions(),
        tier=options.tier[0] if options.tier else None,
        budget=options.tier[1] if options.tier else None,
    )


def with_baseline(techniques: Sequence[Technique]) -> tuple[Technique, ...]:
    """Return each technique once, the baseline first: all are compared with it."""
    unique = {technique.name: technique for technique in techniques}
    first = unique.pop(BASELINE, None) or find_technique(BASELINE)
    return (first, *unique.values())


@dataclass(frozen=True, slots=True)
class Prepared:
    """What all techniques share: token windows, and the reference on those that are measured."""

    material: Material
    reference: Reference
    calibration: Path


class ComparisonJob:
    """What results of one comparison share, and the way to each of them.

    A context manager: the work folder is there inside and gone afterwards. The float GGUF, the
    token windows and the reference's logits are made when the first result needs them; a
    comparison whose results are all kept makes nothing.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        source: manifest.Source,
        options: CompareOptions,
        store: ResultStore,
        threads: int,
        progress: ItemProgress,
    ) -> None:
        self._checkpoint, self._source, self._options = checkpoint, source, options
        self._store, self._threads, self._progress = store, threads, progress
        self.shape = model_shape(checkpoint.config)
        self._exits = ExitStack()

    def __enter__(self) -> ComparisonJob:
        self._store.folder.mkdir(parents=True, exist_ok=True)
        self._folder = self._exits.enter_context(scratch(self._store.folder, "work"))
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    @cached_property
    def _prepared(self) -> Prepared:
        bench = Workbench(
            self._checkpoint, self._folder, threads=self._threads, progress=self._progress
        )
        made = ArtifactFiles("gguf", exact(bench))
        with measure.logits_engine(made, WINDOW, self._threads) as engine:
            self._progress.stage("tokenizing the text", 1)
            parameters = self.shape.parameters
            material = gather(
                self._checkpoint,
                engine,
                self._options.text,
                parameters,
                lambda tokens: write_text(made.entry, self._threads, tokens, lambda _: None),
            )
            with open_forward(self._checkpoint) as found:
                reference = run_reference(
                    found or stand_in(engine, is_source=False, is_onnx=False),
                    material.measured_from,
                    material.measured,
                    self._folder,
                    self._progress,
                    self._checkpoint.config,
                )
        calibration = self._folder / "calibration.json"
        calibration.write_text(json.dumps(material.calibration), encoding="utf-8")
        self._store.keep_material(
            MaterialNames(material.measured_from, material.scored, material.calibration_from)
        )
        return Prepared(material, reference, calibration)

    @cached_property
    def _tokens(self) -> Tokens:
        return Tokens(self._checkpoint, self.shape.vocabulary, measure.open_with(self._threads))

    def result(self, technique: Technique, baseline: TechniqueResult | None) -> TechniqueResult:
        """Return a technique's result, kept or made now; a failure is a result with its reason.

        But the baseline's (``baseline`` is None), without which there is no comparison.
        """
        kept = self._store.find(technique) if self._options.resume else None
        if kept and not (
            self._options.save and kept.kernel and not self._saved(technique).is_dir()
        ):
            self._progress.end("already done")
            return kept
        folder = self._folder / technique.name
        folder.mkdir()
        try:
            found = self._make(technique, folder, baseline)
            self._store.keep(technique, found)
        except PitoolError as error:
            if baseline is None:
                raise
            found = plain_result(technique, error=" ".join(error.sentence.split()))
        except OSError as error:
            if baseline is None:
                raise
            found = plain_result(technique, error=f"disk error: {error.strerror or error}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._progress.end(f"failed: {found.error}" if found.error else "")
        return found

    def _make(
        self, technique: Technique, folder: Path, baseline: TechniqueResult | None
    ) -> TechniqueResult:
        """Make an artifact, measure it, and save its bundle where one is wanted."""
        prepared = self._prepared
        order = making.Order(
            self._checkpoint.source,
            technique.name,
            folder,
            self._folder,
            prepared.calibration,
            self._threads,
        )
        outcome = making.make(order, self._progress)
        assembled = outcome.assembled
        self._progress.stage("measuring", 2)
        timed = assembled.kernel is not None
        context = GGUF.context(self.shape, None, self.shape.context)
        answers, running = measure.run(
            assembled.made, self._options.prompts, context, self._threads, timed=timed
        )
        self._progress.advance(1)
        found = measure.difference(assembled.made, prepared.reference, self._threads)
        self._progress.advance(1)
        if self._options.save and timed:
            measured = certificate(found, prepared.reference, self._source.id)
            tier = self._options.tier[0] if self._options.tier else None
            provenance = Provenance(
                self._checkpoint, self._source, prepared.reference, self._tokens, tier
            )
            write_bundle(
                self._saved(technique), technique, assembled, measured, provenance, replace=True
            )
        return plain_result(
            technique,
            note=assembled.note,
            kernel=assembled.kernel,
            format=assembled.made.format,
            bytes=assembled.bytes,
            bits_per_weight=assembled.bits_per_weight,
            planned=assembled.planned,
            convert_seconds=outcome.seconds,
            convert_memory=outcome.memory,
            quality=found.divergence,
            running=running,
            similarity=mean_similarity(answers, baseline.answers if baseline else answers),
            answers=answers,
        )

    def _saved(self, technique: Technique) -> Path:
        assert self._options.save
        return self._options.save / f"{self._source.id.rpartition('/')[2]}-{technique.name}"


def plain_result(technique: Technique, **found: object) -> TechniqueResult:
    """Return a result with what the technique says of itself."""
    said = {
        name: getattr(technique, name)
        for name in ("title", "effect", "source", "bits", "note")
        if name not in found
    }
    needs = tuple(sorted(need.name.lower() for need in technique.needs))
    values = {"technique": technique.name, "needs": needs, **said, **found}
    return TechniqueResult(**values)
