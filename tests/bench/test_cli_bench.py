"""``pitool bench`` with a scripted engine in a real worker process."""

from __future__ import annotations

import json
import platform
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pitool import __version__
from pitool.bench import run
from pitool.cli.commands import cli
from pitool.errors import Interrupted, PitoolError, UsageError

Bundle = Callable[..., Path]


def bench(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["bench", *map(str, words)], standalone_mode=False)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PITOOL_HOME", str(tmp_path))
    return tmp_path


def test_the_table_goes_to_stdout_and_progress_to_stderr(bundle: Bundle) -> None:
    done = bench(bundle(prefill_rate=256.0, decode_rate=8.0), "-r", "2")
    assert done.exception is None
    head, prefill, decode = done.stdout.splitlines()
    assert head.split() == ["artifact", "test", "thr", "t/s"]
    assert prefill.split()[:3] == ["toy", "Q4_0", "pp512"]
    assert prefill.split()[4:7] == ["256.00", "±", "0.00"]
    assert decode.split()[4] == "8.00"
    assert done.stderr.splitlines()[:4] == [
        "loading toy Q4_0",
        "[1/2] toy Q4_0 pp512 warm-up",
        "[1/2] toy Q4_0 pp512 1/2",
        "[1/2] toy Q4_0 pp512 2/2",
    ]
    assert "peak memory" in done.stderr
    assert "\x1b" not in done.output


def test_the_markdown_is_llama_bench_s(bundle: Bundle) -> None:
    done = bench(bundle(prefill_rate=256.0, decode_rate=8.0), "-r", "2", "-o", "md")
    lines = done.stdout.splitlines()
    assert lines[4:5] == [""]
    assert lines[5].startswith("build: pitool ")
    assert lines[2].endswith("|           pp512 |        256.00 ± 0.00 |")
    assert lines[3].endswith("|           tg128 |          8.00 ± 0.00 |")


