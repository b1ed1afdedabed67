"""``pitool verify``: checks a bundle's files, and its answers on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pitool.cli.names import BundlePath
from pitool.report.numbers import NONE, format_share, format_significant

if TYPE_CHECKING:
    from pitool.catalog.bundles import Bundle, Runnable
    from pitool.engine.base import Settings
    from pitool.engine.worker import WorkerEngine
    from pitool.quality.health import AnswerCheck
    from pitool.report.progress import Progress
    from pitool.report.tables import Section


@click.command("verify")
@click.argument("bundle", type=BundlePath())
@click.option("--quant", metavar="NAME", help="Only this artifact.")
@click.option(
    "--reference", metavar="CHECKPOINT", help="Compare with the checkpoint itself (on the host)."
)
@click.option(
    "--against",
    metavar="OTHER[:QUANT]",
    help="Compare with another bundle, GGUF or ONNX folder of the model, and certify.",
)
@click.option(
    "--text",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Text to compare on; without --reference, print its perplexity.",
)
@click.option(
    "--kv-cache", is_flag=True, help="Measure what each type of the KV cache costs, and keep it."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    bundle: Path,
    quant: str | None,
    reference: str | None,
    against: str | None,
    text: Path | None,
    kv_cache: bool,
    as_json: bool,
) -> None:
    """Check a bundle's files, and its answers against its reference.

    BUNDLE is a folder or the name of one in the default folder. The bundle contains
    compact reference data of its checkpoint, so a board needs nothing else. The exit code is 4 if
    a file is damaged, and 1 if the answers differ by more than the certificate allows.

    --kv-cache loads each GGUF with other types of the KV cache, keys and values apart, and compares
    it with itself; plan --details and show say what was found.

    A bundle that was pulled has no reference: --against compares it with another artifact of the
    same model, best one of more bits, and writes the certificate into the bundle.

    \b
    Example:
      pitool verify sample-1gb
      pitool verify sample-1gb --reference sample
      pitool verify sample-1gb --text recipes/sample/heldout.txt
      pitool verify Qwen3-1.7B-q4_k_m --against Qwen3-1.7B-q8_0
    """
    from pitool.catalog.bundles import choose, find_bundle
    from pitool.catalog.integrity import damaged_files
    from pitool.errors import BadInput, PitoolError, UsageError
    from pitool.report.progress import Stages, stage_of

    if reference and against:
        raise UsageError("--reference and --against cannot be combined", "use one of them")
    if kv_cache and (reference or against or text):
        raise UsageError(
            "--kv-cache compares an artifact with itself, on its own texts",
            "drop --reference, --against and --text",
        )
    opened = find_bundle(bundle)
    with Stages() as progress:
        on_bytes = stage_of(progress, "verifying the files", bytes_=True)
        if damage := damaged_files(opened, on_bytes):
            listed = ", ".join(f"{d.path} {d.why}" for d in damage)
            raise BadInput(f"{opened.path}: {listed}", "convert or copy the bundle again")
        kinds = [quant] if quant else [a.quantisation for a in opened.manifest.artifacts]
        runnables = [choose(opened, kind) for kind in kinds]
        if kv_cache:
            _measure_caches(opened, runnables, progress)
            opened, checks = find_bundle(bundle), []
        else:
            checks = list(_check(opened, runnables, reference, against, text, progress))
    if as_json:
        click.echo(json.dumps(_document(opened, checks), indent=2))
    elif kv_cache:
        from pitool.cli.show_details import cache_tables
        from pitool.report.tables import show

        show(cache_tables(opened))
    else:
        _show(opened, checks)
    if bad := [f.quantisation for f in checks if not f.ok]:
        raise PitoolError(
            f"{', '.join(bad)} answers differently from when it was converted",
            "run ./install.sh again; if it still differs, convert the model again",
        )


def _check(
    bundle: Bundle,
    runnables: Sequence[Runnable],
    reference: str | None,
    against: str | None,
    text: Path | None,
    progress: Progress,
) -> Iterator[AnswerCheck]:
    """Return the checks that the flags ask for; none of a bundle that has no reference."""
    from pitool.quality.health import check_against_compact, check_on_text

    if against:
        from pitool.quality.against import check_against_other

        return check_against_other(bundle, runnables, _other(against), text, _open, progress)
    if reference:
        from pitool.convert.verify import check_against_checkpoint

        return check_against_checkpoint(runnables, reference, text, _open, progress)
    if text:
        return check_on_text(runnables, text, _open)
    if not any(a.certificate for a in bundle.manifest.artifacts) and not bundle.manifest.reference:
        return iter(())
    return check_against_compact(bundle, runnables, _open, progress)


def _measure_caches(bundle: Bundle, runnables: Sequence[Runnable], progress: Progress) -> None:
    from dataclasses import replace

    from pitool.catalog.kv_types import CacheTypes
    from pitool.engine import worker
    from pitool.errors import UsageError
    from pitool.planning.formats import find_format
    from pitool.quality.kv_cache import measure_caches

    def open_(runnable: Runnable, tokens: int, types: CacheTypes) -> WorkerEngine:
        settings = replace(_settings(runnable, tokens), flash_attention="on").with_cache(types)
        return worker.start(runnable.format, runnable.entry, settings)

    able = [each for each in runnables if find_format(each.format).tunable]
    if not able:
        raise UsageError(
            f"{bundle.path.name} has no GGUF, and only llama.cpp takes types of the KV cache",
            "drop --kv-cache",
        )
    for runnable in able:
        measure_caches(bundle, runnable, open_, progress)


def _other(text: str) -> Runnable:
    """Return the artifact that ``OTHER`` or ``OTHER:QUANT`` names."""
    from pitool.catalog.files import path_kind
    from pitool.catalog.model_argument import find_runnable

    name, colon, quant = text.rpartition(":")
    if colon and path_kind(Path(text)) is None:
        return find_runnable(Path(name), quant)
    return find_runnable(Path(text))


def _open(runnable: Runnable, tokens: int) -> WorkerEngine:
    """Load an artifact by its format, with room for the logits of ``tokens`` tokens."""
    from pitool.engine import worker

    return worker.start(runnable.format, runnable.entry, _settings(runnable, tokens))


def _settings(runnable: Runnable, tokens: int) -> Settings:
    from dataclasses import replace

    from pitool.device.settings import settings_for

    batch = min(tokens, 128)
    settings = settings_for(runnable, -(-tokens // 256) * 256)
    return replace(settings, micro_batch=batch, outputs=batch, kv_type="f16", value_type=None)


def _document(bundle: Bundle, checks: list[AnswerCheck]) -> dict[str, Any]:
    return {
        "bundle": str(bundle.path),
        "files": "whole",
        "artifacts": [asdict(check) for check in checks],
        "caches": {
            artifact.quantisation: [asdict(each) for each in artifact.caches]
            for artifact in bundle.manifest.artifacts
            if artifact.caches
        },
    }


def _show(bundle: Bundle, checks: list[AnswerCheck]) -> None:
    from pitool.report.tables import show

    click.echo("files: all checksums match the manifest")
    if checks:
        show([_table(checks), *_kinds(checks)])
        return
    click.echo(
        "answers: not compared with anything, because this bundle was made without a reference"
    )
    click.echo(f"compare: pitool verify {bundle.path.name} --against OTHER")


def _kinds(checks: list[AnswerCheck]) -> Iterator[Section]:
    """Yield the quality by kind of text, where it was measured."""
    from pitool.cli.show_details import kinds_table

    if rows := [(check.quantisation, check.kinds) for check in checks if check.kinds]:
        yield kinds_table(rows)


def _table(checks: list[AnswerCheck]) -> Section:
    from pitool.report.tables import Column, Section

    columns = [
        Column("artifact", "left", "middle"),
        Column("answers", "left"),
        Column("perplexity"),
        Column("mean KL"),
        Column("certified", priority=1),
        Column("median", priority=4),
        Column("99%", priority=3),
        Column("top-1", priority=2),
        Column("tokens", priority=5),
    ]
    return Section("", columns, [_row(check) for check in checks])


def _row(check: AnswerCheck) -> list[str]:
    def divergence(value: float | None) -> str:
        return NONE if value is None else format_significant(value)

    return [
        check.quantisation,
        "ok" if check.ok else "DIFFERS",
        format_significant(check.perplexity, 4),
        divergence(check.mean_kl),
        divergence(check.certified_kl),
        divergence(check.median_kl),
        divergence(check.p99_kl),
        NONE if check.top1 is None else format_share(check.top1, 1),
        str(check.tokens),
    ]
