"""``pitool verify``: is a bundle whole, and does this machine's runtime answer as it should."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pitool.catalog.bundles import Bundle, Runnable
    from pitool.engine.worker import WorkerEngine
    from pitool.quality.compact import CompactReference

TOKENS = 2048


@dataclass(frozen=True)
class Finding:
    """One artifact's figures; ``reference`` names what it was held against."""

    quantisation: str
    reference: str
    tokens: int
    perplexity: float
    ok: bool
    mean_kl: float | None = None
    median_kl: float | None = None
    p99_kl: float | None = None
    max_kl: float | None = None
    top1: float | None = None
    certified_kl: float | None = None


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--quant", metavar="NAME", help="Only this artifact.")
@click.option(
    "--reference", metavar="CHECKPOINT", help="Compare with the checkpoint itself (on the host)."
)
@click.option(
    "--text",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Text to compare on; without --reference its perplexity is given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    bundle: Path, quant: str | None, reference: str | None, text: Path | None, as_json: bool
) -> None:
    """Check the files of a bundle and its answers with the reference.

    BUNDLE is a folder or the name of one in the default folder. The bundle carries a compact
    reference of its checkpoint, so that a board needs nothing else. Exit code 4: a file is
    damaged; 1: the answers differ more than the certificate allows.

    \b
    Example:
      pitool verify sample-1gb
      pitool verify sample-1gb --reference sample --text recipes/sample/heldout.txt
    """
    from pitool.catalog.bundles import choose, open_bundle
    from pitool.catalog.integrity import damaged_files
    from pitool.errors import BadInput, PitoolError
    from pitool.report.progress import talk

    opened = open_bundle(bundle)
    talk("checking the files")
    if damage := damaged_files(opened):
        listed = ", ".join(f"{d.path} {d.why}" for d in damage)
        raise BadInput(f"{opened.path}: {listed}", "convert or copy the bundle again")
    kinds = [quant] if quant else [a.quantisation for a in opened.manifest.artifacts]
    runnables = [choose(opened, kind) for kind in kinds]
    if reference:
        findings = _against_checkpoint(runnables, reference, text)
    elif text:
        findings = [_on_text(runnable, text) for runnable in runnables]
    else:
        findings = _against_compact(opened, runnables)
    if as_json:
        click.echo(json.dumps(_document(opened, findings), indent=2))
    else:
        _show(findings)
    if bad := [f.quantisation for f in findings if not f.ok]:
        raise PitoolError(
            f"{', '.join(bad)} does not answer as it did when it was converted",
            "install the runtime that pitool pins, then convert again if it persists",
        )


def _against_compact(bundle: Bundle, runnables: list[Runnable]) -> list[Finding]:
    from pitool.quality.health import as_converted, measure, read_reference
    from pitool.report.progress import talk

    reference = read_reference(bundle)
    findings = []
    for runnable in runnables:
        talk(f"running {runnable.quantisation}")
        with _open(runnable, reference.ids.shape[1]) as engine:
            found = measure(engine, _known(reference, engine))
        certificate = runnable.artifact.certificate if runnable.artifact else None
        findings.append(
            Finding(
                runnable.quantisation,
                "compact",
                found.tokens,
                found.perplexity,
                as_converted(found, certificate),
                found.mean_kl,
                found.median_kl,
                found.p99_kl,
                found.max_kl,
                found.top1,
                certificate.compact_kl if certificate else None,
            )
        )
    return findings


def _known(reference: CompactReference, engine: WorkerEngine) -> CompactReference:
    """Return the reference; BadInput when its tokens are not of this model's vocabulary."""
    from pitool.errors import BadInput

    most = int(max(reference.ids.max(), reference.top.max()))
    if most >= engine.info.vocabulary:
        raise BadInput("the reference is of another model", "convert or copy the bundle again")
    return reference


def _against_checkpoint(
    runnables: list[Runnable], reference: str, text: Path | None
) -> list[Finding]:
    from pitool.catalog.tensor_types import QUANTISATIONS, Quantisation
    from pitool.checkpoint.source import find_source, open_checkpoint
    from pitool.convert.reference import covers
    from pitool.convert.verify import certify, make_reference, tokens_to_compare
    from pitool.errors import BadInput
    from pitool.report.progress import talk

    source = find_source(reference, "8gb")
    if source.folder is None:
        raise BadInput(f"{reference!r} is not on this machine", "name a checkpoint folder")
    checkpoint = open_checkpoint(source)
    if not covers(checkpoint.config):
        raise BadInput(
            f"{reference!r} is of a family that has no forward pass in float32 here",
            "verify without --reference: the bundle carries one",
        )
    findings, made = [], None
    for runnable in runnables:
        assert runnable.artifact
        tokens = tokens_to_compare(runnable.artifact.parameters)
        with _open(runnable, tokens) as engine:
            if made is None:
                talk(f"computing the reference of {source.id}")
                made = make_reference(checkpoint, engine, tokens, lambda *_: None, text)
            talk(f"running {runnable.quantisation}")
            unknown = Quantisation(runnable.quantisation, 0, runnable.quantisation)
            kind = QUANTISATIONS.get(runnable.quantisation, unknown)
            found = certify(engine, made, kind, source.id)
        findings.append(
            Finding(
                runnable.quantisation,
                found.reference,
                found.tokens,
                found.perplexity,
                True,
                found.mean_kl,
                found.median_kl,
                found.p99_kl,
                found.max_kl,
                found.top1,
                runnable.artifact.certificate.mean_kl if runnable.artifact.certificate else None,
            )
        )
    return findings


def _on_text(runnable: Runnable, text: Path) -> Finding:
    from pitool.quality.health import perplexity

    content = text.read_text(encoding="utf-8", errors="replace")[: TOKENS * 8]
    with _open(runnable, 512) as engine:
        value, tokens = perplexity(engine, content, TOKENS)
    return Finding(runnable.quantisation, text.name, tokens, value, ok=True)


def _open(runnable: Runnable, tokens: int) -> WorkerEngine:
    """Load an artifact by its format, with room for the logits of ``tokens`` tokens."""
    from dataclasses import replace

    from pitool.device.settings import settings_for
    from pitool.engine import worker

    batch = min(tokens, 128)
    settings = settings_for(runnable, -(-tokens // 256) * 256)
    settings = replace(settings, micro_batch=batch, outputs=batch, kv_type="f16", value_type=None)
    return worker.start(runnable.format, runnable.entry, settings)


def _document(bundle: Bundle, findings: list[Finding]) -> dict[str, Any]:
    return {
        "bundle": str(bundle.path),
        "files": "whole",
        "artifacts": [asdict(finding) for finding in findings],
    }


def _show(findings: list[Finding]) -> None:
    click.echo("files: whole, every sha256 is the manifest's")
    for f in findings:
        parts = [f"perplexity {f.perplexity:.4g}"]
        if f.mean_kl is not None:
            parts.append(f"KL mean {f.mean_kl:.4g} median {f.median_kl:.4g} 99% {f.p99_kl:.4g}")
            parts.append(f"top-1 {f.top1:.1%}")
        if f.certified_kl is not None:
            parts.append(f"certified {f.certified_kl:.4g}")
        verdict = "ok" if f.ok else "DIFFERS"
        click.echo(f"{f.quantisation}: {verdict}, {', '.join(parts)}; {f.tokens} tokens")
