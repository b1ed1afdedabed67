"""Names the pre-tokenizer of a byte-level BPE in llama.cpp's terms, by its rules.

llama.cpp has the splitting rules of each name built in, so a wrong name gives wrong tokens
without an error. The table holds the rules as tokenizer.json writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pitool.errors import BadInput

_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"

# Rules -> name in llama.cpp. A rule is ("Split", regex), ("Digits", individually) or
# ("ByteLevel", whether it splits by GPT-2's own regex).
PRETOKENIZERS: dict[tuple[tuple[str, Any], ...], str] = {
    (("ByteLevel", True),): "gpt-2",
    (("Digits", True), ("ByteLevel", True)): "smollm",
    (("Split", rf"{_SHORT}|{_WORD}|\p{{N}}{{1,3}}|{_REST}"), ("ByteLevel", False)): "llama-bpe",
    (("Split", rf"{_SHORT}|{_WORD}|\p{{N}}|{_REST}"), ("ByteLevel", False)): "qwen2",
}


def find_pretokenizer(data: dict[str, Any], folder: Path) -> str:
    """Return llama.cpp's name for the pre-tokenizer of a parsed tokenizer.json."""
    rules = _rules(data.get("pre_tokenizer") or {})
    if rules not in PRETOKENIZERS:
        raise BadInput(
            f"{folder / 'tokenizer.json'} splits text by rules that llama.cpp does not name",
            f"known are those of {', '.join(sorted(PRETOKENIZERS.values()))}",
        )
    return PRETOKENIZERS[rules]


def _rules(pre: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    rules: list[tuple[str, Any]] = []
    for step in pre.get("pretokenizers", [pre]):
        match step.get("type"):
            case "Split":
                rules.append(("Split", step.get("pattern", {}).get("Regex")))
            case "Digits":
                rules.append(("Digits", step.get("individual_digits")))
            case "ByteLevel":
                rules.append(("ByteLevel", step.get("use_regex", True)))
            case kind:
                rules.append((str(kind), None))
    return tuple(rules)
