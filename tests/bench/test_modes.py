"""Minutes of decoding, cold starts, energy: the figures, and what the commands say."""

from __future__ import annotations

import json
import mmap
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pitool import __version__
from pitool.bench.modes import cold, energy, speculate, sustained
from pitool.cli.commands import cli
from pitool.device import power
from pitool.device.activity import Look
from pitool.device.power import Meter
from pitool.device.sensors import Reading, Throttled
from pitool.engine.base import Prompt, Sampling, Token
from pitool.engine.scripted import Scripted
from pitool.errors import BadInput, Interrupted, MissingPart, PitoolError, UsageError

# Some rails as a Raspberry Pi 5 prints them; EXT5V and BATT have no current.
PMIC = """\
 3V7_WL_SW_A current(0)=0.10000000A
 3V3_SYS_A current(1)=0.50000000A
 VDD_CORE_A current(7)=2.00000000A
 3V7_WL_SW_V volt(8)=3.70000000V
 3V3_SYS_V volt(9)=3.30000000V
 VDD_CORE_V volt(15)=0.80000000V
 EXT5V_V volt(24)=5.10000000V
 BATT_V volt(25)=0.00000000V
"""


TREES = Path(__file__).parents[1] / "device/fixtures"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PITOOL_HOME", str(tmp_path))
    return tmp_path


def bench(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["bench", *map(str, words)], standalone_mode=False)


def test_watts_are_volts_times_amperes_of_every_rail() -> None:
    assert power.rails(PMIC) == pytest.approx(0.1 * 3.7 + 0.5 * 3.3 + 2.0 * 0.8)
    assert power.rails("error=1 command not registered") is None


def test_a_board_has_the_chip_that_the_table_gives_it() -> None:
    def missing(_: list[str]) -> str:
        raise FileNotFoundError

    for root, run in ((TREES / "pi4", lambda _: PMIC), (TREES / "pi5", missing),
                      (TREES / "pi5", lambda _: "error")):  # fmt: skip
        with pytest.raises(MissingPart, match="boards with one: Raspberry Pi 5,"):
            power.onboard(root, run)
    asked: list[list[str]] = []

    def answers(command: list[str]) -> str:
        asked.append(command)
        return PMIC

    for root in (TREES / "pi5", TREES / "unknown_arm"):
        meter = power.onboard(root, answers)
        assert meter.source == power.SOC_RAILS
        assert meter.read() == power.rails(PMIC)
    assert asked == [["vcgencmd", "pmic_read_adc"]] * 4


@pytest.mark.parametrize("line", ["", "'", "false", "echo none", "/no/such/meter"])
def test_a_meter_that_prints_no_number_is_refused(line: str) -> None:
    with pytest.raises(BadInput):
        power.command(line)


def test_joules_are_watts_over_tokens_per_second() -> None:
    busy = False

    class Working(Scripted):
        def time_forward(self, ids: object, *, one_by_one: bool) -> float:
            nonlocal busy
            busy = True
            return super().time_forward(ids, one_by_one=one_by_one)  # type: ignore[arg-type]

    meter = Meter("a plug", lambda: 7.0 if busy else 3.0)
    found = energy.measure_energy(Working(decode_rate=8.0), meter, 0.02, 0.05, 0.001)
    assert found.idle_watts == 3.0
    assert found.decode_watts == 7.0
    assert found.joules_per_token == pytest.approx(7.0 / 8.0)
    assert found.added_joules_per_token == pytest.approx(4.0 / 8.0)


def test_a_meter_that_falls_silent_is_said() -> None:
    with pytest.raises(PitoolError, match="no watts"):
        energy.measure_energy(Scripted(), Meter("a plug", lambda: None), 0.0, 0.0, 0.001)


def test_the_energy_command(bundle: Callable[..., Path]) -> None:
    done = bench("--energy", bundle())
    assert isinstance(done.exception, MissingPart)
    done = bench("--power-meter", "echo none", bundle("other"))
    assert isinstance(done.exception, BadInput)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("45s", 45), ("1.5m", 90), ("2h", 7200)])
def test_durations(text: str, seconds: float) -> None:
    assert sustained.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "m", "-5s", "10 minutes", "99h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        sustained.duration(text)


class Slowing(Scripted):
    """A board that decodes at 10 tokens/s, and at 6 after a minute, on a clock of its own."""

    now = 0.0

    def time_forward(self, ids: object, *, one_by_one: bool) -> float:
        took = len(ids) / (10.0 if self.now < 60 else 6.0)  # type: ignore[arg-type]
        self.now += took
        return took


def test_the_first_minute_is_set_against_the_last() -> None:
    engine = Slowing()

    def look() -> Look:
        hot = engine.now >= 60
        reading = Reading(82.0 if hot else 55.0, 2400.0, Throttled(0x4 if hot else 0))
        return Look(engine.now, reading)

    points = list(sustained.sustain(engine, 300, look, lambda: engine.now))
    found = sustained.summarise(points)
    assert found.first == pytest.approx(10.0, rel=0.02)
    assert found.last == pytest.approx(6.0)
    assert found.kept == pytest.approx(0.6, rel=0.02)
    assert (found.hottest, found.throttled) == (82.0, ("throttled",))
    assert points[-1].seconds >= 300


def test_the_sustained_command_draws_and_sums_up(bundle: Callable[..., Path]) -> None:
    done = bench("--sustained", "0.05s", bundle(decode_rate=1e6))
    assert done.exception is None
    assert "█" in done.stdout
    assert "(100%)" in done.stdout


