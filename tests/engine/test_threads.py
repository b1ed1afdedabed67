"""Pools of threads: attached, pinned, eager or not, and the same answers with all of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pitool.engine import worker
from pitool.engine.base import Sampling, Settings
from pitool.engine.llamacpp import LlamaCpp, threads
from pitool.errors import UsageError
from pitool.process.child import Child

pytestmark = pytest.mark.engine

BASE = Settings(256, decode_threads=1, prefill_threads=2, kv_type="f32", flash_attention="off")
GREEDY = Sampling(temperature=0, max_tokens=24)


def answer(engine: Any) -> list[int]:
    prompt = "The quick brown fox jumps over the lazy dog. " * 4
    return [t.id for t in engine.stream(prompt, GREEDY) if t.id is not None]


@pytest.fixture
def without_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have pools made as for a build that has no threads of its own."""
    monkeypatch.setattr(threads, "cpu_features", lambda: "AVX2 FMA")


@pytest.mark.usefixtures("without_openmp")
@pytest.mark.parametrize("same", [True, False])
def test_a_pool_serves_both_phases_or_each_has_one(tiny_gguf: Path, same: bool) -> None:
    settings = replace(BASE, decode_threads=2 if same else 1)
    engine = LlamaCpp(tiny_gguf, settings)
    assert len(engine._pools._pools) == (1 if same else 2)
    found = answer(engine)
    engine.close()
    assert engine._pools._pools == []
    with worker.start("gguf", tiny_gguf, settings) as plain:
        assert answer(plain) == found
    assert len(found) > 10


def test_a_build_with_openmp_needs_a_pool_for_cores_and_priority_alone(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "cpu_features", lambda: "AVX2 OPENMP")
    tried: list[tuple[dict[str, Any], int]] = [
        ({}, 0), ({"polling": 0}, 0), ({"pinned": True}, 2),
    ]  # fmt: skip
    for changes, pools in tried:
        before = os.sched_getaffinity(0)
        engine = LlamaCpp(tiny_gguf, replace(BASE, **changes))
        try:
            assert len(engine._pools._pools) == pools
        finally:
            engine.close()
            os.sched_setaffinity(0, before)


def test_a_pinned_thread_stays_on_a_core(tiny_gguf: Path) -> None:
    with worker.start("gguf", tiny_gguf, BASE) as plain:
        expected = answer(plain)
    with worker.start("gguf", tiny_gguf, replace(BASE, pinned=True)) as engine:
        assert answer(engine) == expected
        tasks = [int(path.name) for path in Path(f"/proc/{engine.pid}/task").iterdir()]
        cores = [os.sched_getaffinity(task) for task in tasks]
    if len(os.sched_getaffinity(0)) > 1:
        assert any(len(each) == 1 for each in cores)


def test_a_priority_that_the_system_refuses_is_an_error_before_anything_runs(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(UsageError, match="does not allow a high priority"):
        LlamaCpp(tiny_gguf, replace(BASE, priority="high"))


@pytest.mark.parametrize(
    ("polling", "policy"), [(0, "PASSIVE"), (50, "as it was"), (100, "ACTIVE")]
)
def test_openmp_is_told_how_to_wait_when_the_process_starts(
    polling: int, policy: str, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Mapping[str, str]] = []
    plain = Child.__init__

    def init(self: Child, *words: Any, environment: Any = None, **more: Any) -> None:
        given.append({"OMP_WAIT_POLICY": "as it was", **(environment or {})})
        plain(self, *words, environment=environment, **more)

    monkeypatch.setattr(Child, "__init__", init)
    with worker.start("gguf", tiny_gguf, replace(BASE, polling=polling)) as engine:
        assert len(answer(engine)) > 10
    assert [each["OMP_WAIT_POLICY"] for each in given] == [policy]
