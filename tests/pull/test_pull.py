"""Pulls from a hub on the loopback: what arrives is what it holds, whatever the line does."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from pitool.catalog import integrity, manifest
from pitool.catalog.bundles import Bundle, open_bundle
from pitool.cli.commands import cli
from pitool.errors import BadInput, DoesNotFit, Interrupted, PitoolError, UsageError
from pitool.pull import connection
from tests.pull.hub_server import COMMIT, ID, FakeHub

pytestmark = [pytest.mark.network, pytest.mark.engine]
BOARD = ("--board", "pi5", "--ram", "2gb")
Q8 = f"{ID}:Q8_0"


def pull(*words: str) -> Result:
    """Run the command on a board of 2 GB; its errors are raised."""
    place: Sequence[str] = () if {"--ram", "--board"} & set(words) else BOARD
    result = CliRunner().invoke(cli, ["pull", *words, *place], catch_exceptions=False)
    if isinstance(result.exception, PitoolError):
        raise result.exception
    assert result.exit_code == 0
    return result


def pulled(folder: Path) -> Bundle:
    """Return the one bundle, whose files are what its manifest says; nothing else is left."""
    (path,) = folder.iterdir()
    bundle = open_bundle(path)
    assert integrity.damaged_files(bundle) == []
    return bundle


@pytest.mark.thorough
def test_one_command_makes_a_bundle_of_the_best_that_fits(
    hub: FakeHub, bundles: Path, ggufs: dict[str, bytes]
) -> None:
    result = pull(ID)
    made = pulled(bundles)
    assert made.path.name == "Tiny-f16"
    (artifact,) = made.manifest.artifacts
    data = ggufs["tiny-F16.gguf"]
    assert (made.path / artifact.files[0].path).read_bytes() == data
    assert artifact.files[0].sha256 == hashlib.sha256(data).hexdigest()
    assert artifact.quantisation == "F16"
    assert artifact.certificate is None
    assert [speed.board for speed in artifact.speed] == ["pi5"]
    assert made.manifest.source.id == ID
    assert made.manifest.source.revision == COMMIT
    assert made.manifest.licence == "apache-2.0"
    assert "licence: apache-2.0" in result.stderr
    assert "F16: the best quality that fits pi5-2gb at reading speed" in result.stderr
    assert "not compared with its checkpoint" in result.stdout


def test_the_plan_of_the_bundle_is_that_of_the_file(hub: FakeHub, bundles: Path) -> None:
    """The prediction is the planner's for the same file on this disk."""
    pull(f"{ID}:Q4_K_M")
    path = pulled(bundles).path / "tiny-Q4_K_M.gguf"
    words = ["plan", str(path), *BOARD, "--quant", "Q4_K_M", "--context", "1024", "--json"]
    planned = json.loads(CliRunner().invoke(cli, words).stdout)["rows"][0]
    (artifact,) = pulled(bundles).manifest.artifacts
    assert sum(line.bytes for line in artifact.memory) == planned["memory_bytes"]
    assert artifact.speed[0].decode == round(planned["speed"]["pi5"]["decode"], 1)


def test_the_list_says_what_fits_and_downloads_nothing(hub: FakeHub, bundles: Path) -> None:
    text = pull(ID, "--list").stdout
    assert re.search(r"\* F16 +.*fits", text)
    assert "licence apache-2.0" in text
    assert "mmproj" not in text
    assert "imatrix" not in text
    assert not bundles.exists()
    assert all(a.range for a in hub.asked if "/resolve/" in a.path)
    found = json.loads(pull(ID, "--list", "--json").stdout)
    assert [m["quantisation"] for m in found["models"]] == ["F16", "Q8_0", "Q4_K_M"]
    assert found["chosen"] == "tiny-F16.gguf"


def test_the_bytes_of_the_list_are_those_of_the_headers(hub: FakeHub) -> None:
    """What is planned by a name is within a per cent of what the file's own header gives."""
    by_name = json.loads(pull(ID, "--list", "--json").stdout)["models"]
    for one in by_name:
        exact = json.loads(pull(f"{ID}:{one['quantisation']}", "--list", "--json").stdout)
        assert exact["models"][0]["bytes"] == one["bytes"]
        assert exact["models"][0]["needed_bytes"] == pytest.approx(one["needed_bytes"], rel=0.01)


def test_a_header_is_fetched_once(hub: FakeHub) -> None:
    pull(f"{ID}:Q4_K_M", "--list")
    ranges = [a.range for a in hub.asked if a.path.endswith(".gguf")]
    assert len(ranges) == 1


