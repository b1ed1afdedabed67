"""Reads what an ONNX folder says of itself, and refuses one that is damaged or reaches outside.

The folder is laid out as onnxruntime-genai's model builder does it: ``genai_config.json``, the
graph, its external data, and the tokenizer's files. Standard library only, so that a board can
refuse a bad file before onnxruntime sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pitool.catalog import reading
from pitool.catalog.files import path_kind
from pitool.catalog.onnx_graph import external_data
from pitool.errors import BadInput

CONFIG = "genai_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
MOST_LAYERS = 1000
LARGEST = (1 << 31) - 1
_AGAIN = "copy or convert it again"


@dataclass(frozen=True, slots=True)
class Names:
    """The graph's inputs and outputs; ``%d`` stands for a layer."""

    input_ids: str = "input_ids"
    attention_mask: str = "attention_mask"
    position_ids: str = "position_ids"
    past_key: str = "past_key_values.%d.key"
    past_value: str = "past_key_values.%d.value"
    logits: str = "logits"
    present_key: str = "present.%d.key"
    present_value: str = "present.%d.value"


@dataclass(frozen=True, slots=True)
class OnnxFolder:
    """A checked folder: ``files`` are the graph and its external data, ``context`` in tokens.

    ``shared_cache``: the graph's past and present may be one buffer of full length.
    """

    path: Path
    name: str
    architecture: str
    graph: Path
    files: tuple[Path, ...]
    layers: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    ends: frozenset[int]
    names: Names
    shared_cache: bool = True

    @property
    def bytes(self) -> int:
        """Size of the graph and its weights."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def quantisation(self) -> str:
        """What the folder's name ends with, such as ``INT4`` of ``smollm-int4``; else ``ONNX``."""
        last = self.path.name.replace("_", "-").split("-")[-1].upper()
        return last if last in ("INT4", "INT8", "FP16", "FP32") else "ONNX"


def is_onnx_folder(path: Path) -> bool:
    """Tell whether ``path`` is a folder that holds an ONNX model."""
    return path_kind(path / CONFIG) == "file"


def read_folder(path: Path) -> OnnxFolder:
    """Return what a folder holds; BadInput when a part is missing, damaged or outside of it."""
    path = path.resolve()
    config = _Table(path / CONFIG, "", read_json(path / CONFIG))
    model = config.table("model")
    decoder = model.table("decoder")
    graph = _inside(path, decoder.text("filename", "model.onnx"), path / CONFIG)
    folder = OnnxFolder(
        path=path,
        name=path.name,
        architecture=model.text("type", "unknown"),
        graph=graph,
        files=(graph, *external_files(graph)),
        layers=decoder.count("num_hidden_layers", MOST_LAYERS),
        kv_heads=decoder.count("num_key_value_heads"),
        head_dim=decoder.count("head_size"),
        vocabulary=model.count("vocab_size"),
        context=model.count("context_length"),
        ends=model.ids("eos_token_id"),
        names=_names(decoder.table("inputs", {}), decoder.table("outputs", {})),
        shared_cache=config.table("search", {}).flag("past_present_share_buffer", default=True),
    )
    if path_kind(path / TOKENIZER) != "file":
        raise BadInput(f"{path} has no {TOKENIZER}", "copy it from the model's checkpoint")
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file; BadInput when there is none."""
    return reading.read_object(path, _AGAIN)


class _Table:
    """An object of the configuration whose values are checked as they are read."""

    def __init__(self, path: Path, where: str, values: object) -> None:
        self._path, self._where = path, where
        if not isinstance(values, dict):
            raise self._wrong(where.rstrip("."), "an object")
        self._values: dict[str, Any] = values

    def table(self, key: str, default: object = None) -> _Table:
        return _Table(self._path, f"{self._where}{key}.", self._values.get(key, default))

    def text(self, key: str, default: str) -> str:
        value = self._values.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(self._where + key, "a text")
        return value

    def pattern(self, key: str, default: str) -> str:
        """Return a name of each layer, with one ``%d``."""
        value = self.text(key, default)
        if value.count("%") != 1 or "%d" not in value:
            raise self._wrong(self._where + key, "a name with one %d")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(self._where + key, "true or false")
        return value

    def count(self, key: str, most: int = LARGEST) -> int:
        value = self._values.get(key)
        if type(value) is not int or not 0 < value <= most:
            raise self._wrong(self._where + key, f"a whole number from 1 to {most}")
        return value

    def ids(self, key: str) -> frozenset[int]:
        """Return one token id or several."""
        value = self._values.get(key)
        found = value if isinstance(value, list) else [value]
        if any(type(i) is not int or abs(i) > LARGEST for i in found):
            raise self._wrong(self._where + key, "a token id or a list of them")
        return frozenset(found)

    def _wrong(self, key: str, wanted: str) -> BadInput:
        return BadInput(
            f"{self._path} is not an onnxruntime-genai configuration: {key} is not {wanted}", _AGAIN
        )


def _names(inputs: _Table, outputs: _Table) -> Names:
    plain = Names()
    return Names(
        input_ids=inputs.text("input_ids", plain.input_ids),
        attention_mask=inputs.text("attention_mask", plain.attention_mask),
        position_ids=inputs.text("position_ids", plain.position_ids),
        past_key=inputs.pattern("past_key_names", plain.past_key),
        past_value=inputs.pattern("past_value_names", plain.past_value),
        logits=outputs.text("logits", plain.logits),
        present_key=outputs.pattern("present_key_names", plain.present_key),
        present_value=outputs.pattern("present_value_names", plain.present_value),
    )


def external_files(graph: Path) -> tuple[Path, ...]:
    """Return the files that the tensors of a graph lie in, each checked to be long enough.

    BadInput when the graph is damaged, a file is missing or short, or lies outside the folder.
    """
    needed: dict[str, int] = {}
    for location, end in external_data(graph):
        needed[location] = max(needed.get(location, 0), end)
    files = []
    for location, end in needed.items():
        path = _inside(graph.parent, location, graph)
        size = path.stat().st_size
        if size < end:
            raise BadInput(f"{path} is truncated: it has {size} of {end} bytes", _AGAIN)
        files.append(path)
    return tuple(files)


def _inside(folder: Path, location: str, graph: Path) -> Path:
    """Return the path of a file in ``folder``; BadInput when it lies elsewhere, by a link too."""
    name = PurePosixPath(location)
    path = folder / name
    bad = not location or "\\" in location or "\0" in location
    escapes = bad or name.is_absolute() or ".." in name.parts
    if escapes or not path.resolve().is_relative_to(folder.resolve()):
        raise BadInput(
            f"{graph} refers to {location!r}, which is outside its folder",
            "do not use this model, or copy the file into the folder",
        )
    if path_kind(path) != "file":
        raise BadInput(f"{path} is missing", _AGAIN)
    return path
