"""What a calibration is made with: an engine that collects, and text that a model writes itself.

The text stands in where there is no corpus.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pitool.engine import worker
from pitool.engine.base import Engine, Message, Prompt, Sampling, Settings
from pitool.quality.divergence import WINDOW

BATCH = 128
PROMPTS = (
    "What is a Raspberry Pi?",
    "How much RAM does the Pi 5 have?",
    "What does Q4_K_M mean?",
    "Why is my model so slow?",
    "What is the capital of France?",
    "How do I see how much memory is free?",
    "Does an 8B model fit into 8 GB?",
    "Which boards do you know?",
)
# Each prompt is answered so often at most.
ROUNDS = 4


def open_calibrator(path: Path, threads: int) -> worker.WorkerEngine:
    """Load a GGUF in a worker that sums squared activations, with room for a window."""
    settings = Settings(
        WINDOW, threads, threads, micro_batch=BATCH, outputs=BATCH, kv_type="f32", collect=True
    )
    return worker.start("gguf", path, settings)


def write_text(engine: Engine, tokens: int, on_token: Callable[[int], None]) -> list[list[int]]:
    """Return windows of answers to the prompts, drawn at temperature 1: about ``tokens`` tokens."""
    texts: list[int] = []
    for seed in range(ROUNDS * len(PROMPTS)):
        if len(texts) >= tokens:
            break
        prompt = ask(engine, PROMPTS[seed % len(PROMPTS)])
        texts += engine.tokenize(prompt)
        engine.clear()
        most = min(WINDOW // 2, max(tokens - len(texts), 1))
        sampling = Sampling(
            temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed, max_tokens=most
        )
        for token in engine.stream(prompt, sampling):
            if token.id is not None:
                texts.append(token.id)
                on_token(1)
    return [texts[i : i + WINDOW] for i in range(0, len(texts), WINDOW)]


def ask(engine: Engine, prompt: str) -> Prompt:
    """Return a prompt as the model takes it: a conversation where it has a chat template."""
    return [Message("user", prompt)] if engine.info.chat_template else prompt
