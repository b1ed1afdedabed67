"""The special tokens that end an answer by their names, whatever a model's settings say.

llama.cpp's list (``llama_vocab::impl::load``), so that both engines stop at the same tokens.
Standard library only: who converts writes them down, who runs a loose model looks them up.
"""

from __future__ import annotations

from collections.abc import Mapping

NAMES = frozenset(
    {
        "</s>",
        "<eos>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|calls|>",
        "<|flush|>",
        "<end_of_turn>",
        "<turn|>",
        "<|tool_response>",
        "<end_of_utterance>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "<｜end▁of▁sentence｜>",
        "[e~[",
    }
)
# A name that ends no answer where all of these are in the vocabulary too: a part of a longer one.
_UNLESS = {
    "<|end|>": ({"<|return|>", "<|call|>"}, {"<|call|>", "<|flush|>"}, {"<|calls|>", "<|flush|>"}),
    "</s>": ({"<|tool_response>"},),
}


def known_ends(special: Mapping[str, int]) -> frozenset[int]:
    """Return the ids of the special tokens that end an answer; ``special``: ids by text."""
    return frozenset(special[name] for name in special if ends_by_name(name, special))


def ends_by_name(name: str, special: Mapping[str, int]) -> bool:
    """Tell whether llama.cpp takes a special token for an end in this vocabulary."""
    others = _UNLESS.get(name, ())
    return name in NAMES and not any(parts <= special.keys() for parts in others)