@pytest.mark.thorough
def test_the_cross_product_is_measured(bundle: Bundle) -> None:
    words = ("-p", "4", "-n", "2", "-pg", "4,2", "-t", "1-2", "-ub", "128,256", "-d", "0,8")
    done = bench(bundle(), *words, "-r", "1", "-o", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 3 * 2 * 2 * 2
    shapes = [
        (r["n_ubatch"], r["n_threads"], r["n_depth"], r["n_prompt"], r["n_gen"]) for r in rows
    ]
    assert shapes[:6] == [
        (128, 1, 0, 4, 0),
        (128, 1, 0, 0, 2),
        (128, 1, 0, 4, 2),
        (128, 1, 8, 4, 0),
        (128, 1, 8, 0, 2),
        (128, 1, 8, 4, 2),
    ]
    assert len(set(shapes)) == len(rows)


def test_several_bundles_are_measured_in_one_run(bundle: Bundle) -> None:
    done = bench(bundle("one"), bundle("two"), "-p", "4", "-n", "0", "-r", "1", "--json")
    assert [row["bundle"] for row in json.loads(done.stdout)] == ["one", "two"]


def test_what_was_measured_is_in_the_history(bundle: Bundle) -> None:
    bench(bundle(prefill_rate=256.0), "-p", "4", "-n", "0", "-r", "2")
    done = bench("history", "--json")
    (row,) = json.loads(done.stdout)
    assert (row["bundle"], row["avg_ts"]) == ("toy", pytest.approx(256.0))
    assert "256.00" in bench("history").stdout
    assert "256.0 t/s in 1 run" in bench("history", "--plot").stdout


def test_the_history_can_be_asked_with_sqlite(bundle: Bundle, home: Path) -> None:
    bench(bundle(), "-p", "4", "-n", "0", "-r", "2")
    database = sqlite3.connect(home / "bench.sqlite")
    query = "SELECT test, kernel, pitool_version, length(artifact_sha256) FROM results"
    ((test, kernel, version, digits),) = database.execute(query).fetchall()
    database.close()
    assert (test, version, digits) == ("pp4", __version__, 64)
    assert kernel == f"{platform.system()} {platform.release()}"


def test_a_regression_is_an_exit_code(bundle: Bundle, home: Path) -> None:
    for name, rate in (("old", 100.0), ("new", 90.0)):
        done = bench(bundle(prefill_rate=rate), "-n", "0", "-r", "3", "--json")
        (home / f"{name}.json").write_text(done.stdout)
        (home / "bundles/toy").rename(home / f"toy-{name}")
    done = bench("compare", home / "old.json", home / "new.json")
    assert isinstance(done.exception, PitoolError)
    assert done.exception.exit_code == 1
    assert "0.900" in done.stdout
    same = bench("compare", home / "old.json", home / "old.json", "--json")
    assert same.exception is None
    assert json.loads(same.stdout)["regressed"] is False


def test_nothing_to_compare_is_said(home: Path) -> None:
    (home / "broken.json").write_text("[{}]")
    for words in (("latest", "previous"), (home / "broken.json", home / "broken.json")):
        done = bench("compare", *words)
        assert isinstance(done.exception, PitoolError)
        assert done.exception.exit_code == 4


def test_json_is_one_document_and_nothing_else(bundle: Bundle) -> None:
    done = bench(bundle(prefill_rate=256.0), "-p", "16,32", "-n", "0", "-r", "3", "--json")
    rows = json.loads(done.stdout)
    assert [row["n_prompt"] for row in rows] == [16, 32]
    assert [len(row["samples_ns"]) for row in rows] == [3, 3]
    assert rows[0]["avg_ts"] == pytest.approx(256.0)
    assert rows[0]["bundle"] == "toy"
    assert rows[0]["engine"] == "scripted"


def test_the_plan_is_made_for_the_context_of_the_tests(bundle: Bundle) -> None:
    done = bench(bundle(), "-p", "512", "-n", "0", "-r", "1", "--json")
    (row,) = json.loads(done.stdout)
    # Weights, and half of the KV cache that the manifest plans for twice the context.
    assert row["planned_memory_bytes"] == 4096 + 512


def test_threads_are_for_both(bundle: Bundle) -> None:
    done = bench(bundle(), "-p", "4", "-n", "4", "-r", "1", "-t", "3", "--json")
    assert [row["n_threads"] for row in json.loads(done.stdout)] == [3, 3]


def test_a_test_longer_than_the_model_was_trained_for_is_measured(bundle: Bundle) -> None:
    done = bench(bundle(), "-p", "5000", "-n", "0", "-r", "1", "--json")
    assert json.loads(done.stdout)[0]["n_prompt"] == 5000


def test_without_a_bundle_the_newest_is_named(bundle: Bundle) -> None:
    bundle("toy")
    done = bench("-p", "4", "-n", "0", "-r", "1", "--json")
    assert done.stderr.splitlines()[0] == "measuring the newest bundle, toy"
    assert json.loads(done.stdout)[0]["bundle"] == "toy"


@pytest.mark.parametrize(
    "words",
    [
        ("-p", "-1"),
        ("-p", "many"),
        ("-p", "512,"),
        ("-p", ""),
        ("-p", "1.5"),
        ("-p", "99999999999"),
        ("-p", "9" * 5000),
        ("-n", "³"),
        ("-p", "0", "-n", "0"),
        ("-r", "0"),
        ("-r", "x"),
        ("-t", "0"),
        ("-t", "two"),
        ("--quant", "Q9"),
        ("-p", "8-4"),
        ("-p", "1-8*1"),
        ("-p", "0-8*2"),
        ("-pg", "512"),
        ("-ctk", "q9_9"),
        ("-fa", "maybe"),
    ],
)
def test_a_bad_number_is_one_sentence(bundle: Bundle, words: tuple[str, ...]) -> None:
    done = bench(bundle(), *words)
    assert isinstance(done.exception, UsageError)
    assert done.exception.exit_code == 2
    assert "\n" not in str(done.exception)
    assert done.stdout == ""


def test_a_missing_bundle_is_said(tmp_path: Path) -> None:
    done = bench(tmp_path / "nothing")
    assert isinstance(done.exception, PitoolError)
    assert done.exception.exit_code == 4


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C after the first test and one repetition of the second."""
    measure = run.measure

    def press(*arguments: object, **rest: object) -> Iterator[run.Result]:
        for result in measure(*arguments, **rest):  # type: ignore[arg-type]
            yield result
            if result.workload.generate and len(result.samples_ns) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(run, "measure", press)


@pytest.mark.usefixtures("stopped")
def test_ctrl_c_prints_what_is_measured(bundle: Bundle) -> None:
    done = bench(bundle(decode_rate=8.0), "-r", "3")
    assert isinstance(done.exception, Interrupted)
    assert done.exception.exit_code == 130
    lines = done.stdout.splitlines()
    assert "pp512" in lines[1]
    assert "8.00 ± 0.00" in lines[2]
    assert len(json.loads(bench("history", "--json").stdout)) == 2


@pytest.mark.usefixtures("stopped")
def test_ctrl_c_leaves_a_whole_json_document(bundle: Bundle) -> None:
    done = bench(bundle(), "-r", "3", "--json")
    assert isinstance(done.exception, Interrupted)
    assert [len(row["samples_ns"]) for row in json.loads(done.stdout)] == [3, 1]


def test_lists_add_up_where_a_flag_is_repeated_and_long_names_are_known(bundle: Bundle) -> None:
    words = ("-p", "4-8*2", "--n-prompt", "6", "-n", "0", "-r", "1", "--no-warmup", "-o", "jsonl")
    done = bench("-m", bundle(), *words)
    assert [json.loads(line)["n_prompt"] for line in done.stdout.splitlines()] == [4, 8, 6]
    assert "warm-up" not in done.stderr


def test_one_artifact_that_fails_does_not_lose_the_others(bundle: Bundle) -> None:
    broken = bundle("broken", nonsense=1)  # the engine does not start
    done = bench(broken, bundle("whole"), "-p", "4", "-n", "0", "-r", "1", "--json")
    assert [row["bundle"] for row in json.loads(done.stdout)] == ["whole"]
    assert isinstance(done.exception, PitoolError)
    assert "broken Q4_0: " in done.stderr


def test_the_history_is_exported_with_llama_bench_s_fields_first(bundle: Bundle) -> None:
    bench(bundle(), "-p", "4", "-n", "2", "-r", "1")
    database = sqlite3.connect(":memory:")
    database.executescript(bench("history", "-o", "sql").stdout)
    assert database.execute("SELECT n_prompt, n_gen FROM llama_bench").fetchall() == [
        (4, 0),
        (0, 2),
    ]
    database.close()
    assert bench("history", "-o", "csv").stdout.startswith("build_commit,build_number,cpu_info")
