"""What is said of a vocabulary that was cut: in a plan, with a certificate, and of a bundle."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.catalog.manifest import Artifact, Vocabulary
from pitool.report.numbers import format_bytes, format_share

# Scripts that are named in a warning.
MOST_NAMED = 8


def lines(vocabulary: Vocabulary) -> Iterator[str]:
    """Yield what is left, how many tokens of a text change, and which scripts fall to bytes."""
    yield (
        f"vocabulary: {vocabulary.kept:,} of {vocabulary.whole:,} tokens are kept, chosen by"
        f" {vocabulary.chosen_by}"
    )
    if vocabulary.tokens:
        share = vocabulary.changed / vocabulary.tokens
        yield (
            f"{vocabulary.changed:,} of {vocabulary.tokens:,} tokens ({format_share(share, 2)}) of"
            f" {vocabulary.text} change"
        )
    if vocabulary.to_bytes:
        named = ", ".join(vocabulary.to_bytes[:MOST_NAMED])
        more = len(vocabulary.to_bytes) - MOST_NAMED
        others = f" and {more} more scripts" if more > 0 else ""
        yield (
            f"warning: {named}{others} fall to bytes: several tokens a letter,"
            " slower and worse; convert again with their languages in --languages to keep them"
        )


def saved(artifact: Artifact) -> str:
    """Return the bytes that a cut vocabulary saves; nothing where they are not known."""
    certificate = artifact.certificate
    if not certificate or certificate.bytes_saved is None or certificate.memory_saved is None:
        return ""
    size, memory = format_bytes(certificate.bytes_saved), format_bytes(certificate.memory_saved)
    name = artifact.quantisation
    return f"{name}: the smaller vocabulary saves {size} of the file, {memory} of memory"
