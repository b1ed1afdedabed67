"""Which tokens of a vocabulary stay.

Those without which a text could not be written; special tokens, but for placeholders that nothing
names; signs, digits and spaces; the tokens of the texts; and all that these are made of. Then more
of the most frequent ones, up to a number of rows that kernels like.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

from pitool.convert.trim.pieces import BYTE, Pieces

Tokenize = Callable[[str], Sequence[int]]

# Special tokens that makers keep for later.
_PLACEHOLDER = re.compile(
    r"[<\[]\|?[a-z_]*(unused|reserved|placeholder|extra_id|spare|dummy|control|special)"
    r"[a-z_]*\d+\|?[>\]]",
    re.IGNORECASE,
)
# Of Unicode, what belongs to no script: punctuation, symbols and spaces, below ideographs' and
# among the pictures.
_SIGNS = frozenset({"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs"})
_PICTURES = range(0x1F000, 0x1FB00)
_IDEOGRAPHIC = 0x3000
_JOINERS = frozenset("\u200d\ufe0f\u20e3")
# Rows of a head that kernels multiply at once, or in which threads share them.
MULTIPLE = 64
# A script counts as known with so many letters, and as lost where fewer than this share stay.
LEAST_LETTERS, KNOWN_SHARE = 10, 0.5
# Scripts that languages of today are written in, by the first word of their letters' names. Latin
# is not among them: what is lost of it are letters of single languages.
_SCRIPTS = {
    **{name.upper(): name for name in (
        "Arabic", "Armenian", "Bengali", "Cyrillic", "Devanagari", "Ethiopic", "Georgian", "Greek",
        "Gujarati", "Gurmukhi", "Hangul", "Hebrew", "Hiragana", "Kannada", "Katakana", "Khmer",
        "Lao", "Malayalam", "Mongolian", "Myanmar", "Oriya", "Sinhala", "Tamil", "Telugu",
        "Thaana", "Thai", "Tibetan",
    )},
    "CJK": "Han",
}  # fmt: skip


def choose(pieces: Pieces, used: Iterable[int], named: str, ids: Iterable[int]) -> list[int]:
    """Return the ids of the tokens that stay, ascending.

    ``used``: the tokens of the texts; ``named``: a text that names special tokens, such as the
    chat template; ``ids``: special tokens that settings name.
    """
    kept = {token for token in used if token in pieces.texts} | pieces.base
    kept |= {token for token in ids if token in pieces.texts}
    for token in pieces.marked:
        text = pieces.texts.get(token, "")
        if BYTE.fullmatch(text) or not _PLACEHOLDER.fullmatch(text) or text in named:
            kept.add(token)
    kept |= {token for token in pieces.texts if _is_sign(pieces.shown(token))}
    kept &= pieces.texts.keys()
    return sorted(_filled(pieces, pieces.closed(kept)))


def _filled(pieces: Pieces, kept: set[int]) -> set[int]:
    """Return tokens with the lowest of the others, up to a multiple of rows.

    A BPE numbers tokens by their frequency; a token goes only with all that it is made of.
    """
    wanted = -(-len(kept) // MULTIPLE) * MULTIPLE
    others = (i for i in sorted(pieces.texts) if i not in kept and i not in pieces.marked)
    for token in others:
        if len(kept) == wanted:
            break
        added = {token, *pieces.parts(token)} - kept
        if len(kept) + len(added) <= wanted:
            kept |= added
    return kept


def _is_sign(text: str) -> bool:
    """Tell whether a token is of digits, punctuation, symbols and spaces alone."""
    return bool(text) and all(map(_belongs_nowhere, text))


@cache
def _belongs_nowhere(character: str) -> bool:
    if character.isascii():
        return not character.isalpha()
    if character in _JOINERS:
        return True
    low = ord(character) < _IDEOGRAPHIC or ord(character) in _PICTURES
    return low and unicodedata.category(character) in _SIGNS and character != "\ufffd"


def lost_scripts(pieces: Pieces, kept: Iterable[int]) -> tuple[str, ...]:
    """Return the scripts whose letters were tokens, and that are mostly written in bytes now.

    That with the most letters comes first.
    """
    left = set(kept)
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    for token in pieces.texts:
        for script in _letter(pieces.shown(token).strip()):
            before[script] = before.get(script, 0) + 1
            after[script] = after.get(script, 0) + (token in left)
    return tuple(
        script
        for script, count in sorted(before.items(), key=lambda each: (-each[1], each[0]))
        if count >= LEAST_LETTERS and after[script] < KNOWN_SHARE * count
    )


def _letter(text: str) -> Iterator[str]:
    """Yield the script of a token that is one letter, by the first word of its Unicode name."""
    if len(text) == 1 and text.isalpha():
        name = unicodedata.name(text, "").partition(" ")[0]
        if name in _SCRIPTS:
            yield _SCRIPTS[name]
