"""The history as a chart: one run is a figure, few are bars, many are columns; never too wide."""

from __future__ import annotations

from typing import Any

import pytest

from pitool.bench import history_plot


def run(speed: float, day: int = 1, bundle: str = "sample-1gb") -> dict[str, Any]:
    return {
        "bundle": bundle, "model_filename": "m.gguf", "quantisation": "Q4_K_M", "n_prompt": 0,
        "n_gen": 32, "n_depth": 0, "n_threads": 4, "avg_ts": speed,
        "test_time": f"2026-11-{day:02d}T12:00:00Z",
    }  # fmt: skip


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_one_run_draws_no_blocks() -> None:
    text = "\n".join(history_plot.lines([run(256.0)], 80))
    assert not set(text) & set("█▌▁▂▃▄▅▆▇┤└")
    assert "sample-1gb Q4_K_M tg32, 4 threads: 256.0 t/s in 1 run, 2026-11-01 12:00" in text
    assert "needs a second run" in text


def test_a_few_runs_are_bars_from_zero() -> None:
    made = list(history_plot.lines([run(5.0, 1), run(10.0, 2)], 80))
    assert made[0].endswith("5.0 to 10.0 t/s in 2 runs; more is better")
    first, second = made[1:3]
    assert first.startswith("  2026-11-01 12:00  █") and first.endswith("  5.0")
    assert second.endswith(" 10.0")
    assert second.count("█") == 2 * first.count("█") == 54


def test_many_runs_are_columns_with_round_ticks() -> None:
    made = list(history_plot.lines([run(10.0 + i / 10, 1 + i) for i in range(20)], 80))
    assert made[1].split()[0] == "12"
    assert made[-2].split() == ["2026-11-01", "2026-11-20"]
    assert len(made) == 1 + history_plot.HEIGHT + 3


@pytest.mark.parametrize("runs", [1, 2, 12, 13, 100])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal(runs: int, width: int) -> None:
    found = [run(1000.0 + i, 1 + i % 28, "a-bundle-with-a-rather-long-name") for i in range(runs)]
    assert max(map(len, history_plot.lines(found, width))) <= width


def test_a_time_that_is_none_is_shown_as_it_is() -> None:
    damaged = run(1.0) | {"test_time": "yesterday, perhaps at noon"}
    assert "yesterday, perha" in next(iter(history_plot.lines([damaged], 80)))