def test_a_split_file_is_one_model(
    hub: FakeHub, bundles: Path, parts: dict[str, bytes], ggufs: dict[str, bytes]
) -> None:
    hub.repositories[ID] = {f"Q8_0/{name}": data for name, data in parts.items()}
    pull(ID)
    made = pulled(bundles)
    (artifact,) = made.manifest.artifacts
    assert [file.path for file in artifact.files] == sorted(parts)
    whole = made.path / "whole.gguf"
    whole.write_bytes(ggufs["tiny-Q8_0.gguf"])
    one, split = (
        CliRunner().invoke(
            cli, ["run", str(path), "--raw", "--max-tokens", "8", "--temp", "0", "fox"]
        )
        for path in (whole, made.path)
    )
    assert one.exit_code == split.exit_code == 0, split.output
    assert one.stdout == split.stdout
    assert one.stdout.strip()


def test_a_split_file_of_which_a_part_is_missing(hub: FakeHub, parts: dict[str, bytes]) -> None:
    del parts[max(parts)]
    hub.repositories[ID] = dict(parts)
    with pytest.raises(BadInput, match=r"has no GGUF file"):
        pull(ID)


def test_a_quantisation_that_is_not_there(hub: FakeHub) -> None:
    with pytest.raises(UsageError, match=r"no Q4_K_S in this repository: did you mean 'Q4_K_M'"):
        pull(f"{ID}:Q4_K_S")


def test_a_second_pull_downloads_nothing(hub: FakeHub, bundles: Path) -> None:
    pull(Q8)
    hub.asked.clear()
    assert "already on this machine" in pull(Q8).stderr
    assert not [r for r in hub.fetched("tiny-Q8_0.gguf") if r.endswith("-") or not r]


def test_a_cut_line_is_resumed(hub: FakeHub, bundles: Path) -> None:
    hub.cuts = [50_000, 60_000, 1]
    pull(Q8)
    pulled(bundles)
    ranges = [r for r in hub.fetched("tiny-Q8_0.gguf") if r.endswith("-") or not r]
    assert ranges == ["", "bytes=50000-", "bytes=110000-", "bytes=110001-"]


def test_a_line_that_is_always_cut_keeps_what_arrived(hub: FakeHub, bundles: Path) -> None:
    hub.cuts = [50_000] + [0] * connection.TRIES
    with pytest.raises(
        BadInput, match=r"interrupted again and again.*run the same command again to go on"
    ):
        pull(Q8)
    (part,) = (bundles / ".downloads").iterdir()
    assert part.suffix == ".part"
    assert part.stat().st_size == 50_000
    hub.asked.clear()
    pull(Q8)
    assert "bytes=50000-" in hub.fetched("tiny-Q8_0.gguf")
    pulled(bundles)


def test_a_server_without_ranges(hub: FakeHub, bundles: Path) -> None:
    hub.ranges = False
    hub.cuts = [70_000]
    pull(Q8)
    pulled(bundles)


def test_content_that_is_another_one(hub: FakeHub, bundles: Path, ggufs: dict[str, bytes]) -> None:
    data = bytearray(ggufs["tiny-Q8_0.gguf"])
    data[-1] ^= 1
    hub.lies["tiny-Q8_0.gguf"] = bytes(data)
    with pytest.raises(BadInput, match=r"arrived damaged: its hash is .* run the same command"):
        pull(Q8)
    assert list((bundles / ".downloads").iterdir()) == []


def test_a_hub_that_states_no_sha256(hub: FakeHub, bundles: Path, ggufs: dict[str, bytes]) -> None:
    """Then git's hash of the content counts, or the sha256 of an ETag."""
    hub.lfs = False
    hub.lies["tiny-Q8_0.gguf"] = ggufs["tiny-Q8_0.gguf"][:-1] + b"!"
    with pytest.raises(BadInput, match=r"arrived damaged"):
        pull(Q8)
    hub.etag = "0" * 64
    hub.lies = {}
    with pytest.raises(BadInput, match=r"the hub states 000000000000"):
        pull(Q8)
    hub.etag = ""
    pull(Q8)
    pulled(bundles)


def test_what_arrived_and_rotted_is_found(hub: FakeHub, bundles: Path) -> None:
    hub.cuts = [50_000] + [0] * connection.TRIES
    with pytest.raises(BadInput):
        pull(Q8)
    (part,) = (bundles / ".downloads").iterdir()
    part.write_bytes(b"\0" * 50_000)
    with pytest.raises(BadInput, match=r"arrived damaged"):
        pull(Q8)
    pull(Q8)
    pulled(bundles)


