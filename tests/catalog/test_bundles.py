"""Where bundles lie, which is the newest, and what of one is run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pitool.catalog import bundles, manifest
from pitool.catalog.manifest import Artifact, FileEntry, Manifest, Source
from pitool.catalog.model_argument import artifact_names, find_runnable
from pitool.errors import BadInput, UsageError
from tests.catalog.test_gguf import write as write_gguf


def make(folder: Path, *, day: int = 1, quants: tuple[str, ...] = ("F16", "Q4_K_M")) -> Path:
    folder.mkdir(parents=True)
    artifacts = []
    for quant in quants:
        path = folder / f"m-{quant}.gguf"
        path.write_bytes(b"x" * 10)
        artifacts.append(
            Artifact(
                "gguf", quant, (manifest.file_entry(path, folder),), "llama", 5, 512, 16.0, (), ()
            )
        )
    manifest.write(
        folder,
        Manifest(
            folder.name, Source("m", None, (FileEntry("config.json", 1, "0"),)), "1gb", None,
            f"2026-01-{day:02}T00:00:00+00:00", {}, tuple(artifacts),
        ),
    )  # fmt: skip
    return folder


def test_home_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("PITOOL_HOME", "~/models")
    assert bundles.home() == Path("/home/someone/models")
    monkeypatch.delenv("PITOOL_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert bundles.home() == Path("/data/pitool")
    monkeypatch.setenv("XDG_DATA_HOME", "")
    assert bundles.home() == Path("/home/someone/.local/share/pitool")
    assert bundles.default_folder() == bundles.home() / "bundles"


def test_bundles_are_listed_newest_first(private_home: Path) -> None:
    for name, day in (("a", 2), ("b", 3), ("c", 1)):
        make(private_home / "bundles" / name, day=day)
    found, broken = bundles.list_bundles()
    assert [b.path.name for b in found] == ["b", "a", "c"]
    assert not broken
    assert bundles.newest().path.name == "b"


def test_what_is_no_bundle_is_told_and_passed_over(private_home: Path) -> None:
    folder = private_home / "bundles"
    make(folder / "good")
    (folder / "empty").mkdir()
    (folder / ".good.77.partial").mkdir()
    (folder / "a-file").write_text("")
    found, broken = bundles.list_bundles()
    assert [b.path.name for b in found] == ["good"]
    assert len(broken) == 1
    assert "empty" in broken[0].what


def test_no_bundle_at_all() -> None:
    assert bundles.list_bundles() == ([], [])
    with pytest.raises(BadInput, match="there is no bundle in") as caught:
        bundles.newest()
    assert "pitool convert sample" in caught.value.do


def test_only_broken_bundles(private_home: Path) -> None:
    (private_home / "bundles" / "broken").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"it has no manifest\.json"):
        bundles.newest()


def test_a_bundle_by_path_and_by_name(private_home: Path, tmp_path: Path) -> None:
    by_path = make(tmp_path / "here")
    by_name = make(private_home / "bundles" / "there")
    assert bundles.open_bundle(by_path).path == by_path
    assert bundles.open_bundle(Path("there")).path == by_name


def test_a_bundle_by_the_name_of_its_model(private_home: Path) -> None:
    folder = private_home / "bundles"
    for name, source, day in (
        ("Qwen3-1.7B-q8_0", "unsloth/Qwen3-1.7B-GGUF", 2),
        ("Qwen3-1.7B-q4_k_m", "unsloth/Qwen3-1.7B-GGUF", 3),
        ("mine-2gb", "Qwen/Qwen2.5-1.5B-Instruct", 1),
    ):
        known = manifest.read(make(folder / name, day=day))
        named = replace(known, name=name[:10], source=replace(known.source, id=source))
        manifest.write(folder / name, named)
    for word, found in (
        ("qwen3-1.7b", "Qwen3-1.7B-q4_k_m"),  # the newest, by the model's name and by the recipe's
        ("Qwen3-1.7B-q8_0", "Qwen3-1.7B-q8_0"),
        ("qwen2.5-1.5b", "mine-2gb"),  # by the recipe's source alone
    ):
        assert bundles.find_bundle(Path(word)).path.name == found
        assert find_runnable(Path(word)).entry.parent.name == found
    with pytest.raises(BadInput, match="does not exist"):
        bundles.find_bundle(Path("qwen3-0.6b"))
    with pytest.raises(BadInput, match="does not exist"):  # what is deleted is named exactly
        bundles.open_bundle(Path("qwen3-1.7b"))


def test_a_name_that_is_none_names_the_nearest(private_home: Path) -> None:
    with pytest.raises(BadInput, match="nope does not exist: get one"):
        bundles.open_bundle(Path("nope"))
    make(private_home / "bundles" / "smollm2-135m-1gb")
    with pytest.raises(BadInput, match="did you mean 'smollm2-135m-1gb'"):
        bundles.open_bundle(Path("smollm-135m-1gb"))


def test_a_name_that_is_too_long_for_a_file() -> None:
    with pytest.raises(BadInput, match="does not exist"):
        find_runnable(Path("x" * 5000))


def test_the_first_artifact_is_the_default(tmp_path: Path) -> None:
    folder = make(tmp_path / "b")
    runnable = find_runnable(folder)
    assert (runnable.name, runnable.format, runnable.quantisation) == ("b", "gguf", "F16")
    assert runnable.entry == folder / "m-F16.gguf"
    assert (runnable.bytes, runnable.context) == (10, 512)


@pytest.mark.parametrize("name", ["Q4_K_M", "q4_k_m"])
def test_an_artifact_by_its_quantisation(tmp_path: Path, name: str) -> None:
    runnable = find_runnable(make(tmp_path / "b"), name)
    assert runnable.entry.name == "m-Q4_K_M.gguf"


def test_an_unknown_quantisation_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown artifact 'Q4_K_S': did you mean 'Q4_K_M'"):
        find_runnable(make(tmp_path / "b"), "q4_k_s")


def test_a_missing_file_is_found_before_anything_runs(tmp_path: Path) -> None:
    folder = make(tmp_path / "b")
    (folder / "m-F16.gguf").unlink()
    with pytest.raises(BadInput, match=r"m-F16\.gguf is missing"):
        find_runnable(folder)
    assert find_runnable(folder, "Q4_K_M")


def test_a_file_cut_short_is_found_before_anything_runs(tmp_path: Path) -> None:
    folder = make(tmp_path / "b")
    (folder / "m-F16.gguf").write_bytes(b"x" * 9)
    with pytest.raises(BadInput, match=r"m-F16\.gguf has 9 bytes, not 10"):
        find_runnable(folder)


def test_a_loose_file(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    runnable = find_runnable(path)
    assert (runnable.name, runnable.quantisation, runnable.entry) == ("m", "Q4_K_M", path)
    assert runnable.artifact is None
    assert find_runnable(path, "q4_k_m") == runnable


def test_a_loose_file_has_one_quantisation_only(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    with pytest.raises(UsageError, match=r"m\.gguf is Q4_K_M, not Q8_0"):
        find_runnable(path, "Q8_0")


def make_onnx(folder: Path) -> Path:
    """Write an ONNX folder whose graph is empty."""
    folder.mkdir(parents=True)
    decoder = {"num_hidden_layers": 1, "num_key_value_heads": 1, "head_size": 16}
    model = {
        "decoder": decoder, "eos_token_id": [1], "vocab_size": 8, "context_length": 512,
    }  # fmt: skip
    (folder / "genai_config.json").write_text(json.dumps({"model": model}))
    (folder / "model.onnx").write_bytes(b"\x3a\x00")  # field 7, the graph, of no bytes
    (folder / "tokenizer.json").write_text("{}")
    return folder


def make_both(folder: Path) -> Path:
    """Write a bundle of two GGUF files and two ONNX folders."""
    known = manifest.read(make(folder))
    artifacts = list(known.artifacts)
    for quant in ("INT4", "INT8"):
        inside = make_onnx(folder / f"onnx-{quant.lower()}")
        files = tuple(manifest.file_entry(path, folder) for path in sorted(inside.iterdir()))
        artifacts.append(Artifact("onnx", quant, files, "llama", 5, 512, 4.5, (), ()))
    manifest.write(folder, replace(known, artifacts=tuple(artifacts)))
    return folder


def test_the_entry_of_an_onnx_artifact_is_its_folder(tmp_path: Path) -> None:
    folder = make_both(tmp_path / "b")
    runnable = find_runnable(folder, "int8")
    assert (runnable.format, runnable.quantisation) == ("onnx", "INT8")
    assert runnable.entry == folder / "onnx-int8"
    assert artifact_names(folder) == ["F16", "Q4_K_M", "INT4", "INT8"]


@pytest.mark.parametrize(("asked", "found"), [("onnx", "INT4"), ("GGUF", "F16"), (None, "F16")])
def test_a_format_picks_its_first_artifact(tmp_path: Path, asked: str | None, found: str) -> None:
    assert find_runnable(make_both(tmp_path / "b"), asked).quantisation == found


def test_any_missing_file_of_an_onnx_artifact_is_found(tmp_path: Path) -> None:
    folder = make_both(tmp_path / "b")
    (folder / "onnx-int4" / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match=r"tokenizer\.json is missing"):
        find_runnable(folder, "INT4")


def test_a_loose_onnx_folder(tmp_path: Path) -> None:
    folder = make_onnx(tmp_path / "smollm-int4")
    runnable = find_runnable(folder)
    assert (runnable.name, runnable.format, runnable.quantisation) == (
        "smollm-int4", "onnx", "INT4",
    )  # fmt: skip
    assert (runnable.entry, runnable.bytes, runnable.context) == (folder, 2, 512)
    assert runnable.artifact is None
    assert find_runnable(folder, "onnx") == runnable
    assert artifact_names(folder) == ["INT4"]
    with pytest.raises(UsageError, match="is INT4, not INT8"):
        find_runnable(folder, "INT8")
