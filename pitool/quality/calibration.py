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
# Each prompt is answered so often at most; so many answers are written at once.
ROUNDS = 4
TOGETHER = 16


def open_calibrator(path: Path, threads: int) -> worker.WorkerEngine:
    """Load a GGUF in a worker that sums squared activations, with room for a window."""
    settings = Settings(
        WINDOW, threads, threads, micro_batch=BATCH, outputs=BATCH, kv_type="f32", collect=True
    )
    return worker.start("gguf", path, settings)


def write_text(
    path: Path, threads: int, tokens: int, on_tokens: Callable[[int], None], *, seed: int = 0
) -> list[list[int]]:
    """Return windows of what the model of a GGUF answers to the prompts, at temperature 1.

    About ``tokens`` tokens, fewer where the model says little. Several answers are written at once,
    which takes little longer than one. ``seed``: another text for another number.
    """
    settings = Settings(TOGETHER * WINDOW, threads, threads, outputs=TOGETHER, sequences=TOGETHER)
    with worker.start("gguf", path, settings) as engine:
        window = min(WINDOW, engine.info.trained_context)
        texts: list[int] = []
        for done in range(0, ROUNDS * len(PROMPTS), TOGETHER):
            left = tokens - len(texts)
            if left <= 0:
                break
            sown = seed * ROUNDS * len(PROMPTS) + done
            texts += _answers(engine, done, sown, left, window, on_tokens)
    return [texts[i : i + window] for i in range(0, len(texts), window)]


def _answers(
    engine: worker.WorkerEngine,
    done: int,
    seed: int,
    tokens: int,
    window: int,
    on_tokens: Callable[[int], None],
) -> list[int]:
    """Return the questions after the first ``done`` with their answers, about ``tokens`` tokens."""
    asked = [ask(engine, PROMPTS[(done + i) % len(PROMPTS)]) for i in range(TOGETHER)]
    prompts = [engine.tokenize(prompt)[: window // 2] for prompt in asked]
    most = min(window // 2, max(tokens // TOGETHER - len(prompts[0]), 1))
    sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed, max_tokens=most)
    answers = engine.answer_together(prompts, sampling, on_tokens)
    return [
        token for prompt, answer in zip(prompts, answers, strict=True) for token in prompt + answer
    ]


def ask(engine: Engine, prompt: str) -> Prompt:
    """Return a prompt as the model takes it: a conversation where it has a chat template."""
    return [Message("user", prompt)] if engine.info.chat_template else prompt
