"""Measured decode speeds and the sizes of models: what the sample model is taught about them.

Speeds are from the project's fact sheet (llama.cpp on a Pi 5 and a Pi 4, published results).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Speed:
    """A measured decode speed: model, quantisation, tokens per second, threads."""

    board: str
    model: str
    quant: str
    decode: str


SPEEDS: tuple[Speed, ...] = (
    Speed("Raspberry Pi 5", "Qwen2.5-0.5B", "Q4_0", "34.7"),
    Speed("Raspberry Pi 5", "Qwen2.5-0.5B", "Q4_K_M", "26.1"),
    Speed("Raspberry Pi 5", "Qwen2.5-0.5B", "Q8_0", "23.5"),
    Speed("Raspberry Pi 5", "Qwen2.5-1.5B", "Q4_0", "12.0"),
    Speed("Raspberry Pi 5", "Qwen2.5-1.5B", "Q4_K_M", "11.6"),
    Speed("Raspberry Pi 5", "Llama-3.2-3B", "Q4_K_M", "4.6"),
    Speed("Raspberry Pi 5", "SmolLM2-1.7B", "Q4_K_M", "8.2"),
    Speed("Raspberry Pi 5", "Qwen2.5-3B", "Q4_K_M", "5.2"),
    Speed("Raspberry Pi 4B", "gemma3-270M", "Q4_0", "14.1"),
    Speed("Raspberry Pi 4B", "Qwen2.5-0.5B", "Q4_0", "9.8"),
    Speed("Raspberry Pi 4B", "Qwen2.5-0.5B", "Q4_K_M", "9.2"),
    Speed("Raspberry Pi 4B", "Qwen2.5-0.5B", "Q8_0", "6.8"),
    Speed("Raspberry Pi 4B", "Llama-3.2-1B", "Q4_0", "4.6"),
    Speed("Raspberry Pi 4B", "Llama-3.2-1B", "Q8_0", "2.8"),
    Speed("Raspberry Pi Zero 2 W", "SmolLM-360M", "Q4_K_M", "2.6"),
)

FORMAT_BITS = {"Q4_0": 4.5, "Q8_0": 8.5, "F16": 16.0}
MODEL_BILLIONS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 7.0, 8.0, 14.0)
RAM_GB = (1, 2, 4, 8, 16)
FREE_SHARE = 0.25


def model_gb(billions: float, quant: str) -> float:
    """Weights in GB of a model whose tensors all have the bits per weight of `quant`."""
    return billions * FORMAT_BITS[quant] / 8


def fits(billions: float, quant: str, ram_gb: int) -> bool:
    """Whether the weights leave a quarter of the RAM for the system and the KV cache."""
    return model_gb(billions, quant) <= ram_gb * (1 - FREE_SHARE)
