"""Cuts the vocabulary of a source: chooses tokens, and writes everything with their new ids.

Weights are not read: the rows of a checkpoint are picked as they are read by the writers, and those
of a GGUF are copied when it is converted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from pitool.architectures import table
from pitool.catalog import gguf
from pitool.catalog.manifest import Vocabulary
from pitool.checkpoint.config import GGUF, Config, read_config
from pitool.checkpoint.source import Source, Trim, choose_tokenizer
from pitool.checkpoint.tokenizer import PIECES, TokenizerFiles, damaged, read_json
from pitool.convert.engines import OpenEngine
from pitool.convert.gguf.model import find_model
from pitool.convert.gguf.vocabulary import load_pieces
from pitool.convert.trim import files as trimmed_files
from pitool.convert.trim import gguf as trimmed_gguf
from pitool.convert.trim.choice import Tokenize, choose, lost_scripts
from pitool.convert.trim.pieces import Pieces, of_files
from pitool.convert.trim.texts import Texts
from pitool.errors import BadInput, UsageError, panics_raised
from pitool.quality import texts as built_in_texts

# Room for the context of an engine that only makes tokens.
ROOM = 256
CODE = "code"
# A text in the code of a chat template.
_LITERAL = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")


def trim(source: Source, texts: Texts, scratch: Path, open_engine: OpenEngine) -> Source:
    """Return the source with the part of its vocabulary that texts need.

    New settings and tokenizer, or the header of a GGUF, are written into ``scratch``. BadInput for
    a model whose vocabulary cannot be cut; UsageError where every token is needed.
    """
    assert source.folder
    config = read_config(source.folder)
    if config.model_type == GGUF:
        return _trim_gguf(source, texts, scratch, open_engine)
    return _trim_checkpoint(source, config, texts, scratch)


def retrim(source: Source, kept: Sequence[int], scratch: Path) -> Source:
    """Return a checkpoint's source with the vocabulary that a conversion has left of it."""
    assert source.folder
    config = read_config(source.folder)
    files = _files_of(source, config)
    said = Vocabulary(len(kept), files.size, "", "", 0, 0)
    return _written(source, config, files, kept, said, scratch)


def _trim_checkpoint(source: Source, config: Config, texts: Texts, scratch: Path) -> Source:
    files = _files_of(source, config)
    pieces = _pieces(files)
    tokenize = _tokenizer(files)
    assert source.folder
    generation = read_json(source.folder / trimmed_files.GENERATION) or {}
    named = (files.template or "") + files.bos + files.eos
    ids = _named_ids(config.values, generation)
    kept, vocabulary = _chosen(pieces, texts, tokenize, named, ids)
    return _written(source, config, files, kept, vocabulary, scratch)


def _pieces(files: TokenizerFiles) -> Pieces:
    try:
        return of_files(files)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(files.folder, error) from None


def _files_of(source: Source, config: Config) -> TokenizerFiles:
    """Return the tokenizer's files of a checkpoint; BadInput where pitool does not write it."""
    architecture = table.find(config.model_type)
    if architecture is None or architecture.gguf is None:
        raise BadInput(
            f"the vocabulary of a {config.model_type!r} model cannot be cut, because its GGUF is"
            " written by llama.cpp's own converter",
            "drop --languages and --keep-text",
        )
    assert source.folder
    folder = choose_tokenizer(source, source.folder).folder
    return TokenizerFiles(folder, find_model(config, convertible=False).shape.vocabulary)


def _written(
    source: Source,
    config: Config,
    files: TokenizerFiles,
    kept: Sequence[int],
    vocabulary: Vocabulary,
    scratch: Path,
) -> Source:
    """Write settings and tokenizer with new ids; return the source with them."""
    assert source.folder
    # The name of the folder is read into the metadata of a GGUF.
    target = scratch / source.folder.resolve().name
    target.mkdir()
    new = {old: i for i, old in enumerate(kept)}
    trimmed_files.write_settings(source.folder, target, new)
    trimmed_files.write_tokenizer(files, target, new)
    made = Trim(np.array(kept, np.int64), target, _matrices(config), vocabulary)
    return replace(source, trim=made)


