"""Downloads a checkpoint from the Hugging Face hub: settings, tensor headers, then the weights.

Uses huggingface_hub, so cache, token (``hf auth login`` or ``HF_TOKEN``), endpoint
(``HF_ENDPOINT``) and resuming work as usual. Fetches only the files that a conversion reads.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pitool.checkpoint.source import Source
from pitool.checkpoint.tensors import Tensor, read_header, tensor_of
from pitool.checkpoint.weights import INDEX, SINGLE, by_name, file_names
from pitool.errors import BadInput, MissingPart, PitoolError

SMALL = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "chat_template.json",
    "chat_template.jinja", "additional_chat_templates/*", INDEX, "README.md", "LICENSE*",
)  # fmt: skip
POLL_SECONDS = 0.2
TRIES_WITHOUT_PROGRESS = 3


@dataclass(frozen=True, slots=True)
class Headers:
    """Every tensor of a source on the hub, and the bytes that are not on this machine yet."""

    tensors: dict[str, Tensor]
    missing_bytes: int


def fetch_settings(source: Source) -> Source:
    """Return the source with a folder that holds settings and tokenizer, but no weights."""
    return _fetch(source, SMALL, lambda _: None)


def read_headers(source: Source) -> Headers:
    """Return the tensors of a source, by range requests for files not on this machine yet."""
    source = source if source.folder else fetch_settings(source)
    assert source.folder
    tensors: list[Tensor] = []
    missing_bytes = 0
    for name in _weight_names(source):
        path = source.folder / name
        here = path.is_file()
        found = read_header(path) if here else _read_remote(source, path)
        tensors += found
        missing_bytes += 0 if here else sum(tensor.bytes for tensor in found)
    return Headers(by_name(tensors), missing_bytes)


def _weight_names(source: Source) -> list[str]:
    """Return the weight files of a source whose settings are here, as transformers chooses them.

    The index counts where the model has no ``model.safetensors``, which only the hub can tell; it
    counts as well where the hub cannot be asked.
    """
    assert source.folder
    names = file_names(source.folder) or [SINGLE]
    if SINGLE in names or all((source.folder / name).is_file() for name in names):
        return names
    with _pitool_errors(source):
        from huggingface_hub import HfApi

        with suppress(*_transport_errors()):
            if HfApi().file_exists(source.id, SINGLE, revision=source.revision):
                return [SINGLE]
    return names


def _read_remote(source: Source, path: Path) -> list[Tensor]:
    """Return the tensors of a file on the hub, as ``read_header`` does for one that is here."""
    with _pitool_errors(source):
        from huggingface_hub import HfApi
        from huggingface_hub.errors import SafetensorsParsingError

        wrong = BadInput(
            f"{path.name} of {source.id} on the hub is not a safetensors file",
            "choose another model or --revision",
        )
        try:
            header = HfApi().parse_safetensors_file_metadata(
                source.id, path.name, revision=source.revision
            )
        except (SafetensorsParsingError, struct.error, LookupError, TypeError, AttributeError):
            raise wrong from None
    try:
        return [tensor_of(path, name, vars(info)) for name, info in header.tensors.items()]
    except (ValueError, TypeError):
        raise wrong from None


def fetch_weights(source: Source, on_bytes: Callable[[int], None] = lambda _: None) -> Source:
    """Return the source with a folder that holds everything that a conversion needs."""
    known = source if source.folder else fetch_settings(source)
    return _fetch(source, (*SMALL, *_weight_names(known)), on_bytes)


def cache_folder() -> Path:
    """Return the folder that downloads go to."""
    with _pitool_errors(None):
        from huggingface_hub import constants
    return Path(constants.HF_HUB_CACHE)


def expected_sha256(path: Path) -> str | None:
    """Return the hash that the hub states for a downloaded file, None for any other file.

    The hub's cache names the content of a large file by its sha256, and links to it.
    """
    name = path.resolve().name
    return name if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", name) else None


def _fetch(source: Source, patterns: Sequence[str], on_bytes: Callable[[int], None]) -> Source:
    """Download what is missing; retry as long as each attempt makes progress."""
    with _pitool_errors(source):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()  # pitool shows its own
        blobs = cache_folder() / f"models--{source.id.replace('/', '--')}" / "blobs"
        with _watched(blobs, on_bytes):
            fruitless = 0
            while True:
                before = _size(blobs)
                try:
                    folder = snapshot_download(
                        source.id,
                        revision=source.revision,
                        allow_patterns=list(patterns),
                        max_workers=2,
                    )
                    break
                except LocalEntryNotFoundError:
                    raise  # the hub cannot be reached at all
                except _transport_errors():
                    fruitless = fruitless + 1 if _size(blobs) <= before else 0
                    if fruitless == TRIES_WITHOUT_PROGRESS:
                        raise
    # The hub's cache names a snapshot's folder by its commit.
    return replace(source, folder=Path(folder), revision=Path(folder).name)


def _transport_errors() -> tuple[type[Exception], ...]:
    """Return what a dropped connection raises: hub clients before 1.0 use requests, later httpx."""
    with suppress(ImportError):
        import httpx

        return OSError, httpx.TransportError
    return (OSError,)


@contextmanager
def _watched(folder: Path, on_bytes: Callable[[int], None]) -> Iterator[None]:
    """Report the growth of ``folder``, whatever client and protocol fill it."""
    ended = threading.Event()
    seen = _size(folder)

    def tell() -> None:
        nonlocal seen
        size = _size(folder)
        on_bytes(max(size - seen, 0))
        seen = max(size, seen)

    def watch() -> None:
        while not ended.wait(POLL_SECONDS):
            tell()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell()


def _size(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total


@contextmanager
def _pitool_errors(source: Source | None) -> Iterator[None]:
    """Turn the hub client's exceptions into PitoolErrors."""
    try:
        import huggingface_hub.errors as hub_errors
    except ImportError:
        raise MissingPart(
            "huggingface_hub is not installed", "run ./install.sh --host, or use a local folder"
        ) from None
    try:
        yield
    except PitoolError:
        raise
    except Exception as error:
        if source is None or not isinstance(
            error, (*_transport_errors(), hub_errors.HfHubHTTPError, ValueError)
        ):
            raise
        raise _error_of(source, error, hub_errors) from None


def _error_of(source: Source, error: Exception, errors: Any) -> PitoolError:
    match error:
        case errors.GatedRepoError():
            do = "accept its licence on the hub, then run: hf auth login"
            return BadInput(f"{source.id} is a gated model", do)
        case errors.RevisionNotFoundError():
            return BadInput(
                f"{source.id} has no revision {source.revision!r}",
                "use a branch, tag or commit of the model",
            )
        case errors.RepositoryNotFoundError():
            return BadInput(f"unknown model {source.id!r} on the hub", "check the id")
        case errors.LocalEntryNotFoundError():
            reason = "the hub cannot be reached, and the model is not in the cache"
        case errors.EntryNotFoundError():
            return BadInput(
                f"{source.id} has no {SINGLE}",
                f"choose a model with safetensors files; a ready GGUF: pitool pull {source.id}",
            )
        case _:
            reason = (str(error).strip().splitlines() or ["no connection"])[0][:120]
    return BadInput(
        f"cannot download {source.id} ({reason})",
        "try again when online (the download resumes), use a local folder, or try the sample model:"
        " pitool convert sample",
    )
