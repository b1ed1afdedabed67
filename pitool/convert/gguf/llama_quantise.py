"""Quantises a GGUF by llama.cpp's own ``llama_model_quantize``, in a child process.

For architectures whose mixtures ``planning.type_mixture`` does not model; the others are quantised
by ``quantise``, which needs the memory of a slab only. A child, because the call cannot be
interrupted and a bad file may abort it: Ctrl-C ends it at once, a crash becomes one sentence.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pitool.catalog.binding import import_binding
from pitool.catalog.tensor_types import Quantisation, TensorType
from pitool.convert.gguf.importance import read as read_importance
from pitool.errors import PitoolError
from pitool.process.child import Child
from pitool.process.service import Call, serve

_PROGRESS = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")


def quantise(
    source: Path,
    target: Path,
    quantisation: Quantisation,
    threads: int,
    on_tensor: Callable[[int, int], None] = lambda _done, _all: None,
    *,
    types: Mapping[str, TensorType] | None = None,
    importance: Path | None = None,
) -> None:
    """Write ``target`` from the GGUF ``source``; ``on_tensor`` gets tensors begun and all.

    ``types``: of single tensors, instead of those of llama.cpp's mixture; ``importance``: the
    file of an importance matrix.
    """
    order: dict[str, Any] = {
        "source": str(source),
        "target": str(target),
        "name": quantisation.name,
        "type": quantisation.number,
        "threads": threads,
        "types": _patterns(types or {}),
        "importance": str(importance) if importance else None,
    }
    with Child(
        "pitool.convert.gguf.llama_quantise",
        name="llama.cpp's quantiser",
        advice="check free disk space and memory, then try again",
    ) as child:
        child.call("quantise", lambda event: on_tensor(event["begun"], event["all"]), **order)


def _patterns(types: Mapping[str, TensorType]) -> list[tuple[str, int]]:
    """Return one regular expression for each type, with the type's number."""
    names: dict[int, list[str]] = {}
    for name, kind in types.items():
        names.setdefault(kind.number, []).append(re.escape(name))
    return [(f"^({'|'.join(group)})$", number) for number, group in names.items()]


def _importance(path: Path) -> Any:
    """Return the matrix as llama.cpp takes it; the arrays live as long as the result."""
    llama_cpp = import_binding()
    means = read_importance(path).means
    data = [
        (name.encode(), np.ascontiguousarray(m.ravel(), np.float32)) for name, m in means.items()
    ]
    table = (llama_cpp.llama_model_imatrix_data * (len(data) + 1))()
    for entry, (name, values) in zip(table, data, strict=False):
        entry.name, entry.size = name, values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    table._values = data
    return table


def _quantise(call: Call) -> None:
    """The child's side: do one order, with the tensors that are begun as events."""
    llama_cpp = import_binding()
    order, complaints = call.arguments, list[str]()

    def log(_level: int, text: bytes, _: Any) -> None:
        line = text.decode(errors="replace")
        sys.stderr.write(line)
        if match := _PROGRESS.search(line):
            call.event(begun=int(match[1]), all=int(match[2]))
        elif "error" in line.lower() or "fail" in line.lower():
            complaints.append(line.strip())

    callback = llama_cpp.llama_log_callback(log)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = order["type"]
    params.nthread = order["threads"]
    params.allow_requantize = True  # whether it is wise was asked before
    overrides = (llama_cpp.llama_model_tensor_override * (len(order["types"]) + 1))()
    for entry, (pattern, number) in zip(overrides, order["types"], strict=False):
        entry.pattern, entry.type = pattern.encode(), number
    params.tt_overrides = overrides
    if order["importance"]:
        params.imatrix = _importance(Path(order["importance"]))
    code = llama_cpp.llama_model_quantize(
        os.fsencode(order["source"]), os.fsencode(order["target"]), ctypes.byref(params)
    )
    if code != 0:
        reason = next(iter(complaints), f"code {code}")
        raise PitoolError(
            f"llama.cpp could not quantise to {order['name']} ({reason})",
            "check free disk space and memory, then try again",
        )
    call.result()


if __name__ == "__main__":
    serve({"quantise": _quantise})
