"""One side of ``benchmarks.convert`` in a process of its own: from a checkpoint to a float GGUF.

    python -m benchmarks.convert_sides ours|theirs CHECKPOINT TARGET [LLAMA_CPP]

Theirs is llama.cpp's converter as ``convert_hf_to_gguf.py`` runs it, told the rules of a tokenizer
that is in no list of its own. The one line on stdout is JSON: seconds by stage.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any


def ours(folder: Path, target: Path) -> dict[str, float]:
    """Write the GGUF with pitool's writer."""
    start = time.perf_counter()
    from pitool.catalog.tensor_types import QUANTISATIONS
    from pitool.checkpoint.source import find_source, open_checkpoint
    from pitool.convert.gguf.model import find_model
    from pitool.convert.gguf.vocabulary import read_vocabulary
    from pitool.convert.gguf.writer import write_gguf

    imported = time.perf_counter()
    checkpoint = open_checkpoint(find_source(str(folder), "1gb"))
    model = find_model(checkpoint.config)
    vocabulary = read_vocabulary(folder, model.shape.vocabulary)
    known = time.perf_counter()
    write_gguf(target, checkpoint, model, vocabulary, QUANTISATIONS["F16"])
    return _stages(start, imported, known)


def theirs(folder: Path, target: Path, llama: str) -> dict[str, float]:
    """Write the GGUF with llama.cpp's converter."""
    start = time.perf_counter()
    sys.path[:0] = [llama, f"{llama}/gguf-py"]
    gguf: Any = importlib.import_module("gguf")
    peer: Any = importlib.import_module("conversion")
    peer.TextModel.get_vocab_base_pre = lambda _self, _tokenizer: "smollm"
    imported = time.perf_counter()
    settings = peer.ModelBase.load_hparams(folder, False)
    architecture = peer.get_model_architecture(settings, peer.ModelType.TEXT)
    kind = peer.get_model_class(architecture)
    model = kind(folder, gguf.LlamaFileType.MOSTLY_F16, target, hparams=settings)
    known = time.perf_counter()
    model.write()
    return _stages(start, imported, known)


def _stages(start: float, imported: float, known: float) -> dict[str, float]:
    end = time.perf_counter()
    return {"imports": imported - start, "reading": known - imported, "writing": end - known}


if __name__ == "__main__":
    side, source, made, *rest = sys.argv[1:]
    run = ours if side == "ours" else theirs
    print(json.dumps(run(Path(source), Path(made), *rest)))
