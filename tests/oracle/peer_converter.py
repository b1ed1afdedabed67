"""llama.cpp's own converter in a process of its own: reads orders line by line, writes GGUFs.

Kept apart from the tests because its gguf package is another version of the installed one. The
tiny tokenizers are in no list of the converter's: for them it is told the name of their rules.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def main(source: str) -> None:
    """Convert until the input ends; answer every order with a line."""
    sys.path[:0] = [source, f"{source}/gguf-py"]
    gguf: Any = importlib.import_module("gguf")
    peer: Any = importlib.import_module("conversion")
    recognise = peer.TextModel.get_vocab_base_pre

    def name(self: Any, tokenizer: object) -> str:
        if self.hparams["vocab_size"] >= 1000:
            return str(recognise(self, tokenizer))
        return "jina-v2-en" if self.hparams["model_type"] == "bert" else "smollm"

    peer.TextModel.get_vocab_base_pre = name
    types = {
        "F32": gguf.LlamaFileType.ALL_F32,
        "F16": gguf.LlamaFileType.MOSTLY_F16,
        "BF16": gguf.LlamaFileType.MOSTLY_BF16,
    }
    for line in sys.stdin:
        order = json.loads(line)
        folder, target = Path(order["folder"]), Path(order["target"])
        try:
            settings = peer.ModelBase.load_hparams(folder, False)
            architecture = peer.get_model_architecture(settings, peer.ModelType.TEXT)
            kind = peer.get_model_class(architecture)
            if "Gemma4" in architecture:  # wants a tokenizer of SentencePiece's making
                kind.set_vocab = peer.TextModel._set_vocab_gpt2
            kind(folder, types[order["kind"]], target, hparams=settings).write()
            print("done", flush=True)
        except Exception as error:  # becomes the failing test's message
            print(f"failed: {error!r}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
