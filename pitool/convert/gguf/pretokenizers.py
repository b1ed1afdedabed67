"""Finds llama.cpp's name for the pre-tokenizer of a byte-level BPE.

llama.cpp has the splitting rules of each name built in, so a wrong name produces wrong tokens
without an error. Released tokenizers are recognised by the tokens they make of a test text, as
llama.cpp's converter does (``pretokenizers.toml``), others by the rules in tokenizer.json.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from pitool.catalog import reading, tables
from pitool.errors import BadInput, panics_raised

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
    if name := _known(folder / "tokenizer.json"):
        return name
    rules = _rules(data.get("pre_tokenizer") or {})
    if rules not in PRETOKENIZERS:
        raise BadInput(
            f"llama.cpp has no pre-tokenizer with the rules of {folder / 'tokenizer.json'}",
            f"choose a model with one of these: {', '.join(sorted(PRETOKENIZERS.values()))}",
        )
    name = PRETOKENIZERS[rules]
    # llama-bpe skips the merges for a word that is in the vocabulary; dbrx has the same rules but
    # does not skip them.
    whole = (data.get("model") or {}).get("ignore_merges", False)
    return "dbrx" if name == "llama-bpe" and not whole else name


def _known(path: Path) -> str | None:
    """Return the name of a released tokenizer, None for one that llama.cpp does not list."""
    from tokenizers import Tokenizer

    text, names = _table()
    try:
        data = reading.read_bytes(path, reading.LARGEST_TABLE)
        with panics_raised():
            ids = Tokenizer.from_buffer(data).encode(text).ids
    except Exception:  # the library raises nothing narrower; reading the file reports the error
        return None
    return names.get(hashlib.sha256(str(ids).encode()).hexdigest())


@cache
def _table() -> tuple[str, dict[str, str]]:
    """Return the test text, and the names by the hash of its token ids."""
    table = tables.read_toml(Path(__file__).with_suffix(".toml"))
    return table["text"], {h: name for name, hashes in table["names"].items() for h in hashes}


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
