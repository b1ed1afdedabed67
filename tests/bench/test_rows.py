"""Tables and JSON values, held against what llama-bench writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pitool.bench import rows
from pitool.bench.artifact import MeasuredArtifact
from pitool.bench.run import Result, Workload, measure
from tests.bench.conftest import Recorder

# llama-bench's JSON fields of 0.3.36's llama.cpp, in its order (get_fields, then the samples).
THEIRS = [
    "build_commit",
    "build_number",
    "cpu_info",
    "gpu_info",
    "backends",
    "model_filename",
    "model_type",
    "model_size",
    "model_n_params",
    "n_batch",
    "n_ubatch",
    "n_threads",
    "cpu_mask",
    "cpu_strict",
    "poll",
    "type_k",
    "type_v",
    "n_gpu_layers",
    "n_cpu_moe",
    "split_mode",
    "main_gpu",
    "no_kv_offload",
    "flash_attn",
    "devices",
    "tensor_split",
    "tensor_buft_overrides",
    "load_mode",
    "lazy_mode",
    "embeddings",
    "no_op_offload",
    "no_host",
    "repack",
    "fit_target",
    "fit_min_ctx",
    "n_prompt",
    "n_gen",
    "n_depth",
    "test_time",
    "avg_ns",
    "stddev_ns",
    "avg_ts",
    "stddev_ts",
    "samples_ns",
    "samples_ts",
]
OURS = [
    "engine",
    "cpu_features",
    "board",
    "kernel",
    "firmware",
    "bundle",
    "quantisation",
    "artifact_sha256",
    "load_seconds",
    "peak_memory_bytes",
    "planned_memory_bytes",
    "predicted_ts",
    "plausibility",
    "conditions",
    "pitool_version",
    "runtime_version",
]
SUBJECT = MeasuredArtifact(
    file=Path("toy.gguf"),
    bundle="toy",
    quantisation="Q4_0",
    planned_memory=3 << 20,
    peak_memory=2 << 30,
    versions={"pitool": "0.1.0", "llama-cpp-python": "0.3.36"},
)


@pytest.fixture
def result() -> Result:
    return list(measure(Recorder([1.0, 2.0, 4.0]), [Workload(prompt=512)], 2))[-1]


def test_fields_are_llama_bench_s_first(result: Result) -> None:
    assert list(rows.row(result, SUBJECT)) == THEIRS + OURS


def test_values_are_in_llama_bench_s_terms(result: Result) -> None:
    row = rows.row(result, SUBJECT)
    assert row["load_mode"] == "mmap"
    assert row["flash_attn"] == -1
    assert row["type_k"] == row["type_v"] == "f16"
    assert (row["n_batch"], row["n_ubatch"], row["n_threads"]) == (2048, 512, 4)
    assert (row["n_prompt"], row["n_gen"], row["n_depth"]) == (512, 0, 0)
    assert row["samples_ns"] == [2_000_000_000, 4_000_000_000]
    assert row["samples_ts"] == [256.0, 128.0]
    assert row["avg_ts"] == 192.0
    assert row["model_type"] == "script 250K F32"
    assert row["peak_memory_bytes"] == 2 << 30


def test_the_table_is_llama_bench_s(result: Result) -> None:
    head = (
        "| model                          |       size |     params | backend    | threads |"
        "            test |                  t/s |\n"
        "| ------------------------------ | ---------: | ---------: | ---------- | ------: |"
        " --------------: | -------------------: |"
    )
    line = (
        "| script 250K F32                |   0.95 MiB |     0.25 M | CPU        |       4 |"
        "           pp512 |       192.00 ± 90.51 |"
    )
    row = rows.row(result, SUBJECT)
    assert rows.extra_columns(row, ()) == ()
    assert rows.head() == head
    assert rows.line(row) == line


def test_the_footer_shows_the_peak_beside_the_plan() -> None:
    said = "toy Q4_0: loaded in 1.23 s, peak memory 2.15 GB, planned 3.15 MB"
    assert rows.footer(SUBJECT, 1.234) == said


def test_what_is_unknown_is_left_out_of_the_footer() -> None:
    bare = MeasuredArtifact(Path("toy.gguf"), None, "Q4_0", None, None, {})
    assert rows.footer(bare, 1.0) == "toy Q4_0: loaded in 1.00 s"


def test_columns_are_added_as_llama_bench_does(result: Result) -> None:
    row = rows.row(result, SUBJECT) | {"n_ubatch": 128, "flash_attn": 1}
    extra = rows.extra_columns(row, {"type_k"})
    assert extra == ("n_ubatch", "type_k", "flash_attn")
    assert "| threads | n_ubatch | type_k |  fa |            test |" in rows.head(extra)
    assert "|       4 |      128 |    f16 |   1 |           pp512 |" in rows.line(row, extra)
