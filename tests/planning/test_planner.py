"""Verdicts and shapes: what must hold for any model, place and profile."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pitool.catalog.boards import boards
from pitool.catalog.manifest import MemoryLine
from pitool.catalog.model_argument import parse_size
from pitool.catalog.profiles import Profile, find_profile, profiles
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.errors import BadInput, DoesNotFit
from pitool.planning.formats import GGUF
from pitool.planning.formats.base import PlannedModel
from pitool.planning.memory import Load, MemoryPlan
from pitool.planning.places import Place, Verdict, board_place, tier_places
from pitool.planning.planner import Planner
from pitool.planning.shapes import typical_shape
from pitool.planning.type_mixture import assign_types

ORDER = [Verdict.NO, Verdict.TIGHT, Verdict.FITS]
SIZES = ("135M", "0.5B", "1.5B", "3B", "7B", "14B")
SUBJECTS = {size: PlannedModel(size, typical_shape(parse_size(size) or 0)) for size in SIZES}

planners = st.builds(
    Planner,
    st.sampled_from(list(SUBJECTS.values())),
    st.sampled_from(list(profiles().values())),
    st.builds(
        Load,
        context=st.integers(256, 32768),
        kv_type=st.sampled_from(["f16", "q8_0"]),
        sequences=st.integers(1, 4),
    ),
)
places = st.sampled_from(tier_places())
quants = st.sampled_from(GGUF.common)


@settings(max_examples=60, deadline=None)
@given(planners, places, quants, st.integers(0, 30000))
def test_more_context_never_helps(planner: Planner, place: Place, quant: str, more: int) -> None:
    longer = replace(planner, load=replace(planner.load, context=planner.load.context + more))
    kind = QUANTISATIONS[quant]
    before, after = (ORDER.index(p.row(kind, place).verdict) for p in (planner, longer))
    assert after <= before


@settings(max_examples=100, deadline=None)
@given(planners, places, quants, quants)
def test_more_bits_never_help(planner: Planner, place: Place, one: str, other: str) -> None:
    rows = [planner.row(QUANTISATIONS[q], place) for q in (one, other)]
    few, many = sorted(rows, key=lambda row: row.artifact.bits_per_weight)
    assert few.peak <= many.peak
    assert few.left >= many.left
    assert ORDER.index(few.verdict) >= ORDER.index(many.verdict)


@settings(max_examples=60, deadline=None)
@given(planners, quants)
def test_less_memory_never_helps(planner: Planner, quant: str) -> None:
    rows = planner.rows([QUANTISATIONS[quant]], [replace(p, boards={}) for p in tier_places()])
    found = [ORDER.index(row.verdict) for row in rows]
    assert found == sorted(found)
    assert all(row.peak >= row.artifact.memory.total > 0 for row in rows)
    assert all((row.left < 0) == (row.verdict is Verdict.NO) for row in rows)


@settings(max_examples=60, deadline=None)
@given(planners, places, quants)
def test_the_longest_context_fits_and_every_remedy_helps(
    planner: Planner, place: Place, quant: str
) -> None:
    row = planner.row(QUANTISATIONS[quant], place)
    if row.longest_context:
        at = replace(planner, load=replace(planner.load, context=row.longest_context))
        assert at.row(QUANTISATIONS[quant], place).verdict is Verdict.FITS
    by_tier = {p.tier: p for p in tier_places()}
    for remedy in planner.remedies(row):
        option, value = remedy.split()
        load, where, kind = planner.load, place, quant
        match option:
            case "--context":
                load = replace(load, context=int(value))
            case "--kv-type":
                load = replace(load, kv_type=value)
            case "--parallel":
                load = replace(load, sequences=int(value))
            case "--quant":
                kind = value
            case "--ram":
                where = by_tier[value]
        changed = replace(planner, load=load)
        assert changed.row(QUANTISATIONS[kind], where).verdict is Verdict.FITS


@pytest.mark.parametrize("profile", profiles().values(), ids=profiles())
def test_auto_takes_only_what_fits(profile: Profile) -> None:
    for subject in SUBJECTS.values():
        for place in tier_places():
            row, reason = Planner(subject, profile, Load(profile.context)).choose(place)
            said = reason.startswith(f"{row.artifact.quantisation.name}: ")
            assert said == (row.verdict is Verdict.FITS)


def test_a_board_has_what_its_own_ram_leaves() -> None:
    pi5 = boards()["pi5"]
    place = board_place("pi5", pi5, next(r for r in pi5.ram if r.tier == "8gb"))
    assert place.room == (8049 - 220) * 1024 * 1024


@given(st.floats(30e6, 1e12))
def test_a_typical_shape_has_the_size_that_was_asked_for(parameters: float) -> None:
    shape = typical_shape(parameters)
    assert shape.parameters == pytest.approx(parameters, rel=0.06)
    assert shape.heads % shape.kv_heads == 0
    assert shape.hidden == shape.heads * shape.head_dim


@pytest.mark.parametrize("parameters", [0.0, 1e6, 1e13])
def test_absurd_sizes(parameters: float) -> None:
    with pytest.raises(BadInput, match="between 30M and 1000B"):
        typical_shape(parameters)


def test_published_files_against_settings_alone(shared_data: Path) -> None:
    """Llama-3.2-3B Q4_K_M as published: 2 019 377 696 bytes, 7.8 MB of it the vocabulary."""
    from pitool.checkpoint.config import read_config
    from pitool.convert.gguf.model import model_shape

    config = read_config(shared_data / "configs" / "Llama-3.2-3B-Instruct")
    subject = PlannedModel("", model_shape(config))
    size = sum(t.bytes for t in assign_types(subject.shape, QUANTISATIONS["Q4_K_M"]))
    assert size == pytest.approx(2_019_377_696, rel=0.005)


def test_auto_passes_over_what_the_board_has_no_fast_kernels_for(shared_data: Path) -> None:
    """At a hidden size of 896 Q4_K_M is mostly Q5_0, which no Pi has a fast kernel for."""
    from pitool.checkpoint.config import read_config
    from pitool.convert.gguf.model import model_shape

    config = read_config(shared_data / "configs" / "Qwen2.5-0.5B-Instruct")
    subject = PlannedModel("", model_shape(config))
    profile = replace(profiles()["balanced"], candidates={"Q4_K_M": 1.0, "Q4_0": 1.0})
    planner = Planner(subject, profile, Load(2048))
    pi5, pi4 = boards()["pi5"], boards()["pi4b"]
    fast = board_place("pi5", pi5, next(r for r in pi5.ram if r.tier == "8gb"))
    slow = board_place("pi4b", pi4, next(r for r in pi4.ram if r.tier == "8gb"))
    row, reason = planner.choose(fast)
    assert row.artifact.quantisation.name == "Q4_0"
    first, second = reason.splitlines()
    assert first.startswith("Q4_0: the best quality that fits pi5-8gb and decodes at")
    assert re.search(r"Q4_K_M was skipped: only \d+% of its weights have fast kernels", second)
    assert planner.choose(slow)[0].artifact.quantisation.name == "Q4_K_M"


def test_auto_keeps_half_precision_only_where_it_costs_nothing() -> None:
    place = next(p for p in tier_places() if p.tier == "16gb")
    planner = Planner(SUBJECTS["0.5B"], profiles()["balanced"], Load(2048))
    row, reason = planner.choose(place)
    assert row.artifact.quantisation.name == "Q8_0"
    assert "F16 was skipped: it decodes at" in reason


def test_what_is_refused_is_said_with_figures_that_differ() -> None:
    """A model that needs 15.02 GB where 14.98 are there for it."""
    place = Place("here", "here", 14_980_000_000, 0, {})
    planner = Planner(SUBJECTS["14B"], find_profile("balanced"), Load(4096))
    row = planner.row(QUANTISATIONS["Q8_0"], place)
    needs = MemoryPlan((MemoryLine("weights", 15_020_000_000),))
    artifact = replace(row.artifact, memory=needs, loading=0)
    over = replace(row, artifact=artifact, verdict=place.judge(artifact.peak, planner.profile))
    with pytest.raises(DoesNotFit, match="does not fit: it needs") as caught:
        planner.require(over)
    needed, there = re.findall(r"[\d.]+ [GM]B", caught.value.what)
    assert needed != there
    assert [needed, there] == ["15.02 GB", "14.98 GB"]
