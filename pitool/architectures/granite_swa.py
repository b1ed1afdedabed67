"""Granite with windows: three layers of four have one, and each head a sink.

A sink is a score that no token has, which takes its share of the attention. Layers whose base of
the rotation is 0 are not rotated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pitool.architectures.base import Architecture, Wanted
from pitool.architectures.decoder import read_biases, read_decoder
from pitool.architectures.description import Description, Layout
from pitool.architectures.gpt_oss import sinks
from pitool.architectures.granite import GraniteFile, read_multipliers
from pitool.architectures.settings import FULL, SLIDING, Settings

LAYOUT = replace(Layout(), sinks="self_attn.sinks")
PERIOD = 4


def describe(settings: Settings) -> Description:
    """Return what the settings mean."""
    settings.default(sliding_window=128)
    layers = settings.count("num_hidden_layers")
    types = settings.layer_types([SLIDING if i % PERIOD else FULL for i in range(layers)])
    bases = _bases(settings, layers)
    if turning := {base for base in bases if base}:
        settings.values = {**settings.values, **_with_base(settings, turning.pop())}
    if turning:
        raise settings.error("'layer_rope_theta' has several bases other than 0")
    return read_decoder(
        settings,
        epsilon=1e-5,
        biases=read_biases(settings),
        layout=LAYOUT,
        windows=settings.windows(types, 128),
        unrotated=frozenset(i for i, base in enumerate(bases) if base == 0),
        **read_multipliers(settings),
    )


def _bases(settings: Settings, layers: int) -> list[float]:
    """Return the base of each layer's rotation; none where the settings have one for all."""
    named = settings.value("layer_rope_theta")
    if named is None:
        return []
    if not isinstance(named, list) or len(named) != layers:
        raise settings.bad("layer_rope_theta", f"a list of {layers} numbers")
    if any(isinstance(base, bool) or not isinstance(base, int | float) for base in named):
        raise settings.bad("layer_rope_theta", f"a list of {layers} numbers")
    return [float(base) for base in named]


def _with_base(settings: Settings, base: float) -> dict[str, Any]:
    """Return the settings of the rotation with the layers' base, which counts before theirs."""
    tables = {key: settings.value(key) for key in ("rope_parameters", "rope_scaling")}
    inside: dict[str, Any] = {
        k: {**t, "rope_theta": base} for k, t in tables.items() if isinstance(t, dict) and t
    }
    return inside or {"rope_theta": base}


class GraniteSwaFile(GraniteFile):
    """Granite's tensors and multipliers, the sinks, and which layers have a window."""

    architecture = "granite_swa"
    more_biases = True

    def check_windows(self, model: Description) -> None:
        """Accept windows in any layers; refuse a model without any, or without positions."""
        if not any(model.windows) or len(model.unrotated) == model.sizes.layers:
            what = "windows" if not any(model.windows) else "positions"
            raise model.error(
                f"layers without {what} alone are not supported",
                f"choose a checkpoint in which some layers have {what}",
            )

    def windows(self, model: Description) -> tuple[int, ...]:
        """Return the windows."""
        return model.windows

    def attention(self, here: str, there: str, model: Description) -> Iterator[Wanted]:
        """Yield the matrices of attention, and the sinks."""
        yield from super().attention(here, there, model)
        yield sinks(here, there, model)

    def special(self, model: Description) -> dict[str, Any]:
        """Return Granite's keys, the windows, and which layers are rotated."""
        layers = range(model.sizes.layers)
        keys = {
            **super().special(model),
            "attention.sliding_window": max(model.windows),
            "attention.sliding_window_pattern": [model.windows[i] > 0 for i in layers],
        }
        if model.unrotated:
            keys["attention.rope_pattern"] = [i not in model.unrotated for i in layers]
        return keys


ARCHITECTURE = Architecture("Granite with windows", describe, GraniteSwaFile(), transformers=5)