def test_what_is_measured_besides_tests_is_in_the_history(
    bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = partial(energy.measure_energy, idle_seconds=0.0, decode_seconds=0.0, interval=0.01)
    monkeypatch.setattr(energy, "measure_energy", short)
    folder = bundle(decode_rate=8.0, prefill_rate=1024.0)
    bench("--sustained", "0.01s", folder)
    bench("--cold", folder)
    bench("--power-meter", "echo 4", folder)
    listed = bench("history").stdout
    assert "mean 8.00 t/s" in listed
    assert "cold ready in" in listed
    assert "4.00 W at 8.00 t/s, 0.500 J per token" in listed
    assert "█" in bench("history", "--kind", "sustained", "--plot").stdout
    (kept,) = json.loads(bench("history", "--kind", "cold", "--json").stdout)
    assert kept["warm"]["ttft_seconds"]["512"] == 0.5
    assert kept["bundle"] == "toy"
    database = sqlite3.connect(":memory:")
    database.executescript(bench("history", "--kind", "energy", "-o", "sql").stdout)
    asked = "SELECT bundle, idle_watts, joules_per_token, pitool_version FROM pitool_energy"
    assert database.execute(asked).fetchall() == [("toy", 4.0, 0.5, __version__)]
    assert json.loads(bench("history", "--json").stdout) == []  # tests alone, for other tools
    done = bench("history", "--kind", "energy", "-o", "md")
    assert isinstance(done.exception, UsageError)


def test_a_history_of_before_is_taken_over(bundle: Callable[..., Path], home: Path) -> None:
    bench("-n", "0", "-r", "1", bundle())
    database = sqlite3.connect(home / "bench.sqlite")
    database.executescript("DROP TABLE mode; PRAGMA user_version = 1;")
    database.close()
    bench("--sustained", "0.01s", bundle("other"))
    assert len(json.loads(bench("history", "--json").stdout)) == 1
    assert "mean" in bench("history", "--kind", "sustained").stdout


def test_an_interruption_keeps_what_is_measured(
    bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*given: object) -> Iterator[sustained.Stretch]:
        points = real(*given)  # type: ignore[arg-type]
        yield next(points)
        raise KeyboardInterrupt

    real = sustained.sustain
    monkeypatch.setattr(sustained, "sustain", stopped)
    done = bench("--sustained", "1h", bundle(decode_rate=8.0))
    assert isinstance(done.exception, Interrupted)
    assert "pitool bench history" in done.exception.sentence
    assert "mean 8.00 t/s" in done.stdout
    assert "mean 8.00 t/s" in bench("history").stdout


def test_a_file_is_put_out_of_the_page_cache_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * (4 << 20))
    if cold.cached_share([path]) is None:
        pytest.skip("this file system cannot tell what is in the page cache")
    cold.evict(path)
    assert cold.cached_share([path]) == 0.0
    assert cold.cached_share([path]) == 0.0  # asking has read nothing
    with path.open("rb") as file:
        file.read(1)
    assert cold.cached_share([path])
    path.read_bytes()
    assert cold.cached_share([path]) == 1.0


def test_pages_that_are_not_written_yet_are_put_out_too(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * (4 << 20))
    if cold.cached_share([path]) is None:
        pytest.skip("this file system cannot tell what is in the page cache")
    for i in range(20):
        with path.open("r+b") as file:
            file.seek(i * mmap.PAGESIZE)
            file.write(b"y" * mmap.PAGESIZE)
        cold.evict(path)
        assert cold.cached_share([path]) == 0.0


def test_empty_files_have_no_share(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert cold.cached_share([tmp_path / "empty"]) is None


def test_both_starts_measure_every_prompt(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x")
    opened = []

    @contextmanager
    def start() -> Iterator[Scripted]:
        opened.append(1)
        yield Scripted(prefill_rate=64.0)

    (_, first), (_, second) = cold.starts([path], start, (128, 512))
    assert first.ttft_seconds == second.ttft_seconds == {128: 2.0, 512: 8.0}
    assert len(opened) == 2


def test_the_cold_command_is_one_document(bundle: Callable[..., Path]) -> None:
    done = bench("--cold", "--json", bundle(prefill_rate=1024.0))
    (document,) = json.loads(done.stdout)
    assert document["warm"]["ttft_seconds"] == {"128": 0.125, "512": 0.5, "2048": 2.0}


def test_two_kinds_at_once_are_refused(bundle: Callable[..., Path]) -> None:
    done = bench("--cold", "--energy", bundle())
    assert isinstance(done.exception, UsageError)


class Faster(Scripted):
    """Is told to be twice as fast where tokens are guessed."""

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[Token]:
        for token in super().stream(prompt, sampling):
            t = token.timings
            if sampling.speculate:
                t = replace(t, decode_seconds=t.decode_seconds / 2, guessed_tokens=6,
                            accepted_tokens=4)  # fmt: skip
            yield replace(token, timings=t)


def test_what_guesses_gain_is_measured_in_turn() -> None:
    engine = Faster(["one two three four five six seven eight"])
    gain = speculate.measure_gain(engine, ["a", "b"], turns=3)
    assert gain.ratio == pytest.approx(2.0)
    assert gain.speculative == pytest.approx(2 * gain.plain)
    assert (gain.guessed, gain.accepted) == (6 * 6, 6 * 4)
    assert (gain.alike, gain.answers) == (6, 6)
    # Eight tokens, the first of the prefill; four of seven were guessed: three passes.
    assert gain.tokens_per_pass == pytest.approx((7 / 3, 7 / 3))


def test_answers_that_differ_are_counted() -> None:
    engine = Scripted(["one two three", "one two four five"])
    gain = speculate.measure_gain(engine, ["a"], turns=2)
    assert (gain.alike, gain.answers) == (0, 2)


def test_a_model_that_says_nothing_has_no_gain() -> None:
    with pytest.raises(UsageError, match="ends every answer at once"):
        speculate.measure_gain(Scripted([""]), ["a"])
