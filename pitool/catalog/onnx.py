"""Reads what an ONNX folder says of itself, and refuses one that is damaged or reaches outside.

The folder is laid out as onnxruntime-genai's model builder does it: ``genai_config.json``, the
graph, its external data, and the tokenizer's files. Standard library only, so that a board can
refuse a bad file before onnxruntime sees it.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pitool.catalog.files import path_kind
from pitool.catalog.onnx_graph import external_data
from pitool.errors import BadInput

CONFIG = "genai_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
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
    config = read_json(path / CONFIG)
    try:
        folder = _from_config(path, config)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path / CONFIG} is not an onnxruntime-genai configuration ({error!r})", _AGAIN
        ) from None
    if path_kind(path / TOKENIZER) != "file":
        raise BadInput(f"{path} has no {TOKENIZER}", "copy it from the model's checkpoint")
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file; BadInput when there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path} is missing", _AGAIN) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"cannot read {path} ({error})", _AGAIN) from None
    if not isinstance(data, dict):
        raise BadInput(f"{path} is not a JSON object", _AGAIN)
    return data


def _from_config(path: Path, config: Mapping[str, Any]) -> OnnxFolder:
    model = config["model"]
    decoder = model["decoder"]
    graph = _inside(path, str(decoder.get("filename", "model.onnx")), path / CONFIG)
    ends = model["eos_token_id"]
    return OnnxFolder(
        path=path,
        name=path.name,
        architecture=str(model.get("type", "unknown")),
        graph=graph,
        files=(graph, *external_files(graph)),
        layers=int(decoder["num_hidden_layers"]),
        kv_heads=int(decoder["num_key_value_heads"]),
        head_dim=int(decoder["head_size"]),
        vocabulary=int(model["vocab_size"]),
        context=int(model["context_length"]),
        ends=frozenset(map(int, ends if isinstance(ends, list) else [ends])),
        names=_names(decoder.get("inputs", {}), decoder.get("outputs", {})),
        shared_cache=bool(config.get("search", {}).get("past_present_share_buffer", True)),
    )


def _names(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Names:
    plain = Names()
    return Names(
        input_ids=inputs.get("input_ids", plain.input_ids),
        attention_mask=inputs.get("attention_mask", plain.attention_mask),
        position_ids=inputs.get("position_ids", plain.position_ids),
        past_key=inputs.get("past_key_names", plain.past_key),
        past_value=inputs.get("past_value_names", plain.past_value),
        logits=outputs.get("logits", plain.logits),
        present_key=outputs.get("present_key_names", plain.present_key),
        present_value=outputs.get("present_value_names", plain.present_value),
    )


def external_files(graph: Path) -> tuple[Path, ...]:
    """Return the files that the tensors of a graph lie in, each checked to be long enough.

    BadInput when the graph is damaged, a file is missing or short, or lies outside the folder.
    """
    needed: dict[str, int] = {}
    try:
        with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            for entries in external_data(view):
                end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
                where = entries["location"]
                needed[where] = max(needed.get(where, 0), end)
    except FileNotFoundError:
        raise BadInput(f"{graph} is missing", _AGAIN) from None
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{graph} is damaged or truncated ({error})", _AGAIN) from None
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
    escapes = name.is_absolute() or ".." in name.parts or "\\" in location or not location
    if escapes or not path.resolve().is_relative_to(folder.resolve()):
        raise BadInput(
            f"{graph} refers to {location!r}, which is outside its folder",
            "do not use this model, or copy the file into the folder",
        )
    if path_kind(path) != "file":
        raise BadInput(f"{path} is missing", _AGAIN)
    return path
