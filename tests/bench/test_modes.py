"""Minutes of decoding, cold starts, energy: the figures, and what the commands say."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pitool.bench import cold, energy, page_cache, sustained
from pitool.cli.main import cli
from pitool.device import power
from pitool.device.activity import Look
from pitool.device.power import Meter
from pitool.device.sensors import Reading, Throttled
from pitool.engine.scripted import Scripted
from pitool.errors import BadInput, MissingPart, PitoolError, UsageError

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


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PITOOL_HOME", str(tmp_path))
    return tmp_path


def bench(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["bench", *map(str, words)], standalone_mode=False)


def test_watts_are_volts_times_amperes_of_every_rail() -> None:
    assert power.rails(PMIC) == pytest.approx(0.1 * 3.7 + 0.5 * 3.3 + 2.0 * 0.8)
    assert power.rails("error=1 command not registered") is None


def test_a_pi_without_the_chip_has_no_meter() -> None:
    def missing(_: list[str]) -> str:
        raise FileNotFoundError

    assert power.pmic(missing) is None
    assert power.pmic(lambda _: "error") is None
    meter = power.pmic(lambda _: PMIC)
    assert meter
    assert meter.source == power.SOC_RAILS


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


def test_a_file_is_put_out_of_the_page_cache_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * (4 << 20))
    if page_cache.cached_share([path]) is None:
        pytest.skip("this file system cannot tell what is in the page cache")
    page_cache.evict(path)
    assert page_cache.cached_share([path]) == 0.0
    assert page_cache.cached_share([path]) == 0.0  # asking has read nothing
    with path.open("rb") as file:
        file.read(1)
    assert page_cache.cached_share([path])
    path.read_bytes()
    assert page_cache.cached_share([path]) == 1.0


def test_pages_that_are_not_written_yet_are_put_out_too(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * (4 << 20))
    if page_cache.cached_share([path]) is None:
        pytest.skip("this file system cannot tell what is in the page cache")
    for i in range(20):
        with path.open("r+b") as file:
            file.seek(i * mmap.PAGESIZE)
            file.write(b"y" * mmap.PAGESIZE)
        page_cache.evict(path)
        assert page_cache.cached_share([path]) == 0.0


def test_empty_files_have_no_share(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert page_cache.cached_share([tmp_path / "empty"]) is None


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
