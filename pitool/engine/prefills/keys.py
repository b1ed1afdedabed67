"""The keys of saved prefills: what makes one useful for an artifact, its settings and its engine.

Made by who starts a worker; the worker itself has only the end of its keys.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pitool.engine.base import Settings
from pitool.planning.formats import find_format

if TYPE_CHECKING:
    from pitool.catalog.bundles import Runnable

# Settings that change neither the cache's values nor its layout.
_IRRELEVANT = {
    "decode_threads", "prefill_threads", "batch", "outputs", "load_mode", "sequences", "servers",
    "guesses", "draft", "costs", "polling", "pinned", "priority",
}  # fmt: skip


def key_of(name: str, runnable: Runnable, settings: Settings) -> str:
    """Return the key for a conversation or a system prompt with one artifact and its settings."""
    return f"{name}-{model_of(runnable, settings)}"


def model_of(runnable: Runnable, settings: Settings) -> str:
    """Return the end of the keys for one artifact with its settings, on this machine.

    It depends on the hashes in the manifest and on the file's size and time, so that a prefill is
    never used with other weights.
    """
    stat = runnable.entry.stat()
    chosen = {k: v for k, v in asdict(settings).items() if k not in _IRRELEVANT}
    chosen["context"] = settings.context // settings.sequences
    facts = [str(runnable.entry), stat.st_size, stat.st_mtime_ns, _hashes(runnable), chosen]
    return _digest([*facts, engine_version(runnable)])


def portable_model_of(runnable: Runnable, settings: Settings) -> str:
    """Return the same for what goes with a bundle from machine to machine.

    What the numbers of a KV cache mean depends on the weights, on the types of keys and values, on
    how values are laid out, which flash attention decides, and on LongRoPE's factors, which the
    context decides; not on the CPU whose kernels made them.
    """
    form = find_format(runnable.format)
    keys, values = settings.kv_type, settings.value_type or settings.kv_type
    flash = "off" if settings.flash_attention == "off" else "on"
    stretched = bool(form.cost_of(runnable.entry, settings.context // settings.sequences))
    layout = [keys, values, flash, stretched] if form.tunable else []
    return _digest([_hashes(runnable), layout, engine_version(runnable)])


def engine_version(runnable: Runnable) -> str:
    """Return the package that runs an artifact with its version: a state is of one format."""
    package = find_format(runnable.format).package
    if not package:
        return ""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return package


def _hashes(runnable: Runnable) -> list[str]:
    return [file.sha256 for file in runnable.artifact.files] if runnable.artifact else []


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def system_name(system: str) -> str:
    """Return the name of a system prompt's prefill."""
    return "system." + hashlib.sha256(system.encode()).hexdigest()[:32]
