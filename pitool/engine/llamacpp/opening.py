"""Loads a GGUF into llama.cpp and makes a context for it, as settings say."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pitool.catalog.kv_types import KV_TYPES
from pitool.engine.base import Settings
from pitool.engine.llamacpp.importance import Collector
from pitool.engine.llamacpp.library import CancelFlag, Log, llama_cpp
from pitool.engine.llamacpp.rpc import place_layers
from pitool.engine.speculation.pass_costs import output_rows, rows
from pitool.errors import BadInput, DoesNotFit

_LOAD_MODES = {
    "mmap": llama_cpp.LLAMA_LOAD_MODE_MMAP,
    "read": llama_cpp.LLAMA_LOAD_MODE_NONE,
    "mlock": llama_cpp.LLAMA_LOAD_MODE_MMAP_MLOCK,
}
_FLASH_ATTENTION = {
    "auto": llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
_KV_TYPES = {name: getattr(llama_cpp, f"GGML_TYPE_{name.upper()}") for name in KV_TYPES}


def open_model(
    entry: Path,
    settings: Settings,
    log: Log,
    cancel: CancelFlag,
    on_progress: Callable[[float], None] | None,
) -> Any:
    """Return the model of a file; ``on_progress`` gets shares from 0 to 1."""
    params = llama_cpp.llama_model_default_params()
    params.load_mode = _LOAD_MODES[settings.load_mode]
    params.use_extra_bufts = settings.repack and not settings.collect
    params.n_gpu_layers = 0
    placed = place_layers(params, settings) if settings.servers else None

    def progress(share: float, _: Any) -> bool:
        if on_progress:
            on_progress(share)
        return not cancel.is_set()

    params.progress_callback = callback = llama_cpp.llama_progress_callback(progress)
    model = llama_cpp.llama_model_load_from_file(os.fsencode(entry), params)
    del callback, placed  # they had to live until here
    if not model:
        raise BadInput(f"llama.cpp cannot load {entry} ({log.reason})", "convert or copy it again")
    return model


def batch_size(settings: Settings) -> int:
    """Return the most tokens of one call: one of each sequence at least, and its guesses."""
    return max(min(settings.batch, settings.context), rows(settings.sequences, settings.guesses))


def open_context(
    model: Any,
    settings: Settings,
    log: Log,
    cancel: CancelFlag,
    *,
    unified: bool,
    encoder: bool,
    collector: Collector | None,
) -> Any:
    """Return a context of a model, which is freed where there can be none.

    ``unified``: all sequences share one buffer; ``encoder``: the model reads a text at once.
    """
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = settings.context
    params.n_batch = batch_size(settings)
    params.n_ubatch = min(settings.micro_batch, settings.context)
    params.n_outputs_max = output_rows(settings)
    params.n_seq_max = settings.sequences
    params.kv_unified = unified
    if encoder:
        params.embeddings = True
        params.n_batch = params.n_ubatch = params.n_outputs_max = settings.context
    params.n_threads = settings.prefill_threads if encoder else settings.decode_threads
    params.n_threads_batch = settings.prefill_threads
    params.type_k = _KV_TYPES[settings.kv_type]
    params.type_v = _KV_TYPES[settings.value_type or settings.kv_type]
    params.flash_attn_type = _FLASH_ATTENTION[settings.flash_attention]
    if collector:
        params.cb_eval = collector.callback
    params.abort_callback = cancel.callback
    params.abort_callback_data = cancel.data
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        llama_cpp.llama_model_free(model)
        usual = str(settings.cache) in ("f32", "f16")
        raise DoesNotFit(
            f"llama.cpp cannot create a context of {settings.context} tokens with a KV cache of"
            f" {settings.cache} ({log.reason})",
            "choose a smaller --context"
            if usual
            else "choose a smaller --context, or --kv-type f16",
        )
    return context


def add_adapters(model: Any, context: Any, paths: Sequence[str], log: Log) -> None:
    """Add LoRAs to a context, which live as long as the model."""
    if not paths:
        return
    loaded = [llama_cpp.llama_adapter_lora_init(model, os.fsencode(path)) for path in paths]
    if missing := [path for path, adapter in zip(paths, loaded, strict=True) if not adapter]:
        raise BadInput(
            f"llama.cpp cannot load the adapter {missing[0]} ({log.reason})",
            "convert or copy it again",
        )
    adapters = (llama_cpp.llama_adapter_lora_p_ctypes * len(loaded))(*loaded)
    ones = (ctypes.c_float * len(loaded))(*(1.0 for _ in loaded))
    llama_cpp.llama_set_adapters_lora(context, adapters, len(loaded), ones)
