"""One comparison's work: the folder, what techniques begin with, and the way to one row.

The float GGUF, the token windows and the reference's logits are made when the first row needs
them; a comparison whose rows are all done makes nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from pitool.catalog.manifest import Source
from pitool.checkpoint.source import Checkpoint
from pitool.convert.gguf.model import model_shape
from pitool.convert.progress import Progress
from pitool.convert.reference import covers, reference_logits
from pitool.convert.staging import alive
from pitool.convert.techniques.base import Made, Technique
from pitool.convert.techniques.bundle import Origin, write_bundle
from pitool.convert.techniques.gguf import exact
from pitool.convert.techniques.workbench import Workbench
from pitool.convert.verify import Reference, certificate, diverge
from pitool.errors import PitoolError
from pitool.lab import making, measure
from pitool.lab.material import Material, gather
from pitool.lab.results import Results, Stood
from pitool.lab.row import Row
from pitool.quality import compact
from pitool.quality.similarity import mean_similarity


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be compared, on what.

    ``text``: a file to measure on and calibrate with, None for the checkpoint's own; ``save``:
    folder for the bundles; ``tier``: name and bytes for a model; ``resume``: take rows that are
    done from before.
    """

    techniques: tuple[Technique, ...]
    prompts: tuple[str, ...]
    text: Path | None = None
    save: Path | None = None
    tier: tuple[str, int] | None = None
    resume: bool = True


class Watch(Progress, Protocol):
    """What a comparison tells while it works, beside the stages of a technique."""

    def begin(self, done: int, total: int, technique: Technique) -> None:
        """Begin a technique; ``done`` of ``total`` are."""

    def end(self, row: Row, *, kept: bool) -> None:
        """End it; ``kept``: the row is from before."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What all techniques share: token windows, and the reference on those that are measured."""

    material: Material
    reference: Reference
    calibration: Path


class Session:
    """A context manager: the work folder is there inside and gone afterwards."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        source: Source,
        wish: Wish,
        results: Results,
        threads: int,
        watch: Watch,
    ) -> None:
        self._checkpoint, self._source, self._wish = checkpoint, source, wish
        self._results, self._threads, self._watch = results, threads, watch
        self.shape = model_shape(checkpoint.config)
        self._folder = results.folder / f"work.{os.getpid()}"

    def __enter__(self) -> Session:
        self._results.folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(self._results.folder)
        self._folder.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    @cached_property
    def _prepared(self) -> Prepared:
        bench = Workbench(
            self._checkpoint, self._folder, threads=self._threads, progress=self._watch
        )
        made = Made("gguf", exact(bench))
        with measure.logits_engine(made, measure.WINDOW, self._threads) as engine:
            self._watch.stage("reading the text", 1)
            parameters = self.shape.parameters
            material = gather(self._checkpoint, engine, self._wish.text, parameters)
            self._watch.stage("computing the reference", len(material.measured))
            logits, of = [], "the float GGUF of {} in llama.cpp"
            if covers(self._checkpoint.config):
                of = "{} in float32"
            for window in material.measured:
                if covers(self._checkpoint.config):
                    logits.append(reference_logits(self._checkpoint, window))
                else:
                    logits.append(engine.logits(window))
                self._watch.advance(1)
        small = compact.make(material.measured, logits)
        reference = Reference(material.measured_from, material.measured, logits, small, of)
        calibration = self._folder / "calibration.json"
        calibration.write_text(json.dumps(material.calibration), encoding="utf-8")
        self._results.stand(
            Stood(material.measured_from, material.scored, material.calibration_from)
        )
        return Prepared(material, reference, calibration)

    def row(self, technique: Technique, baseline: Row | None) -> Row:
        """Return a technique's row, from before or made now; a failure is a row with a reason.

        But the baseline's (``baseline`` is None), without which there is no comparison.
        """
        kept = self._results.find(technique) if self._wish.resume else None
        if kept and not (self._wish.save and kept.kernel and not self._saved(technique).is_dir()):
            self._watch.end(kept, kept=True)
            return kept
        folder = self._folder / technique.name
        folder.mkdir()
        try:
            row = self._make(technique, folder, baseline)
            self._results.keep(technique, row)
        except PitoolError as error:
            if baseline is None:
                raise
            row = plain_row(technique, error=" ".join(error.sentence.split()))
        except OSError as error:
            if baseline is None:
                raise
            row = plain_row(technique, error=f"the disk: {error.strerror or error}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._watch.end(row, kept=False)
        return row

    def _make(self, technique: Technique, folder: Path, baseline: Row | None) -> Row:
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
        outcome = making.make(order, self._watch)
        assembled = outcome.assembled
        self._watch.stage("measuring", 2)
        timed = assembled.kernel is not None
        answers, running = measure.run(
            assembled.made, self._wish.prompts, self.shape.context, self._threads, timed=timed
        )
        self._watch.advance(1)
        logits = measure.logits(assembled.made, prepared.reference, self._threads)
        quality = diverge(prepared.reference, logits)
        self._watch.advance(1)
        if self._wish.save and timed:
            found = certificate(quality, logits, prepared.reference, self._source.id)
            tier = self._wish.tier[0] if self._wish.tier else None
            origin = Origin(self._checkpoint, self._source, prepared.reference, tier)
            write_bundle(self._saved(technique), technique, assembled, found, origin, replace=True)
        return plain_row(
            technique,
            note=assembled.note,
            kernel=assembled.kernel,
            format=assembled.made.format,
            bytes=assembled.bytes,
            bits_per_weight=assembled.bits_per_weight,
            planned=assembled.planned,
            convert_seconds=outcome.seconds,
            convert_memory=outcome.memory,
            quality=quality,
            running=running,
            similarity=mean_similarity(answers, baseline.answers if baseline else answers),
            answers=answers,
        )

    def _saved(self, technique: Technique) -> Path:
        assert self._wish.save
        return self._wish.save / f"{self._source.id.rpartition('/')[2]}-{technique.name}"


def plain_row(technique: Technique, **found: object) -> Row:
    """Return a row with what the technique says of itself."""
    said = {
        name: getattr(technique, name)
        for name in ("title", "effect", "source", "bits", "note")
        if name not in found
    }
    needs = tuple(sorted(need.name.lower() for need in technique.needs))
    values = {"technique": technique.name, "needs": needs, **said, **found}
    return Row(**values)


def _remove_stale(folder: Path) -> None:
    """Remove the work folders of comparisons that were killed."""
    for path in folder.glob("work.*"):
        match = re.fullmatch(r"work\.([1-9]\d*)", path.name)
        if match and not alive(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)
