"""``pitool show``: what is in a bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pitool.cli.names import BundlePath

if TYPE_CHECKING:
    from pitool.catalog.bundles import Bundle
    from pitool.catalog.manifest import Artifact
    from pitool.report.tables import Section

RUNTIMES = "the remaining KL comes from the runtime, which rounds activations to 8 bits"
NOT_VERIFIED = "not verified against the checkpoint"
NOT_COMPARED = (
    "not compared with its checkpoint; compare it with another file of the model:"
    " pitool verify BUNDLE --against OTHER"
)


@click.command("show")
@click.argument("bundle", required=False, type=BundlePath())
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Plot what --fit chose from."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(bundle: Path | None, plot: Path | None, as_json: bool) -> None:
    """Show a bundle: source, artifacts, memory, speeds, certificate.

    Of a GGUF that convert --fit made it also shows what other sizes would lose, and how fast they
    would be; --plot draws that as an SVG file.

    \b
    Example:
      pitool show sample-1gb
      pitool show sample-1gb --plot front.svg
    """
    from pitool.catalog.bundles import find_bundle, newest
    from pitool.catalog.manifest import to_json

    found = find_bundle(bundle) if bundle else newest()
    if plot:
        _plot(found, plot)
    if as_json:
        document = {
            "bundle": str(found.path),
            "manifest": to_json(found.manifest),
            "prompts": prompts(found),
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        show(found)


def _plot(bundle: Bundle, path: Path) -> None:
    from pitool.catalog.outputs import is_written_through, write_output
    from pitool.cli.show_details import chart
    from pitool.errors import UsageError

    if path.suffix.lower() != ".svg" and not is_written_through(path):
        raise UsageError(
            f"--plot writes SVG, not {path.name}", "choose a file name that ends in .svg"
        )
    write_output(path, chart(bundle).encode())


def show(bundle: Bundle) -> None:
    """Print the artifacts of a bundle, and how to try it."""
    from pitool.cli.show_details import details
    from pitool.report import tables

    tables.show([table(bundle), *details(bundle)])
    # Whole lines, so that they can be copied.
    click.echo(f"bundle: {bundle.path}")
    for name, read in prompts(bundle).items():
        click.echo(f"prompt: {name}, read with {', '.join(read) or 'no artifact yet'}")
    if any(artifact.cosine is not None for artifact in bundle.manifest.artifacts):
        click.echo(f"try it: pitool serve {bundle.path}, then POST /v1/embeddings")
    else:
        click.echo(f'try it: pitool run {bundle.path} "Hello"')


def prompts(bundle: Bundle) -> dict[str, list[str]]:
    """Return the prompts of a bundle, each with the artifacts that have read it."""
    from pitool.engine.prefills.bundled import prompts, states

    kinds = [artifact.quantisation for artifact in bundle.manifest.artifacts]
    return {
        name: [kind for kind in kinds if states(bundle.path, name, kind)]
        for name in prompts(bundle.path)
    }


def table(bundle: Bundle) -> Section:
    """Return the table of a bundle's artifacts."""
    from pitool.catalog.boards import find_board
    from pitool.planning.formats import find_format
    from pitool.report.tables import Column, Section

    artifacts = bundle.manifest.artifacts
    speeds = sorted(artifacts[0].speed, key=lambda speed: speed.decode)
    boards = dict.fromkeys(find_board(speed.board).name for speed in speeds)
    order = ", slowest to fastest," if len(boards) > 1 else ""
    notes = [f"tokens/s: predicted decode{order} on {', '.join(boards)}"] if boards else []
    if any(a.tokenization and a.tokenization.folder for a in artifacts):
        notes.append(
            "tokens: made by tokenizer.json, because llama.cpp tokenizes this model differently"
        )
    assumed = (find_format(a.format).assumed for a in artifacts if a.speed)
    notes += dict.fromkeys(filter(None, assumed))
    notes += [f"{a.quantisation}: {a.weights}; {RUNTIMES}" for a in artifacts if a.weights]
    notes += _certificate_notes(artifacts)
    columns = [
        Column("artifact", "left", "middle"),
        Column("size"),
        Column("bits/weight", priority=2),
        Column("memory"),
        Column("KL"),
        Column("top-1", priority=1),
        Column("tokens/s"),
    ]
    return Section("", columns, [_row(artifact) for artifact in artifacts], notes)


def _certificate_notes(artifacts: Sequence[Artifact]) -> list[str]:
    """Return what the quality was measured on, and whether it is the checkpoint's."""
    from pitool.planning import vocabulary

    found = [artifact.certificate for artifact in artifacts if artifact.certificate]
    notes = [
        f"KL, top-1: {c.tokens:,} tokens of {c.text}, compared with {c.reference}" for c in found
    ]
    for certificate in found:
        notes += vocabulary.lines(certificate.vocabulary) if certificate.vocabulary else ()
    notes += [vocabulary.saved(a) for a in artifacts if a.certificate]
    if not all(certificate.verified for certificate in found):
        notes.append(NOT_VERIFIED)
    notes += [certificate.unseen for certificate in found if certificate.unseen]
    notes += [vectors_line(a) for a in artifacts if a.cosine is not None]
    missing = [a.quantisation for a in artifacts if a.certificate is None and a.cosine is None]
    if missing:
        names = ", ".join(missing)
        notes.append(f"no certificate: {names} was {NOT_COMPARED}")
    return list(filter(None, dict.fromkeys(notes)))


def vectors_line(artifact: Artifact) -> str:
    """Return how near the vectors of an encoder's artifact are to its checkpoint's."""
    from pitool.report.numbers import format_fixed

    assert artifact.cosine is not None
    return (
        f"{artifact.quantisation}: vectors of texts have a cosine of"
        f" {format_fixed(artifact.cosine, 4)} or more with the checkpoint's"
    )


def _row(artifact: Artifact) -> list[str]:
    from pitool.report.numbers import (
        NONE,
        format_bytes,
        format_fixed,
        format_range,
        format_share,
    )

    certificate = artifact.certificate
    return [
        f"{artifact.format} {artifact.quantisation}",
        format_bytes(artifact.bytes),
        format_fixed(artifact.bits_per_weight, 2),
        format_bytes(sum(line.bytes for line in artifact.memory)),
        format_fixed(certificate.mean_kl, 4) if certificate else NONE,
        format_share(certificate.top1, 1) if certificate else NONE,
        format_range(speed.decode for speed in artifact.speed),
    ]
