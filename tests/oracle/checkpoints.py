"""Writes the tiny checkpoint of a configuration as it stands, and runs transformers on it.

Works with transformers 4 and 5, and knows nothing of pitool: a child process in an environment of
its own runs this file.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_utils import PreTrainedModel

try:
    from transformers.initialization import no_init_weights  # transformers 5
except ImportError:
    from transformers.modeling_utils import no_init_weights


def write_config(folder: Path, values: dict[str, Any]) -> None:
    """Write ``config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))


def make_model(folder: Path) -> PreTrainedModel:
    """Return a model of the configuration in a folder; each tensor depends on its name alone."""
    config = AutoConfig.from_pretrained(folder)
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model.tie_weights()
    model = model.float().eval()
    trained = ("expert_bias", "layer_scalar")
    drawn_too = [each for each in model.named_buffers() if each[0].endswith(trained)]
    name = _class(model)
    centred = "Gemma" in name and "Gemma4" not in name and "Gemma3n" not in name
    with torch.no_grad():
        for name, weight in (*model.named_parameters(), *drawn_too):
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            spread = 0.2 if weight.ndim == 1 else 1.5 / weight.shape[-1] ** 0.5
            drawn = torch.randn(weight.shape, generator=generator) * spread
            ones = weight.ndim == 1 and name.endswith(("weight", "layer_scalar")) and not centred
            weight.copy_(drawn + 1 if ones else drawn)
    return model


def _class(model: PreTrainedModel) -> str:
    return type(model).__name__


def save_weights(model: PreTrainedModel, folder: Path) -> None:
    """Write the weights beside the configuration, each shared one once."""
    tensors = {name: weight.detach() for name, weight in model.named_parameters()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def compute(model: PreTrainedModel, ids: list[int]) -> NDArray[np.float32]:
    """Return the logits after each token, shape (tokens, vocabulary), float32."""
    with torch.no_grad():
        # Layers of Gemma 3n borrow keys from others by way of the cache, in transformers 4.
        cached = "Gemma3n" in _class(model)
        logits: NDArray[np.float32] = model(torch.tensor([ids]), use_cache=cached).logits[0].numpy()
    return logits


def answer(folder: Path) -> None:
    """Compute and save the model of a folder: ``logits.npy``, and ``saved`` as this version does.

    What transformers says to a setting that it cannot compute goes to ``refused.txt``.
    """
    try:
        model = make_model(folder)
        ids = json.loads((folder.parent / "ids.json").read_text())
        np.save(folder / "logits.npy", compute(model, ids))
        model.save_pretrained(folder / "saved")
    except Exception as error:  # whatever it says
        (folder / "refused.txt").write_text(repr(error))


if __name__ == "__main__":
    for each in sorted(Path(sys.argv[1]).iterdir()):
        if each.is_dir():
            answer(each)
