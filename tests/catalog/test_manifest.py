"""The manifest: what is written is what is read, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pitool.catalog import manifest
from pitool.catalog.manifest import (
    Artifact,
    CacheQuality,
    Certificate,
    FileEntry,
    Fit,
    FitPoint,
    KindQuality,
    Manifest,
    MemoryLine,
    Source,
    Speed,
    Tokenization,
)
from pitool.errors import BadInput


def example(**changes: Any) -> Manifest:
    artifact = Artifact(
        format="gguf",
        quantisation="Q4_K_M",
        files=(FileEntry("m-Q4_K_M.gguf", 123, "ab" * 32), FileEntry("sub/x", 7, "cd" * 32)),
        architecture="llama",
        parameters=1000,
        context=4096,
        bits_per_weight=4.85,
        memory=(MemoryLine("weights", 100), MemoryLine("KV cache", 28)),
        speed=(Speed("pi5", 100.0, 10.5),),
        certificate=Certificate("m in float32", "built-in", 95, 1e-3, 0.1, 0.99, 7.5, 7.4),
    )
    values: dict[str, Any] = {
        "name": "m",
        "source": Source("org/m", "abc", (FileEntry("config.json", 1, "ef" * 32),)),
        "tier": "8gb",
        "board": None,
        "created": "2026-11-22T00:00:00+00:00",
        "versions": {"pitool": "0.1.0"},
        "artifacts": (artifact,),
        "licence": "Apache-2.0 — ü",
    }
    return Manifest(**{**values, **changes})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    manifest.write(tmp_path, example())
    assert manifest.read(tmp_path) == example()
    assert example().artifacts[0].bytes == 130


def test_how_an_artifact_is_tokenized_is_kept_and_older_bundles_do_not_say_it(
    tmp_path: Path,
) -> None:
    (old,) = example().artifacts
    assert old.tokenization is None
    said = replace(old, tokenization=Tokenization((2, 7), nfc=True, folder="tokenizer"))
    manifest.write(tmp_path, example(artifacts=(said,)))
    assert manifest.read(tmp_path).artifacts == (said,)
    data = json.loads((tmp_path / "manifest.json").read_text())
    del data["artifacts"][0]["tokenization"]
    (tmp_path / "manifest.json").write_text(json.dumps(data))
    assert manifest.read(tmp_path).artifacts == (old,)


def test_what_newer_bundles_say_of_quality_is_kept_and_older_ones_do_not_say_it(
    tmp_path: Path,
) -> None:
    (old,) = example().artifacts
    assert old.certificate
    assert (old.certificate.kinds, old.caches, old.fit, old.value_type) == ((), (), None, None)
    certificate = replace(old.certificate, kinds=(KindQuality("chat", 256, 0.02, 0.01, 0.2, 0.95),))
    said = replace(
        old,
        certificate=certificate,
        kv_type="q8_0",
        value_type="q5_1",
        caches=(CacheQuality("q8_0", "f16", 1536, 1e-4, 0.99),),
        fit=Fit("made: x", "why: y", 0.03, (FitPoint(10, 0.5, (Speed("pi5", 1.0, 2.0),)),)),
    )
    manifest.write(tmp_path, example(artifacts=(said,)))
    assert manifest.read(tmp_path).artifacts == (said,)
    data = json.loads((tmp_path / "manifest.json").read_text())
    (entry,) = data["artifacts"]
    for name in ("caches", "fit", "value_type"):
        del entry[name]
    del entry["certificate"]["kinds"]
    entry["kv_type"] = "f16"
    (tmp_path / "manifest.json").write_text(json.dumps(data))
    assert manifest.read(tmp_path).artifacts == (old,)


def test_a_cache_of_an_unknown_type_is_refused(tmp_path: Path) -> None:
    manifest.write(tmp_path, example())
    data = json.loads((tmp_path / "manifest.json").read_text())
    data["artifacts"][0]["value_type"] = "q9"
    (tmp_path / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(BadInput, match="'q9' is no type of a KV cache"):
        manifest.read(tmp_path)


def test_the_file_is_plain_json_with_the_schema_first(tmp_path: Path) -> None:
    manifest.write(tmp_path, example())
    text = (tmp_path / "manifest.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "schema": "pitool.schema/1",\n  "name": "m"')
    data = json.loads(text)
    assert data["licence"] == "Apache-2.0 — ü"
    assert data["artifacts"][0]["memory"][1] == {"name": "KV cache", "bytes": 28}
    assert data["artifacts"][0]["speed"] == [{"board": "pi5", "prefill": 100.0, "decode": 10.5}]


def test_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is not a bundle: it has no manifest\.json"):
        manifest.read(tmp_path)


Change = Callable[[dict[str, Any]], object]
BROKEN: dict[str, tuple[Change, str]] = {
    "a newer schema": (
        lambda d: d.update(schema="pitool.schema/2"),
        r"has schema 'pitool.schema/2', and this pitool reads 'pitool.schema/1': update pitool",
    ),
    "a schema that is a list": (lambda d: d.update(schema=[]), r"has schema \[\]"),
    "no schema": (lambda d: d.pop("schema"), "is not a pitool manifest"),
    "an unknown key": (lambda d: d.update(teir=1), "unknown key 'teir': did you mean 'tier'"),
    "a missing key": (lambda d: d.pop("name"), "has no 'name'"),
    "a wrong type": (lambda d: d.update(tier=8), "tier is int, not str"),
    "no artifacts": (lambda d: d.update(artifacts=[]), "no artifacts are listed"),
    "artifacts that are a table": (lambda d: d.update(artifacts={}), "is not a list"),
    "an artifact without files": (
        lambda d: d["artifacts"][0].update(files=[]), "no files are listed",
    ),
    "a path upwards": (
        lambda d: d["artifacts"][0]["files"][0].update(path="../x"), "points outside",
    ),
    "a hidden path upwards": (
        lambda d: d["artifacts"][0]["files"][0].update(path="a/../../x"), "points outside",
    ),
    "an absolute path": (
        lambda d: d["artifacts"][0]["files"][0].update(path="/etc/passwd"), "points outside",
    ),
    "a path of Windows": (
        lambda d: d["artifacts"][0]["files"][0].update(path="..\\x"), "points outside",
    ),
    "an empty path": (
        lambda d: d["artifacts"][0]["files"][0].update(path=""), "points outside",
    ),
    "a context of nothing": (
        lambda d: d["artifacts"][0].update(context=0), "context",
    ),
    "a tokenizer outside": (
        lambda d: d["artifacts"][0].update(tokenization={"ends": [], "folder": "../x"}),
        "points outside",
    ),
    "an end that is no token": (
        lambda d: d["artifacts"][0].update(tokenization={"ends": [-1]}), "out of range",
    ),
    "ends that are missing": (
        lambda d: d["artifacts"][0].update(tokenization={}), "has no 'ends'",
    ),
    "a size that is a text": (
        lambda d: d["artifacts"][0]["files"][0].update(bytes="1"), r"files\[0\]\.bytes is str",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_manifest_is_refused(tmp_path: Path, case: str) -> None:
    change, message = BROKEN[case]
    data = manifest.to_json(example())
    data = json.loads(json.dumps(data))
    change(data)
    (tmp_path / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(BadInput, match=message) as caught:
        manifest.read(tmp_path)
    assert caught.value.do


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"[]", b"null", b"3", b"[" * 200_000], ids=lambda b: repr(b[:4])
)
def test_what_is_no_manifest(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(
        BadInput, match=r"cannot read .*manifest\.json|manifest\.json is (not a pitool|empty)"
    ):
        manifest.read(tmp_path)


def test_an_entry_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "f"
    path.write_bytes(b"x" * 100_000)
    wanted = hashlib.sha256(b"x" * 100_000).hexdigest()
    assert manifest.file_entry(path, tmp_path) == FileEntry("sub/f", 100_000, wanted)
