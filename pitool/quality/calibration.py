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
# What a text is about beside these: other subjects, languages and forms.
FURTHER = (
    "Write a Python function that counts the words of a text.",
    "Tell a short story about a lighthouse.",
    "Erkläre, was ein Betriebssystem ist.",
    "Give me a JSON object with the names and populations of three cities.",
    "¿Qué es la fotosíntesis?",
    "What is 17 times 24? Show every step.",
    "Write an email that moves a meeting to Thursday.",
    "Explique comment fonctionne une pompe à chaleur.",
    "Write a shell script that backs up a folder.",
    "List ten things to take on a hike, as bullet points.",
    "Quais são os maiores rios do mundo?",
    "Summarise the causes of the First World War.",
    "Come si prepara la pasta al pomodoro?",
    "Write a C function that reverses a string in place.",
    "What are the side effects of too little sleep?",
    "Напиши короткий рассказ о зиме.",
    "Explain the difference between a list and a tuple in Python.",
    "Wat is het verschil tussen weer en klimaat?",
    "Write a SQL query that finds the five most expensive products.",
    "Who was Marie Curie, and what did she discover?",
    "请介绍一下长城。",
    "Translate into French: The train leaves at half past seven.",
    "Napisz kilka zdań o Krakowie.",
    "Write an HTML page with a heading, a paragraph and a table.",
)
SUBJECTS = PROMPTS + FURTHER
# So many answers are written at once, and as many times more than their length needs where a model
# says little.
TOGETHER = 16
PATIENCE = 4
# Answers of one text before those of the next seed.
MOST_ANSWERS = 4096


def open_calibrator(path: Path, threads: int) -> worker.WorkerEngine:
    """Load a GGUF in a worker that sums squared activations, with room for a window."""
    settings = Settings(
        WINDOW, threads, threads, micro_batch=BATCH, outputs=BATCH, kv_type="f32", collect=True
    )
    return worker.start("gguf", path, settings)


def write_text(
    path: Path, threads: int, tokens: int, on_tokens: Callable[[int], None], *, seed: int = 0
) -> list[list[int]]:
    """Return windows of what the model of a GGUF answers to prompts, at temperature 1.

    About ``tokens`` tokens, fewer where the model says little. Several answers are written at once,
    which takes little longer than one. ``seed``: another text for another number.
    """
    settings = Settings(TOGETHER * WINDOW, threads, threads, outputs=TOGETHER, sequences=TOGETHER)
    with worker.start("gguf", path, settings) as engine:
        window = min(WINDOW, engine.info.trained_context)
        texts: list[int] = []
        expected = max(tokens // (window // 2), len(SUBJECTS))
        for done in range(0, min(PATIENCE * expected, MOST_ANSWERS), TOGETHER):
            left = tokens - len(texts)
            if left <= 0:
                break
            sown = seed * MOST_ANSWERS + done
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
    asked = [ask(engine, SUBJECTS[(done + i) % len(SUBJECTS)]) for i in range(TOGETHER)]
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
