"""SmolLM3: Llama's graph, with every fourth layer unrotated."""

from __future__ import annotations

from typing import Any, ClassVar

from pitool.architectures.base import Architecture
from pitool.architectures.decoder import read_biases, read_decoder
from pitool.architectures.description import Description
from pitool.architectures.gguf import DecoderFile
from pitool.architectures.llama import LlamaFile
from pitool.architectures.settings import FULL, SLIDING, Settings


def describe(settings: Settings) -> Description:
    """Return what the settings mean; a window, if any, is that of the layers without positions."""
    settings.default(rope_theta=2_000_000.0)
    settings.ignore("max_window_layers")
    layers = settings.count("num_hidden_layers")
    interval = settings.count("no_rope_layer_interval", 4)
    rotated = [(i + 1) % interval != 0 for i in range(layers)]
    if settings.value("no_rope_layers"):  # 1 for those that do rotate
        rotated = settings.flags("no_rope_layers", layers)
    switched = settings.flag("use_sliding_window", default=False)
    windowed = switched and settings.value("sliding_window") is not None
    types = settings.layer_types([SLIDING if windowed and not r else FULL for r in rotated])
    windows = settings.windows(types)
    return read_decoder(
        settings,
        biases=read_biases(settings),
        windows=windows if switched else (0,) * layers,
        unrotated=frozenset(i for i in range(layers) if not rotated[i]),
    )


class SmolLM3File(LlamaFile):
    """llama.cpp's graph leaves every fourth layer unrotated."""

    architecture = "smollm3"
    scalings: ClassVar = DecoderFile.scalings  # its loader has no place for Llama 3's divisors
    own_heads = False
    more_biases = False

    def check(self, model: Description) -> None:
        """Refuse other unrotated layers than llama.cpp's."""
        super().check(model)
        if model.unrotated != frozenset(range(3, model.sizes.layers, 4)):
            raise model.error(
                "only every fourth layer can be unrotated",
                "convert a checkpoint whose 'no_rope_layer_interval' is 4",
            )

    def special(self, model: Description) -> dict[str, Any]:
        """Return what only its loader reads."""
        sizes = model.sizes
        return {"vocab_size": sizes.vocabulary, "rope.dimension_count": sizes.head_dim}


ARCHITECTURE = Architecture("SmolLM3", describe, SmolLM3File())
