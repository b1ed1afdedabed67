"""How a conversion's artifacts are tokenized: decided on what was written, checked on all of it.

llama.cpp makes the tokens of a GGUF wherever they are those of tokenizer.json. Where they are not,
a folder with tokenizer.json goes into the bundle, and the manifest names it. What differs even so
is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pitool.catalog import cache
from pitool.catalog.manifest import Tokenization
from pitool.checkpoint.config import GGUF
from pitool.checkpoint.source import Checkpoint
from pitool.checkpoint.tokenizer import PIECES, TOKENIZER, TokenizerFiles
from pitool.convert.engines import Loading, OpenWith
from pitool.convert.gguf.model import find_model
from pitool.convert.gguf.vocabulary import load_pieces, puts_space, read_vocabulary
from pitool.convert.turn_ends import turn_ends
from pitool.errors import BadInput, PitoolError
from pitool.quality.health import LogitsEngine
from pitool.quality.tokens import TEXTS, Expected, TokenReference, differs, known_words

FOLDER = "tokenizer"
"""The folder in a bundle for a tokenizer that the runtime does not have."""


class Tokens:
    """The tokenization of the artifacts of one checkpoint with ``rows`` tokens.

    ``open`` is an ``OpenEngine``; ``adapters``: LoRAs that each GGUF is loaded with.
    """

    def __init__(
        self, checkpoint: Checkpoint, rows: int, open_with: OpenWith, adapters: Sequence[Path] = ()
    ) -> None:
        self._checkpoint, self._rows = checkpoint, rows
        self._open_with, self._adapters = open_with, adapters
        self._decided: dict[bool, Tokenization | None] = {}

    @contextmanager
    def open(self, path: Path, tokens: int, *, exact: bool = False) -> Iterator[LogitsEngine]:
        """Load an artifact; PitoolError when its tokens are not the tokenizer's.

        ``exact``: see ``Loading``.
        """
        if path.is_dir() not in self._decided:
            self._decided[path.is_dir()] = self._decide(path, tokens)
        decided = self._decided[path.is_dir()]
        with self._load(path, tokens, decided, exact=exact) as engine:
            if different := self._different(engine, decided):
                raise _different_tokens(different, self._files)
            yield engine

    def whole(self, text: str) -> list[int]:
        """Return the tokens of a text with what belongs before and after it, by tokenizer.json."""
        assert self._reference
        return self._reference.whole(text)

    def of(self, path: Path) -> Tokenization | None:
        """Return how an artifact that was loaded is tokenized."""
        return self._decided.get(path.is_dir())

    def write(self, bundle: Path, path: Path) -> list[Path]:
        """Return the tokenizer's files that an artifact needs, which are written once."""
        decided = self.of(path)
        if decided is None or decided.folder is None:
            return []
        folder = bundle / decided.folder
        if not folder.is_dir():
            folder.mkdir()
            self._files.write(folder)
        return sorted(folder.iterdir())

    @cached_property
    def _files(self) -> TokenizerFiles:
        return TokenizerFiles(self._checkpoint.tokenizer_folder, self._rows)

    @cached_property
    def _reference(self) -> TokenReference | None:
        """What must come out; None without tokenizer.json."""
        if self._files.data is None:
            return None
        with cache.working("tokenizer") as folder:
            return TokenReference(self._files.write(folder))

    @contextmanager
    def _load(
        self, path: Path, tokens: int, decided: Tokenization | None, *, exact: bool = False
    ) -> Iterator[LogitsEngine]:
        loading = Loading(() if path.is_dir() else self._adapters, exact=exact)
        with cache.working("tokenizer") as folder:
            if decided:
                tokenizer = self._files.write(folder) if decided.folder else None
                loading = replace(loading, ends=decided.ends, nfc=decided.nfc, tokenizer=tokenizer)
            with self._open_with(loading)(path, tokens) as engine:
                yield engine

    def _decide(self, path: Path, tokens: int) -> Tokenization | None:
        """Return how an artifact is tokenized, by what its runtime makes of the texts."""
        if self._checkpoint.config.model_type == GGUF:
            return None
        own = plain(self._checkpoint, self._rows)
        if path.is_dir():
            return replace(own, nfc=False)
        if self._reference is None:
            return own
        try:
            with self._load(path, tokens, own) as engine:
                same = self._different(engine, own) is None
        except PitoolError:
            same = False  # llama.cpp aborts on some vocabularies
        return own if same else replace(own, nfc=False, folder=FOLDER)

    def _different(self, engine: LogitsEngine, decided: Tokenization | None) -> Expected | None:
        if decided is None:
            return None
        if self._reference is None:
            return _different_pieces(engine, self._files)
        return self._reference.different(engine.tokenize)


def plain(checkpoint: Checkpoint, rows: int) -> Tokenization:
    """Return the tokenization by an artifact's own vocabulary, without a look at its tokens."""
    folder = checkpoint.tokenizer_folder
    files = TokenizerFiles(folder, rows)
    known = files.added
    if files.data is None and load_pieces(folder / PIECES):
        whole = checkpoint.whole_tokenizer
        known = read_vocabulary(folder, rows, checkpoint.folder, whole).whole_tokens
    normalizer = (files.data or {}).get("normalizer") or {}
    steps = normalizer.get("normalizers") or [normalizer]
    ends = turn_ends(files, known, checkpoint.folder)
    return Tokenization(ends, nfc=any(step.get("type") == "NFC" for step in steps))


def spelled(checkpoint: Checkpoint, text: str) -> tuple[str, list[int] | None]:
    """Return a text and its tokens by tokenizer.json, None where there is no such file.

    Words with unknown tokens are left out, because runtimes legitimately differ on them.
    """
    if not (checkpoint.tokenizer_folder / TOKENIZER).is_file():
        return text, None
    with cache.working("tokenizer") as folder:
        rows = find_model(checkpoint.config, convertible=False).shape.vocabulary
        files = TokenizerFiles(checkpoint.tokenizer_folder, rows)
        return known_words(files.write(folder), text)


def _different_pieces(engine: LogitsEngine, files: TokenizerFiles) -> Expected | None:
    """Return the first text of which a GGUF makes other tokens than its SentencePiece model."""
    processor = load_pieces(files.folder / PIECES)
    if processor is None:
        return None  # of a kind that only llama.cpp's own converter reads
    if files.settings.get("add_prefix_space") not in (None, puts_space(processor)):
        return None  # the settings change what the file does, and nothing here does both
    begins = files.begins_with_bos
    first = [processor.bos_id()] if begins or begins is None else []
    for text in (text for text in TEXTS if "<" not in text):
        expected = Expected(text, [*first, *processor.encode(text)])
        if differs(engine.tokenize, expected):
            return expected
    return None


def _different_tokens(found: Expected, files: TokenizerFiles) -> PitoolError:
    if files.data is not None:
        return PitoolError(
            f"the artifact tokenizes {found.shown} differently from {TOKENIZER}",
            "report this model: its tokenizer was not converted correctly",
        )
    return BadInput(
        f"llama.cpp tokenizes {found.shown} differently from {files.folder / PIECES}",
        f"create {TOKENIZER} with transformers:"
        " AutoTokenizer.from_pretrained(...).save_pretrained(...)",
    )