def _matrices(config: Config) -> tuple[str, ...]:
    """Return the names in a checkpoint of the tensors with a row for each token."""
    wanted = find_model(config, convertible=False).wanted()
    found = [want for want in wanted if want.target.name in trimmed_gguf.MATRICES]
    names = (name for want in found for name in (want.source, want.fallback))
    return tuple(dict.fromkeys(filter(None, names)))


def _trim_gguf(source: Source, texts: Texts, scratch: Path, open_engine: OpenEngine) -> Source:
    assert source.folder
    header = gguf.read_header(source.folder)
    pieces = trimmed_gguf.of_gguf(header)
    settings = trimmed_gguf.settings_of(header)
    named = "".join(value for value in settings.values() if isinstance(value, str))
    with open_engine(source.folder, ROOM) as engine:
        kept, vocabulary = _chosen(pieces, texts, engine.tokenize, named, _named_ids(settings))
    target = scratch / source.folder.name
    rows = np.array(kept, np.int64)
    trimmed_gguf.write_header(header, target, rows)
    return replace(source, trim=Trim(rows, target, trimmed_gguf.MATRICES, vocabulary))


def _chosen(
    pieces: Pieces, texts: Texts, tokenize: Tokenize, named: str, ids: set[int]
) -> tuple[list[int], Vocabulary]:
    """Return the tokens that stay, and what is to be said of the choice."""
    used = {token for text in texts.chunks() for token in tokenize(text)}
    counts = Counter(token for text in texts.code() for token in tokenize(text))
    used.update(token for token, count in counts.items() if count > 1)
    used.update(token for text in _written_by(named) for token in tokenize(text))
    kept = choose(pieces, used, named, ids)
    if len(kept) == len(pieces.texts):
        raise UsageError(
            f"all {len(kept)} tokens of the vocabulary are needed",
            "drop --languages and --keep-text, or name fewer languages",
        )
    return kept, _measured(pieces, texts, tokenize, kept)


def _written_by(template: str) -> Iterator[str]:
    """Yield the texts that a chat template writes: what is between its tags, and its literals."""
    yield from re.split(r"\{[%{#].*?[%}#]\}", template, flags=re.DOTALL)
    for match in _LITERAL.finditer(template):
        literal = match[1] or match[2] or ""
        yield literal.replace("\\n", "\n").replace("\\t", "\t").replace("\\'", "'")


def _measured(pieces: Pieces, texts: Texts, tokenize: Tokenize, kept: Sequence[int]) -> Vocabulary:
    """Return how many tokens of the user's text change, or of the languages' built-in texts.

    Those are the texts of certificates, by which nothing was chosen.
    """
    text, name = texts.own, " and ".join(path.name for path in texts.files)
    if not text:
        known = [code for code in (*texts.languages, CODE) if code in built_in_texts.languages()]
        text = "\n\n".join(p for code in known for p in built_in_texts.languages()[code])
        name = f"built-in texts ({', '.join(known)})"
    left = set(kept)
    counts = Counter(token in left for token in tokenize(text))
    return Vocabulary(
        len(kept), pieces.whole, texts.chosen_by, name,
        counts.total(), counts[False], lost_scripts(pieces, kept),
    )  # fmt: skip


def _named_ids(*settings: dict[str, object]) -> set[int]:
    """Return the ids of tokens that settings name."""
    found: set[int] = set()
    for values in settings:
        for key, value in values.items():
            if isinstance(value, dict):
                found |= _named_ids(value)
            elif key.endswith(("_token_id", "_token_ids", "_token_index")):
                each = value if isinstance(value, list) else [value]
                found.update(token for token in each if type(token) is int)
    return found


def _tokenizer(files: TokenizerFiles) -> Tokenize:
    """Return what makes the tokens of a text by a checkpoint's own files."""
    if files.data is None:
        processor = load_pieces(files.folder / PIECES)
        if processor is None:
            raise BadInput(f"{files.folder / PIECES} is damaged", "download it again")
        return lambda text: list(processor.encode(text))
    try:
        with panics_raised():
            tokenizer = Tokenizer.from_str(json.dumps(files.data))
            tokenizer.no_truncation()
            tokenizer.no_padding()
    except Exception as error:  # the library raises nothing narrower
        raise damaged(files.folder, error) from None
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)
