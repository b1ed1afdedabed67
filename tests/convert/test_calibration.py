"""Calibration and sizes in the pipeline: what llama-quantize makes of the same matrix, and KL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pitool.catalog.bundles import Bundle
from pitool.catalog.gguf import read_header
from pitool.catalog.tensor_types import QUANTISATIONS
from pitool.catalog.tiers import tiers
from pitool.checkpoint.config import read_config
from pitool.checkpoint.source import find_source
from pitool.cli import convert_engines
from pitool.convert import cache
from pitool.convert.conversion import Job
from pitool.convert.describe import IMPORTANCE
from pitool.convert.gguf import calibrate, importance, losses
from pitool.convert.gguf.fitting import Fitting
from pitool.convert.gguf.llama_quantise import quantise
from pitool.convert.pipeline import convert
from pitool.convert.plan import ConvertPlan, make_plan
from pitool.errors import BadInput, DoesNotFit, UsageError
from pitool.planning.formats.gguf import GgufPlan
from pitool.planning.places import Verdict
from pitool.report.numbers import parse_bytes
from pitool.report.progress import Silent
from tests.convert.helpers import engines_of, names, real_engine, source_of, tensors
from tests.tiny import write_checkpoint

TIER = tiers()["1gb"]


def planned(folder: Path, quants: str, size: int | None = None, calibrated: str = "self") -> Any:
    return make_plan(
        read_config(folder), "1gb", TIER, quants, 512, size=size, importance=calibrated != "none"
    )


def made(folder: Path, target: Path, plan: ConvertPlan, calibrated: str) -> Bundle:
    job = Job(plan, target, replace=False, threads=2, calibration=calibrated)
    return convert(source_of(folder), job, engines_of(real_engine), Silent())


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.parametrize(
    ("calibrated", "kinds"), [("self", "Q4_0,Q8_0"), ("text", "Q4_0,IQ4_NL,Q4_K_M,Q8_0")]
)
def test_the_file_is_what_llama_cpp_makes_with_the_matrix(
    tmp_path: Path, calibrated: str, kinds: str
) -> None:
    sizes: dict[str, Any] = {
        "num_hidden_layers": 8,
        "num_key_value_heads": 8,
        "intermediate_size": 256,
    }
    folder = write_checkpoint(tmp_path / "m", **sizes)
    if calibrated == "text":
        calibrated = str(tmp_path / "notes.txt")
        Path(calibrated).write_text("A Raspberry Pi has 4 cores. " * 40)
    bundle = made(folder, tmp_path / "b", planned(folder, kinds), calibrated)
    matrix = tmp_path / "b" / IMPORTANCE
    assert [f.path for f in bundle.manifest.extras] == [matrix.name]
    name = "self" if calibrated == "self" else "notes.txt"
    assert importance.read(matrix).text == name
    (exact,) = cache.folder().glob("*.gguf")
    for kind in kinds.split(","):
        path = tmp_path / "b" / f"m-{kind}.gguf"
        quantise(exact, tmp_path / kind, QUANTISATIONS[kind], 1, importance=matrix)
        assert tensors(path) == tensors(tmp_path / kind)
        plan = next(a for a in planned(folder, kinds).artifacts if a.quantisation.name == kind)
        assert read_header(path).bytes == plan.tensor_bytes
    assert read_header(tmp_path / "b" / "m-Q4_0.gguf").tensors != read_header(exact).tensors
    # Given again, it makes the same files without a text.
    again = made(folder, tmp_path / "c", planned(folder, "Q4_0"), str(matrix))
    assert again.manifest.artifacts[0].files[0].sha256 == next(
        a.files[0].sha256 for a in bundle.manifest.artifacts if a.quantisation == "Q4_0"
    )


@pytest.mark.thorough
@pytest.mark.engine
def test_types_that_need_no_matrix_get_none(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", num_hidden_layers=1)
    made(folder, tmp_path / "b", planned(folder, "F16,Q8_0"), "self")
    assert IMPORTANCE not in names(tmp_path / "b")


@pytest.mark.thorough
@pytest.mark.engine
def test_at_equal_bytes_less_is_lost_than_by_q4_k_m(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PITOOL_CALIBRATION_TOKENS")  # as well as it is for a user
    source = find_source("sample", "1gb")
    assert source.folder

    def losses(target: Path, plan: ConvertPlan, calibrated: str) -> Bundle:
        job = Job(plan, target, replace=False, threads=2, calibration=calibrated)
        return convert(source, job, convert_engines.engines(), Silent())

    plain = losses(tmp_path / "a", planned(source.folder, "Q4_K_M", calibrated="none"), "none")
    file = plain.manifest.artifacts[0].files[0]
    fitted = losses(tmp_path / "b", planned(source.folder, "FIT", file.bytes), "self")
    artifact = fitted.manifest.artifacts[0]
    assert 0.99 * file.bytes <= artifact.files[0].bytes <= file.bytes
    before, after = plain.manifest.artifacts[0].certificate, artifact.certificate
    assert before
    assert after
    assert after.mean_kl <= 0.85 * before.mean_kl
    types = {t.type.name for t in read_header(tmp_path / "b" / artifact.files[0].path).tensors}
    assert len(types - {"F32"}) > 2
    weights = next(line.bytes for line in artifact.memory if line.name == "weights")
    assert weights == read_header(tmp_path / "b" / artifact.files[0].path).bytes


def test_fit_takes_what_there_is_room_for(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", num_hidden_layers=1)
    plan = planned(folder, "FIT")
    assert isinstance(plan.fitting, Fitting)
    row = plan.fitting.planned()
    assert row.verdict is Verdict.FITS
    assert isinstance(row.artifact, GgufPlan)
    matrices = [t for t in row.artifact.tensors if losses.candidates(t.tensor)]
    assert {t.type.name for t in matrices} == {"Q8_0"}  # a small model: the best of all types


def test_a_size_that_is_too_small_is_refused_before_anything(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", num_hidden_layers=1)
    with pytest.raises(DoesNotFit, match="the smallest types need"):
        planned(folder, "FIT", 10_000)


@pytest.mark.parametrize("text", ["", "gb", "1.9", "-1gb", "0gb", "1e9gb", "1.9tb"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "count"), [("1.9gb", 1_900_000_000), ("700 MB", 700_000_000), ("12.5kb", 12_500)]
)
def test_a_size(text: str, count: int) -> None:
    assert parse_bytes(text) == count


def test_a_calibration_that_is_not_there() -> None:
    with pytest.raises(BadInput, match=r"--calibration 'nothing\.txt': no such file"):
        calibrate.check("nothing.txt")


@pytest.mark.engine
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\xff", "cannot read"),
        (b"GGUFxx", "is not an importance matrix"),
        (b"", "too short"),
    ],
)
def test_a_calibration_that_is_damaged(tmp_path: Path, content: bytes, said: str) -> None:
    folder = write_checkpoint(tmp_path / "m", num_hidden_layers=1)
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    with pytest.raises(BadInput, match=said):
        made(folder, tmp_path / "b", planned(folder, "Q4_0"), str(file))
    assert not [name for name in names(tmp_path) if name.startswith((".", "b"))]
