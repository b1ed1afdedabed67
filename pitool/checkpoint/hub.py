"""Downloads a checkpoint from the Hugging Face hub: small files first, weights when asked for.

Uses huggingface_hub, so that its cache, token, endpoint and resuming are the usual ones.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pitool.checkpoint.source import Source
from pitool.errors import BadInput, MissingPart, PitoolError

SMALL = ["*.json", "*.jinja", "tokenizer.model", "README.md", "LICENSE*"]
WEIGHTS = ["*.safetensors", "*.safetensors.index.json"]


def fetch_settings(source: Source) -> Source:
    """Return the source with a folder that holds settings and tokenizer, without the weights."""
    return _fetch(source, SMALL)


def fetch_weights(source: Source) -> Source:
    """Return the source with a folder that holds everything that a conversion needs."""
    return _fetch(source, [*SMALL, *WEIGHTS])


def _fetch(source: Source, patterns: list[str]) -> Source:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError:
        raise MissingPart(
            "the hub client is not installed", "run ./install.sh --host, or name a local folder"
        ) from None
    try:
        folder = snapshot_download(
            source.id, revision=source.revision, allow_patterns=patterns, max_workers=2
        )
    except GatedRepoError:
        raise BadInput(
            f"{source.id} is gated", "accept its licence on the hub and run: hf auth login"
        ) from None
    except RevisionNotFoundError:
        raise BadInput(f"{source.id} has no revision {source.revision!r}", "check it") from None
    except RepositoryNotFoundError:
        raise BadInput(f"there is no model {source.id!r} on the hub", "check the id") from None
    except (LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise _offline(source, error) from None
    except (HfHubHTTPError, OSError) as error:
        raise _offline(source, error) from None
    return replace(source, folder=Path(folder), revision=_commit(Path(folder)))


def _commit(folder: Path) -> str:
    """The hub's cache names a snapshot's folder by its commit."""
    return folder.name


def _offline(source: Source, error: Exception) -> PitoolError:
    reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else "no connection"
    return BadInput(
        f"{source.id} cannot be downloaded ({reason})",
        "try again online (it resumes), name a local folder, or use the embedded model: "
        "pitool convert sample",
    )
