"""What every engine keeps of its cache when it is asked to."""

from __future__ import annotations

from pitool.engine.base import Engine, Sampling


def check_rewinding(engine: Engine) -> None:
    """Assert that a rewound cache is as long as asked, and goes on as if nothing had followed."""
    prompt = engine.tokenize("The quick brown fox jumps over the lazy dog.")
    engine.clear()
    expected = engine.logits(prompt)[-1]
    engine.clear()
    engine.time_forward(prompt, one_by_one=False)
    assert engine.rewind(10_000) == len(prompt)
    assert engine.rewind(3) == 3
    answered = list(engine.stream(prompt, Sampling(temperature=0.0, max_tokens=1)))
    assert answered[-1].timings.reused_tokens == 3
    assert answered[-1].id == int(expected.argmax())
    assert engine.rewind(0) == 0
