"""Which weights a checkpoint has: the files, chosen as transformers does, and the tensors in them.

Owns that choice, the names of tensors under which all others look for them, and what beside the
weights is none of them: masks, counters and tables that a model computes for itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pitool.catalog import reading
from pitool.checkpoint.tensors import Tensor, read_header
from pitool.errors import BadInput

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_AGAIN = "download the checkpoint again"
_SHARD = re.compile(r".+-\d{5}-of-\d{5}(\.\w+)?\.safetensors")
_VARIANT = re.compile(r"model\.(\w+)(-\d{5}-of-\d{5})?\.safetensors")
# A text model inside a multimodal one has these words before its names, in either order, by the
# version of transformers that saved it.
_INSIDE = re.compile(r"(?:model\.)?(?:language_model|text_model)\.(?:model\.)?(?=(lm_head\.)?)")
# As transformers 4 saves a name of Gemma 3n's, and what it is.
_GARBLED = ("per_layer_model.language_model_projection", "per_layer_model_projection")
# What a model computes or counts for itself, whatever its type.
_BUFFER = re.compile(
    r"(?:.*\.)?(?:position_ids|(?:original_)?inv_freq|masked_bias|num_batches_tracked"
    r"|(?:attn|attention)\.bias|causal_mask|attn_mask|(?:cos|sin)_cached)"
)
# First words of names, which the decoder alone was saved without.
_ROOTS = ("model", "transformer", "gpt_neox")


def read_index(folder: Path) -> dict[str, Tensor]:
    """Return every tensor of a checkpoint folder by name; BadInput for damaged or missing files.

    Two files with the same tensor are refused, and an index that lists one that no file has.
    """
    names = listed(folder)
    tensors = by_name(tensor for path in weight_files(folder) for tensor in read_header(path))
    stored = {tensor.name for tensor in tensors.values()}
    for name, file in names.items():
        if name not in stored and not is_buffer(name):
            raise BadInput(
                f"{folder / INDEX} lists the tensor {name!r} in {file}, which does not have it",
                "use an index and files from the same release",
            )
    return tensors


def by_name(tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return tensors by ``plain_name``; BadInput for a tensor that two files have."""
    stored: dict[str, Tensor] = {}
    for tensor in tensors:
        if other := stored.get(tensor.name):
            raise BadInput(
                f"{tensor.path.parent} has the tensor {tensor.name!r} both in {other.path.name} and"
                f" in {tensor.path.name}",
                "use files from the same release",
            )
        stored[tensor.name] = tensor
    plain = {plain_name(name): tensor for name, tensor in stored.items()}
    return plain if len(plain) == len(stored) else stored


def plain_name(name: str) -> str:
    """Return the name that a tensor of a text model has where it is not inside a multimodal one."""
    name = name.replace(*_GARBLED)
    match = _INSIDE.match(name)
    if not match:
        return name
    rest = name[match.end() :]
    return rest if match[1] else f"model.{rest}"


def find_name(tensors: Mapping[str, Tensor], name: str) -> str | None:
    """Return a name as it is known, with or without the first word of a whole model's names."""
    return next((known for known in _spellings(name) if known in tensors), None)


def _spellings(name: str) -> Iterator[str]:
    yield name
    root, _, rest = name.partition(".")
    if root in _ROOTS:
        yield rest
    yield from (f"{root}.{name}" for root in _ROOTS)


def is_buffer(name: str) -> bool:
    """Tell whether a name is that of a mask, counter or table, which no artifact holds."""
    return _BUFFER.fullmatch(name) is not None


def is_weight(tensor: Tensor) -> bool:
    """Tell whether a tensor can be a weight: a float that is no buffer."""
    return tensor.is_float and not is_buffer(tensor.name)


# -- files -----------------------------------------------------------------------------------------


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a folder's weights, in order; BadInput where that is not plain.

    The order is transformers': ``model.safetensors``, then the files of the index. A file of
    another name counts where it is the only one.
    """
    names = file_names(folder)
    if missing := [name for name in names if not os.path.lexists(folder / name)]:
        raise BadInput(
            f"{folder} has {len(names) - len(missing)} of the {len(names)} files that {INDEX}"
            f" lists; {', '.join(missing[:3])}{' ...' * (len(missing) > 3)} is missing",
            _AGAIN,
        )
    return [folder / name for name in names] or [_only(folder)]


def has_weights(folder: Path) -> bool:
    """Tell whether a folder has anything that is called weights, whatever it is."""
    named = any(os.path.lexists(folder / name) for name in (SINGLE, INDEX))
    return named or any(folder.glob("*.safetensors"))


def file_names(folder: Path) -> list[str]:
    """Return the names of the weight files, where the usual names say them, else none."""
    if os.path.lexists(folder / SINGLE):
        return [SINGLE]
    return sorted(set(listed(folder).values()))


def listed(folder: Path) -> dict[str, str]:
    """Return the file of each tensor by a folder's index; nothing where no index counts."""
    index = folder / INDEX
    if os.path.lexists(folder / SINGLE) or not os.path.lexists(index):
        return {}
    found = reading.read_object(index, _AGAIN, most=reading.LARGEST_TABLE)
    names = found.get("weight_map")
    if not isinstance(names, dict) or not names:
        raise BadInput(f"{index} lists no files", _AGAIN)
    if wrong := [file for file in names.values() if not _is_name(file)]:
        raise BadInput(f"{index} lists {wrong[0]!r}, which is not a file in the folder", _AGAIN)
    return names


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and not set(name) & set("/\\\0")


def link_weights(folder: Path, into: Path) -> None:
    """Link a folder's weights into another, where every other program chooses the same."""
    files = weight_files(folder)
    sharded = len(files) > 1
    if sharded:
        (into / INDEX).symlink_to((folder / INDEX).resolve())
    for path in files:
        (into / (path.name if sharded else SINGLE)).symlink_to(path.resolve())


def _only(folder: Path) -> Path:
    """Return the one safetensors file of a folder without usual names; BadInput otherwise."""
    found = sorted(folder.glob("*.safetensors"))
    names = [path.name for path in found]
    shown = f"{', '.join(names[:3])}{' ...' * (len(names) > 3)}"
    if any(map(_SHARD.fullmatch, names)):
        raise BadInput(
            f"{folder} has shards ({shown}), but no index that says which belong together",
            f"download {INDEX} next to them",
        )
    if len(found) > 1:
        variants = all(map(_VARIANT.fullmatch, names))
        what = "only variants of the weights" if variants else "several files of weights"
        raise BadInput(
            f"{folder} has {what} ({shown}), and none of them is {SINGLE}",
            f"rename the one to convert to {SINGLE}",
        )
    if found:
        return found[0]
    raise _without(folder)


def _without(folder: Path) -> BadInput:
    """Return the error of a folder without a safetensors file."""
    if list(folder.glob("pytorch_model*.bin")):
        return BadInput(
            f"{folder} has its weights only as pytorch_model.bin, a format that can run code when"
            " it is opened",
            "save it as safetensors: model.save_pretrained(folder, safe_serialization=True)",
        )
    return BadInput(f"{folder} has no {SINGLE}", "choose a folder with weights")
