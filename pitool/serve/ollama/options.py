"""Ollama's ``options``: how tokens are chosen, by its names."""

from __future__ import annotations

from typing import Any

from pitool.engine.base import Sampling
from pitool.serve.bodies import Fields
from pitool.serve.openai.sampling import MOST_IDS, NUMBERS, stops

# How a model is loaded, which was decided when it was; what exceeds the context is refused, so
# that its size changes no answer.
HARMLESS = (
    "num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "use_mmap",
    "use_mlock", "numa", "low_vram", "vocab_only", "f16_kv", "logits_all", "mirostat_tau",
    "mirostat_eta", "penalize_newline",
)  # fmt: skip
PLAIN: dict[str, tuple[object, ...]] = {
    "mirostat": (0,),
    "tfs_z": (1,),
    "typical_p": (1,),
}
# Room is made for so many tokens; -1 is for all of a context.
MOST_LAST = 1 << 16


def sampling(options: Fields | None) -> Sampling:
    """Return what the options ask for."""
    if options is None:
        return Sampling()
    values: dict[str, Any] = {}
    for name, (low, high) in NUMBERS.items():
        if (value := options.number(name, low, high)) is not None:
            values[name] = value
    if (top := options.integer("top_k", 0, MOST_IDS)) is not None:
        values["top_k"] = top
    if (seed := options.integer("seed", -1)) is not None and seed >= 0:
        values["seed"] = seed
    if (window := options.integer("repeat_last_n", -1, MOST_LAST)) is not None:
        values["repeat_window"] = window if window >= 0 else MOST_LAST
    most = options.integer("num_predict", -2)
    values["max_tokens"] = most if most is not None and most >= 0 else None
    made = Sampling(**values, stop=stops(options.take("stop")))
    options.ignore(*HARMLESS)
    options.plain(PLAIN)
    options.done()
    return made