def test_a_gated_model(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.token = "hf_word"
    with pytest.raises(BadInput, match=r"is a gated model, and there is no token: accept its lice"):
        pull(Q8)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(BadInput, match=r"is a gated model, and your token is not allowed"):
        pull(Q8)
    monkeypatch.delenv("HF_TOKEN")
    home = tmp_path / "hf-home"
    home.mkdir()
    (home / "token").write_text("hf_word\n")
    pull(Q8)
    assert {a.token for a in hub.asked[-1:]} == {"Bearer hf_word"}


def test_a_gated_model_is_listed_by_the_hub_but_its_files_are_asked_for_once(hub: FakeHub) -> None:
    hub.gated = True
    with pytest.raises(BadInput, match=r"is a gated model, and there is no token"):
        pull(ID)
    assert len([a for a in hub.asked if "/resolve/" in a.path]) == 1


def test_the_token_goes_to_no_other_host(
    hub: FakeHub, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_word"
    hub.storage = f"http://localhost:{hub.port}"
    monkeypatch.setenv("HF_TOKEN", "hf_word")
    pull(Q8)
    pulled(bundles)
    elsewhere = [a for a in hub.asked if a.host.startswith("localhost")]
    assert elsewhere
    assert not [a for a in elsewhere if a.token]
    assert all(a.token for a in hub.asked if not a.host.startswith("localhost"))


def test_a_repository_that_was_renamed(
    hub: FakeHub, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_word")
    hub.token = "hf_word"
    hub.moved["old/Name-GGUF"] = ID
    pull("old/Name-GGUF")
    assert pulled(bundles).manifest.source.id == ID


def test_a_model_that_does_not_exist(hub: FakeHub) -> None:
    with pytest.raises(BadInput, match=r"there is no model no/thing on the hub: .* is private"):
        pull("no/thing")


def test_a_revision_that_does_not_exist(hub: FakeHub) -> None:
    with pytest.raises(BadInput, match=r"has no revision 'v9': use --revision main"):
        pull(ID, "--revision", "v9")


def test_a_revision_of_the_catalogue_that_is_gone(hub: FakeHub) -> None:
    hub.repositories["Qwen/Qwen3-0.6B-GGUF"] = hub.repositories[ID]
    says = r"has no revision '23749.* never checked against the hub: take the newest: pitool pull Q"
    with pytest.raises(BadInput, match=says):
        pull("qwen3-0.6b")
    pull("qwen3-0.6b", "--revision", "main")


def test_a_name_of_the_catalogue(hub: FakeHub, bundles: Path, ggufs: dict[str, bytes]) -> None:
    """Its file is taken where another would have better quality; its licence and context count."""
    files = {"LFM2.5-350M-Q4_K_M.gguf": ggufs["tiny-Q4_K_M.gguf"], **ggufs}
    hub.repositories["LiquidAI/LFM2.5-350M-GGUF"] = files
    result = pull("lfm2.5-350m")
    assert "Q4_K_M: what the recipe recommends" in result.stderr
    assert "licence: LFM Open 1.0" in result.stderr
    made = pulled(bundles)
    assert made.path.name == "LFM2.5-350M-q4_k_m"
    assert made.manifest.licence == "LFM Open 1.0"


def test_other_refusals(hub: FakeHub) -> None:
    hub.refusals = {"a/b": (403, ""), "c/d": (500, "")}
    with pytest.raises(BadInput, match=r"the hub refuses access to a/b"):
        pull("a/b")
    with pytest.raises(BadInput, match=r"the hub answers with error 500: try again later"):
        pull("c/d")


def test_a_hub_that_is_busy(hub: FakeHub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.busy = [{"Retry_After": "7"}, {"RateLimit": '"api";r=0;t=55'}]
    result = pull(ID, "--list")
    assert "the hub asks to wait 7 seconds\nthe hub asks to wait 55 seconds" in result.stderr
    assert connection.sleep.__self__ == [7.0, 55.0]  # type: ignore[attr-defined]
    hub.busy = [{"Retry_After": "3600"}]
    with pytest.raises(BadInput, match=r"allows no more requests for a while"):
        pull(ID, "--list")


def test_nobody_answers(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BadInput, match=r"cannot reach 127\.0\.0\.1:9 \(Connection refused\)"):
        pull(Q8)
    monkeypatch.setenv("HF_ENDPOINT", "ftp://x")
    with pytest.raises(UsageError, match=r"HF_ENDPOINT='ftp://x' is not an address"):
        pull(Q8)


def test_a_server_that_is_no_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.endpoint}/{ID}/resolve/{COMMIT}/README.md?x=")
    with pytest.raises(BadInput, match=r"does not answer as a model hub does"):
        pull(Q8)


def cached(folder: Path, files: dict[str, bytes], *, damaged: bool = False) -> None:
    """Write the cache of another client: contents by their hash, and links to them."""
    model = folder / "hf-home" / "hub" / f"models--{ID.replace('/', '--')}"
    for name in ("blobs", f"snapshots/{COMMIT}", "refs"):
        (model / name).mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    for name, data in files.items():
        digest = hashlib.sha256(data).hexdigest()
        (model / "blobs" / digest).write_bytes(data[:-1] + b"!" if damaged else data)
        (model / "snapshots" / COMMIT / name).symlink_to(f"../../blobs/{digest}")


@pytest.mark.parametrize("damaged", [False, True])
def test_what_another_client_has_is_copied(
    hub: FakeHub, bundles: Path, tmp_path: Path, ggufs: dict[str, bytes], damaged: bool
) -> None:
    cached(tmp_path, ggufs, damaged=damaged)
    pull(Q8)
    pulled(bundles)
    assert bool(hub.fetched("tiny-Q8_0.gguf")) == damaged


def test_offline_the_cache_is_all_there_is(
    hub: FakeHub,
    bundles: Path,
    tmp_path: Path,
    ggufs: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadInput, match=r"is not in the cache .*HF_HUB_OFFLINE forbids"):
        pull(Q8)
    cached(tmp_path, ggufs)
    pull(Q8)
    assert pulled(bundles).manifest.source.revision == COMMIT
    assert hub.asked == []


def test_a_checkpoint_is_converted(hub: FakeHub) -> None:
    hub.repositories["someone/model"] = {"model.safetensors": b"", "config.json": b"{}"}
    with pytest.raises(BadInput, match=r"has no GGUF .* pitool convert someone/model --ram 4gb"):
        pull("someone/model")


def test_words_that_name_nothing(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither in the catalogue nor a repository"):
        pull("nothing-like-this")
    with pytest.raises(UsageError, match=r"names no quantisation"):
        pull(f"{ID}:")
    with pytest.raises(UsageError, match=r"is on this machine already: run it"):
        pull(str(tmp_path))


def test_another_bundle_is_not_replaced_unless_forced(hub: FakeHub, bundles: Path) -> None:
    pull(Q8)
    (path,) = bundles.iterdir()
    made = manifest.read(path)
    manifest.write(path, replace(made, source=manifest.Source("another", None, ())))
    with pytest.raises(UsageError, match=r"already exists: use --force"):
        pull(Q8)
    pull(Q8, "--force")
    assert pulled(bundles).manifest.source.id == ID


def test_ctrl_c_keeps_what_arrived(
    hub: FakeHub, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(_: float) -> None:
        raise KeyboardInterrupt

    hub.cuts = [50_000]
    monkeypatch.setattr(connection, "sleep", press)
    with pytest.raises(Interrupted, match=r"50 of \d+ kB: what arrived is kept: run the same"):
        pull(Q8)
    monkeypatch.undo()
    (part,) = (bundles / ".downloads").iterdir()
    assert part.stat().st_size == 50_000


def test_two_pulls_of_one_file(hub: FakeHub, bundles: Path, ggufs: dict[str, bytes]) -> None:
    digest = hashlib.sha256(ggufs["tiny-Q8_0.gguf"]).hexdigest()
    (bundles / ".downloads").mkdir(parents=True)
    with (bundles / ".downloads" / f"{digest}.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match=r"is being downloaded already: wait for the other"):
            pull(Q8)


def test_a_disk_without_room(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DoesNotFit, match=r"34 MB of disk space are needed, and .* 1\.00 MB"):
        pull(Q8)
    assert not [r for r in hub.fetched("tiny-Q8_0.gguf") if r.endswith("-") or not r]


@pytest.mark.thorough
def test_an_onnx_folder(hub: FakeHub, bundles: Path, onnx_files: dict[str, bytes]) -> None:
    hub.repositories[ID] = {f"cpu-int4/{name}": data for name, data in onnx_files.items()}
    pull(ID)
    made = pulled(bundles)
    (artifact,) = made.manifest.artifacts
    assert (artifact.format, artifact.quantisation) == ("onnx", "INT4")
    done = CliRunner().invoke(cli, ["run", str(made.path), "--raw", "--max-tokens", "4", "fox"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip()


def test_the_board_needs_no_client_of_the_hub() -> None:
    import subprocess
    import sys

    code = "import sys, pitool.pull.request, pitool.pull.bundle; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"huggingface_hub", "requests", "httpx", "gguf", "torch", "transformers", "numpy"}
    assert not heavy & set(done.stdout.split())
