"""``pitool convert``: what it prints, and each wrong input as one sentence with its exit code."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pitool.catalog import bundles, tables
from pitool.catalog.recipes import load_recipes, recipes
from pitool.convert import cache
from tests.cli.conftest import Pitool, Result, check_failure, environment
from tests.convert.helpers import names
from tests.tiny import write_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "c", num_hidden_layers=1, intermediate_size=256)


# -- wrong inputs --------------------------------------------------------------------------


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def long_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 40) + path.read_bytes()[8:])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def damage_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE"}}')


WRONG: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "missing folder": (shutil.rmtree, 4, "'.*' does not exist; check the path"),
    "no config": (lambda f: (f / "config.json").unlink(), 4, r"it has no config\.json"),
    "config that is no JSON": (lambda f: (f / "config.json").write_text("{"), 4, "cannot read"),
    "truncated safetensors": (truncate, 4, r"model\.safetensors is truncated"),
    "header beyond the file": (long_header, 4, "claims 1099511627776 bytes, the file has"),
    "empty safetensors": (
        lambda f: (f / "model.safetensors").write_bytes(b""), 4, r"model\.safetensors is empty",
    ),
    "a pointer in place of the tokenizer": (
        lambda f: (f / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1"),
        4, r"tokenizer\.json is a pointer of Git LFS",
    ),
    "pytorch_model.bin only": (pickled, 4, r"pytorch_model\.bin, a format that can run code"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), 4, r"has no model\.safetensors"),
    "unsupported architecture": (
        lambda f: edit_config(f, model_type="rwkv", architectures=["RwkvForCausalLM"]), 5,
        r"no-sdist does not contain llama\.cpp's convert_hf|own converter needs torch",
    ),
    "no architecture": (lambda f: edit_config(f, model_type=None), 4, "'model_type' is missing"),
    "sizes that do not divide": (
        lambda f: edit_config(f, num_key_value_heads=3), 4, "8 heads cannot be divided among 3",
    ),
    "sizes of another model": (
        lambda f: edit_config(f, intermediate_size=512), 4, r"has shape \(256, 256\), but",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), 4, "has no tokenizer"),
    "damaged tokenizer": (damage_tokenizer, 4, r"tokenizer\.json is damaged"),
    "tokenizer that is no JSON": (
        lambda f: (f / "tokenizer.json").write_bytes(b"\xff"), 4, r"cannot read .*tokenizer\.json",
    ),
    "tokenizer of another model": (
        lambda f: (f / "tokenizer.json").write_text(
            (f / "tokenizer.json").read_text().replace('"id": 2,', '"id": 5000,')), 4,
        "the tokenizer has a token 5000 .*, but the model has only 512 rows",
    ),
    "tokenizer_config that is no table": (
        lambda f: (f / "tokenizer_config.json").write_text("[]"), 4, "is not a JSON object",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_checkpoint(call: Pitool, checkpoint: Path, private_home: Path, case: str) -> None:
    spoil, code, message = WRONG[case]
    spoil(checkpoint)
    sentence = check_failure(call("convert", checkpoint, "--ram", "1gb", "--quant", "F16"), code)
    assert re.search(message, sentence), sentence
    assert names(private_home / "bundles") == set()


OPTIONS: dict[str, tuple[list[str], int, str]] = {
    "no tier": ([], 2, "Missing option '--ram'"),
    "unknown tier": (["--ram", "huge"], 2, "unknown RAM tier 'huge'"),
    "size between tiers": (["--ram", "6gb"], 2, "did you mean '4gb'"),
    "unknown quantisation": (["--ram", "1gb", "--quant", "Q4KM"], 2, "did you mean 'Q4_K_M'"),
    "no quantisation": (["--ram", "1gb", "--quant", ","], 2, "--quant is empty"),
    "context too short": (["--ram", "1gb", "--context", "10"], 2, "'--context': 10 is not in"),
    "context that is none": (["--ram", "1gb", "--context", "x"], 2, "not a valid whole number"),
    "unknown option": (["--ram", "1gb", "--rma"], 2, "No such option"),
    "out that is too long": (["--ram", "1gb", "--out", "x" * 300], 1, "cannot write to"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_wrong_options(
    call: Pitool, checkpoint: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    options, code, message = OPTIONS[case]
    sentence = check_failure(call("convert", checkpoint, *options), code)
    assert message in sentence
    assert names(private_home / "bundles") == set()
    assert names(checkpoint.parent) >= {"c"}


def test_nothing_that_fits(call: Pitool, tmp_path: Path, private_home: Path) -> None:
    folder = tmp_path / "huge"
    folder.mkdir()
    huge = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
            "num_attention_heads": 64, "vocab_size": 128256}  # fmt: skip
    from tests.tiny import LLAMA, write_tokenizer

    (folder / "config.json").write_text(json.dumps({**LLAMA, **huge}))
    write_tokenizer(folder, 300)
    sentence = check_failure(call("convert", folder, "--ram", "1gb"), 3)
    assert re.search(
        r"Q2_K with 1024 tokens of context does not fit: it needs 2\d GB, and 1gb has \d+ MB for a"
        r" model; choose a smaller model\.$", sentence,
    )  # fmt: skip
    assert names(private_home / "bundles") == set()


def test_broken_toml_in_a_recipe(
    call: Pitool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "recipes"
    (copy / "models").mkdir(parents=True)
    for path in (tables.recipes_folder() / "models").glob("*.toml"):
        shutil.copy(path, copy / "models")
    (copy / "models" / "broken.toml").write_text('source = "a/b\n')
    monkeypatch.setattr("pitool.catalog.recipes.recipes", lambda: load_recipes(copy / "models"))
    sentence = check_failure(call("convert", "--ram", "4gb"), 4)
    assert re.search(r"broken\.toml is not valid TOML \(.*line 1.*\); correct that line", sentence)


@pytest.mark.parametrize("model", [None, "someone/some-model", next(iter(recipes()))])
def test_offline_names_the_sample(call: Pitool, private_home: Path, model: str | None) -> None:
    words = [] if model is None else [model]
    result = call("convert", *words, "--ram", "4gb")
    sentence = check_failure(result, 4)
    assert "cannot download" in sentence
    assert "pitool convert sample" in sentence
    assert names(private_home / "bundles") == set()


@pytest.mark.parametrize(
    ("word", "hint"), [("sampel", "did you mean 'sample'"), ("qwen2.5-1.5", "'qwen2.5-1.5b'")]
)
def test_a_word_that_is_nothing_names_the_nearest(call: Pitool, word: str, hint: str) -> None:
    assert hint in check_failure(call("convert", word, "--ram", "4gb"), 4)


def test_a_target_that_is_there(call: Pitool, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("mine")
    for force in ([], ["--force"]):
        result = call("convert", checkpoint, "--ram", "1gb", "--out", tmp_path / "out", *force)
        assert "exists and is not a bundle" in check_failure(result, 2)
    assert names(tmp_path / "out") == {"x"}


def test_a_disk_that_is_too_small(
    call: Pitool, checkpoint: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1_000_000}))
    result = call("convert", checkpoint, "--ram", "1gb", "--quant", "F16")
    assert "of disk" in check_failure(result, 3)
    assert names(private_home / "bundles") == set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, where root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root only")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("checked", [True, False], ids=["beforehand", "while-writing"])
def test_a_file_system_that_is_too_small(
    call: Pitool, checkpoint: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    if not checked:  # as if others filled it meanwhile
        monkeypatch.setattr("pitool.convert.pipeline.check_disk", lambda *_: None)
    result = call(
        "convert", checkpoint, "--ram", "1gb", "--quant", "F32", "--out", small_disk / "b"
    )
    sentence = check_failure(result, 3)
    assert re.search(
        r"of disk space are needed, and .* has 1\.05 MB free" if checked else "disk is full",
        sentence,
    )
    assert names(small_disk) == set()


def test_what_nobody_foresaw_goes_to_a_log(
    call: Pitool, checkpoint: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("once\nin a while")

    monkeypatch.setattr("pitool.convert.pipeline.check_disk", fail)
    result = call("convert", checkpoint, "--ram", "1gb", "--quant", "F16")
    sentence = check_failure(result, 1)
    assert "ZeroDivisionError" in sentence
    assert sentence.endswith(f"see {private_home / 'fault.log'}, and report it with pitool report.")
    assert "Traceback" in (private_home / "fault.log").read_text()
    assert names(private_home / "bundles") == set()


# -- the plan ------------------------------------------------------------------------------


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    call: Pitool, checkpoint: Path, private_home: Path
) -> None:
    result = call("convert", checkpoint, "--ram", "1gb", "--dry-run")
    assert (result.code, result.out) == (0, "")
    for word in ("weights", "KV cache", "compute buffers", "runtime", "sum", "left of"):
        assert word in result.err
    assert not private_home.exists()


def test_a_dry_run_as_json(call: Pitool, checkpoint: Path, private_home: Path) -> None:
    result = call(
        "convert", checkpoint, "--ram", "1GB", "--quant", "F16,q4_k_m", "--context", 512,
        "--dry-run", "--json",
    )  # fmt: skip
    assert result.code == 0
    plan = json.loads(result.out)
    assert (plan["source"], plan["tier"]) == ("c", "1gb")
    assert plan["target"] == str(private_home / "bundles" / "c-1gb")
    assert [a["quantisation"] for a in plan["artifacts"]] == ["F16", "Q4_K_M"]
    for artifact in plan["artifacts"]:
        assert artifact["context"] == 512
        assert artifact["memory_bytes"] == sum(artifact["memory"].values())
        assert artifact["memory_bytes"] <= plan["budget_bytes"]
        assert artifact["memory"]["weights"] == artifact["tensor_bytes"] < artifact["bytes"]
        assert artifact["speed"]
    assert not private_home.exists()


def test_a_dry_run_looks_at_the_headers(call: Pitool, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_text("<!doctype html>")
    result = call("convert", checkpoint, "--ram", "1gb", "--dry-run")
    assert "is a web page" in check_failure(result, 4)


def test_a_dry_run_needs_no_weights(call: Pitool, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    assert call("convert", checkpoint, "--ram", "1gb", "--dry-run", "--json").code == 0


# -- the whole way -------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.engine
def test_a_conversion(pitool: Pitool, call: Pitool, one_layer: Path, private_home: Path) -> None:
    result = pitool("convert", one_layer, "--ram", "1gb", "--quant", "F16", "--context", 256)
    assert result.code == 0, result.err
    target = private_home / "bundles" / "tiny-1gb"
    assert names(target.parent) == {"tiny-1gb"}
    assert names(target) == {
        "manifest.json",
        "reference.npz",
        "tiny-F16.gguf",
        "tiny-F16.Modelfile",
    }
    for word in ("artifact", "size", "bits/weight", "memory", "KL", "top-1", "tokens/s"):
        assert word in result.out
    assert re.search(r"gguf F16 +1\.\d\d MB +16\.\d\d +\d+ MB", result.out)
    assert f"bundle: {target}" in result.out
    assert "\x1b" not in result.out + result.err
    reference = "computing the reference with pitool's own forward pass"
    for stage in ("writing F16", reference, "verifying F16", "hashing"):
        assert re.search(rf"^{stage} \.\.\.\n{stage}: \d+\.\d+ s$", result.err, re.MULTILINE)
    again = call("convert", one_layer, "--ram", "1gb", "--quant", "F16")
    assert "already exists; use --force to replace it" in check_failure(again, 2)
    forced = call("convert", one_layer, "--ram", "1gb", "--quant", "BF16", "--force", "--json")
    made = json.loads(forced.out)
    assert made["bundle"] == str(target)
    assert made["manifest"] == json.loads((target / "manifest.json").read_text())
    assert names(target) == {
        "manifest.json",
        "reference.npz",
        "tiny-BF16.gguf",
        "tiny-BF16.Modelfile",
    }


@pytest.mark.thorough
@pytest.mark.engine
def test_gguf_and_onnx_in_one_bundle(call: Pitool, one_layer: Path, private_home: Path) -> None:
    result = call("convert", one_layer, "--ram", "1gb", "--context", 256, "--json")
    assert result.code == 0, result.err
    target = private_home / "bundles" / "tiny-1gb"
    artifacts = json.loads(result.out)["manifest"]["artifacts"]
    kinds = [(a["format"], a["quantisation"]) for a in artifacts]
    # Of the boards with 1 GB not all have dotprod.
    assert kinds == [("gguf", "F16"), ("onnx", "INT8_DYNAMIC"), ("onnx", "INT4")]
    float16, eight, four = (a["certificate"]["mean_kl"] for a in artifacts)
    assert float16 < eight < four
    shown = call("verify", target, "--json")
    assert shown.code == 0, shown.err
    rows = json.loads(call("bench", target, "-p", 8, "-n", 4, "-r", 1, "--json").out)
    assert {row["model_filename"].rpartition("/")[2] for row in rows} == {
        "tiny-F16.gguf", "tiny-onnx-int8-dynamic", "tiny-onnx-int4",
    }  # fmt: skip
    assert len(rows) == 6
    for quant in ("gguf", "int4"):
        ran = call("run", target, "Hello", "--quant", quant, "--max-tokens", 4, "--json")
        assert ran.code == 0, ran.err


FORMATS: dict[str, tuple[list[str], list[str]]] = {
    "only gguf": (["--format", "gguf"], ["F16"]),
    "only onnx": (["--format", "onnx"], ["INT8_DYNAMIC", "INT4"]),
    "a board with dotprod": (["--format", "onnx", "--board", "pi5"], ["INT8", "INT4"]),
    "names of both": (["--quant", "int4-b16,Q8_0,FP16"], ["Q8_0", "INT4_B16", "FP16"]),
    "auto within a format": (["--quant", "auto", "--format", "gguf"], ["F16"]),
}


@pytest.mark.parametrize("case", FORMATS)
def test_what_is_planned(call: Pitool, checkpoint: Path, case: str) -> None:
    options, kinds = FORMATS[case]
    result = call("convert", checkpoint, "--ram", "1gb", *options, "--dry-run", "--json")
    assert result.code == 0, result.err
    assert [a["quantisation"] for a in json.loads(result.out)["artifacts"]] == kinds


def test_a_name_of_another_format_is_refused(call: Pitool, checkpoint: Path) -> None:
    options = ("--format", "onnx", "--quant", "INT4,Q4_K_M")
    result = call("convert", checkpoint, "--ram", "1gb", *options)
    assert "--format onnx excludes Q4_K_M; drop --format" in check_failure(result, 2)
    result = call("convert", checkpoint, "--ram", "1gb", "--quant", "INT5")
    assert "unknown quantisation 'INT5'; did you mean 'INT" in check_failure(result, 2)


def test_onnx_is_left_out_with_a_word_where_it_cannot_be(call: Pitool, tmp_path: Path) -> None:
    folder = write_checkpoint(
        tmp_path / "c", hidden_size=264, num_hidden_layers=1, num_attention_heads=4
    )
    result = call("convert", folder, "--ram", "1gb", "--dry-run", "--json")
    assert [a["format"] for a in json.loads(result.out)["artifacts"]] == ["gguf"]
    assert "ONNX is skipped: " in result.err
    assert "rows of 264 are not a multiple of 32" in result.err
    alone = call("convert", folder, "--ram", "1gb", "--format", "onnx")
    assert "choose smaller blocks" in check_failure(alone, 4)


# -- interrupted ---------------------------------------------------------------------------


def start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "pitool", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2],
        env=environment(),
    )  # fmt: skip


def wait_for_stage(process: subprocess.Popen[bytes], stage: str) -> None:
    assert process.stderr
    for line in process.stderr:
        if line.decode().startswith(stage):
            return
    pytest.fail(f"it ended before {stage!r}")


def children(pid: int) -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.add(int(path.parent.name))
    return found


def wait_until_gone(pids: set[int]) -> set[int]:
    """Return those of the processes that still run after a while; zombies are gone."""
    for _ in range(200):
        alive = set()
        for pid in pids:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    alive.add(pid)
        if not alive:
            return alive
        time.sleep(0.05)
    return alive


STAGES = ["writing BF16", "quantising to Q4_K_M", "computing the reference with", "verifying BF16"]


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.parametrize(
    ("stage", "number"),
    [*((stage, signal.SIGINT) for stage in STAGES), (STAGES[1], signal.SIGTERM)],
)
def test_interrupting_leaves_nothing(
    tiny_checkpoint: Path, private_home: Path, stage: str, number: signal.Signals
) -> None:
    order = ("convert", tiny_checkpoint, "--ram", "1gb", "--quant", "Q4_K_M", "--force")
    for _ in range(5):  # on a busy machine the signal may come when all is done
        with start(*order) as process:
            wait_for_stage(process, stage)
            below = children(process.pid)
            process.send_signal(number)
            out, err = process.communicate(timeout=120)
        assert wait_until_gone(below) == set()
        if process.returncode != 0:
            break
        shutil.rmtree(private_home / "bundles")
        shutil.rmtree(cache.folder())
    result = Result(process.returncode, out.decode(), err.decode())
    assert result.sentence == "pitool: interrupted."
    check_failure(result, 130)
    assert names(private_home / "bundles") == set()


@pytest.mark.thorough
@pytest.mark.engine
@pytest.mark.parametrize("stage", [*STAGES, "hashing"])
def test_a_killed_conversion_leaves_no_bundle_and_the_next_one_cleans_up(
    pitool: Pitool, tiny_checkpoint: Path, private_home: Path, stage: str
) -> None:
    words = ("convert", tiny_checkpoint, "--ram", "1gb", "--quant", "Q4_K_M")
    with start(*words) as process:
        wait_for_stage(process, stage)
        below = children(process.pid)
        process.kill()
        process.communicate(timeout=120)
    assert bundles.list_bundles() == ([], [])
    assert wait_until_gone(below) == set()
    if stage == STAGES[0]:
        assert pitool(*words).code == 0
        assert names(private_home / "bundles") == {"tiny-llama-1gb"}


def test_a_board_and_a_profile_decide(call: Pitool, one_layer: Path) -> None:
    budgets = []
    for profile in ("conservative", "aggressive"):
        words = ["convert", one_layer, "--ram", "8gb", "--board", "pi5", "--profile", profile]
        made = json.loads(call(*words, "--dry-run", "--json").out)
        budgets.append(made["budget_bytes"])
        assert set(made["artifacts"][0]["speed"]) == {"pi5"}
    assert budgets[0] < budgets[1]
    wrong = call("convert", one_layer, "--ram", "8gb", "--board", "pi44", "--dry-run")
    assert "did you mean" in check_failure(wrong, 2)
