"""A GGUF without a manifest is planned from its header before it is loaded."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pitool.bench.artifact import predicted_speed
from pitool.catalog.gguf import read_header
from pitool.catalog.model_argument import find_runnable
from pitool.device.detect import detect
from pitool.device.settings import (
    check_memory,
    planned_bytes,
    settings_for,
    with_sequences,
    worker_bytes,
)
from pitool.errors import DoesNotFit, UsageError
from pitool.planning.memory import CHAT_BYTES
from tests.convert.helpers import convert_folder
from tests.tiny import write_checkpoint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    checkpoint = write_checkpoint(tmp_path / "tiny", num_hidden_layers=1, intermediate_size=256)
    (made,) = convert_folder(checkpoint, tmp_path / "bundle", "F16").path.glob("*.gguf")
    return made


def test_a_loose_file_is_predicted_as_its_bundle_is(file: Path) -> None:
    bundle, loose = find_runnable(file.parent), find_runnable(file)
    pi5 = replace(detect(), board_id="pi5")
    assert predicted_speed(loose, pi5) == predicted_speed(bundle, pi5)
    assert bundle.artifact
    elsewhere = replace(bundle, artifact=replace(bundle.artifact, speed=()))
    assert predicted_speed(elsewhere, pi5) == predicted_speed(bundle, pi5)
    assert predicted_speed(loose, replace(pi5, board_id=None)) is None


def test_a_loose_file_is_planned_with_its_cache(file: Path) -> None:
    loose = find_runnable(file)
    assert loose.artifact is None
    settings = settings_for(loose, 256)
    short, long = (planned_bytes(loose, replace(settings, context=n)) for n in (256, 512))
    meta = read_header(file)
    heads = meta.number("attention.head_count_kv")
    size = meta.number("embedding_length") // meta.number("attention.head_count")
    assert long - short >= 2 * 256 * heads * size * 2  # keys and values in half precision
    assert short > loose.bytes
    assert short - worker_bytes(loose, replace(settings, context=256)) == CHAT_BYTES
    machine = replace(detect(), mem_available=loose.bytes + 1)
    with pytest.raises(DoesNotFit, match="of memory are available"):
        check_memory(loose, settings, machine)


def test_what_is_missing_is_said_with_figures_that_differ(file: Path) -> None:
    loose = find_runnable(file)
    settings = settings_for(loose, 256)
    needed = planned_bytes(loose, settings)
    with pytest.raises(DoesNotFit) as caught:
        check_memory(loose, settings, replace(detect(), mem_available=needed - 1000))
    figures = re.findall(r"[\d.]+ MB", caught.value.what)
    assert len(set(figures)) == 2


def test_as_many_sequences_as_fit_beside_the_wanted_context(file: Path) -> None:
    for runnable in (find_runnable(file), find_runnable(file.parent)):
        one = settings_for(runnable, 512)
        needed = [planned_bytes(runnable, with_sequences(runnable, one, n)) for n in range(1, 5)]
        cache = needed[1] - needed[0]
        assert cache >= 512 * 2 * 2 * 4 * 32  # keys and values of 4 heads of 32 in half precision
        for count in range(1, 5):
            room = needed[count - 1] * 10 // 9 + 10
            chosen = with_sequences(runnable, one, None, replace(detect(), mem_available=room))
            assert (chosen.sequences, chosen.context) == (count, count * 512)
        starved = with_sequences(runnable, one, None, replace(detect(), mem_available=1000))
        assert starved == one
        assert with_sequences(runnable, one, 9).context == 9 * 512


def test_a_runtime_of_one_answer_at_a_time_is_not_asked_for_more(file: Path) -> None:
    runnable = replace(find_runnable(file), format="onnx")
    one = replace(settings_for(find_runnable(file), 512))
    assert with_sequences(runnable, one) == with_sequences(runnable, one, 1) == one
    with pytest.raises(UsageError, match="one answer at a time: leave out --parallel"):
        with_sequences(runnable, one, 2)
