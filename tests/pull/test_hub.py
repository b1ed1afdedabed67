"""What the hub says, and how it is read: names, licences, waits, the token."""

from __future__ import annotations

import io
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from pitool.errors import PitoolError, UsageError
from pitool.pull import hub
from pitool.pull.connection import _Redirects, asked_wait
from pitool.pull.hub import find_hub


def entry(path: Any, **more: Any) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": 5, **more}


@pytest.mark.parametrize(
    "path", ["../a.gguf", "/a.gguf", "a/../../b.gguf", "a\\b.gguf", "a\nb.gguf", "", 3, None]
)
def test_names_that_leave_a_folder_are_left_out(path: Any) -> None:
    assert hub._remote_file(entry(path)) is None
    assert hub._remote_file(entry("a/b.gguf"))


@pytest.mark.parametrize(
    "value", [None, [], 5, {"type": "file"}, entry("a", size=-1), entry("a", size="9")]
)
def test_what_is_no_entry_is_left_out(value: Any) -> None:
    assert hub._remote_file(value) is None


def test_a_hash_that_is_none_is_none() -> None:
    found = hub._remote_file(entry("a", lfs={"oid": "short"}))
    assert found
    assert found.sha256 is None
    found = hub._remote_file(entry("a", lfs={"oid": "sha256:" + "a" * 64}))
    assert found
    assert found.sha256 == "a" * 64


@pytest.mark.parametrize(
    ("info", "licence"),
    [
        ({"cardData": {"license": "apache-2.0"}}, "apache-2.0"),
        ({"cardData": {"license": "other", "license_name": "lfm1.0"}}, "lfm1.0"),
        ({"cardData": {"license": ["mit", "apache-2.0"]}}, "mit, apache-2.0"),
        ({"tags": ["gguf", "license:mit"]}, "mit"),
        ({"cardData": None, "tags": 5}, None),
        ({}, None),
    ],
)
def test_the_licence(info: dict[str, Any], licence: str | None) -> None:
    assert hub._licence(info) == licence


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "12"}, 12),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"RateLimit": '"resolvers";r=0;t=55'}, 55),
        ({"Retry-After": "soon"}, 1),
        ({}, 1),
    ],
)
def test_how_long_the_hub_asks_to_wait(headers: dict[str, str], seconds: float) -> None:
    message = Message()
    for key, value in headers.items():
        message[key] = value
    assert asked_wait(message) == seconds


def redirected(to: str) -> urllib.request.Request | None:
    request = urllib.request.Request("https://hub.example/a")
    request.add_unredirected_header("Authorization", "Bearer word")
    return _Redirects().redirect_request(request, io.BytesIO(), 302, "", Message(), to)  # type: ignore[arg-type]


def test_a_redirect_keeps_the_token_on_its_host_and_the_encryption_everywhere() -> None:
    same, other = redirected("https://hub.example/b"), redirected("https://cdn.example/b")
    assert same is not None
    assert same.unredirected_hdrs == {"Authorization": "Bearer word"}
    assert other is not None
    assert not {**other.headers, **other.unredirected_hdrs}.get("Authorization")
    for port in ("https://hub.example:8443/b",):
        moved = redirected(port)
        assert moved is not None
        assert not moved.unredirected_hdrs
    with pytest.raises(PitoolError, match="without encryption"):
        redirected("http://hub.example/b")


def test_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    found = find_hub()
    assert found.connection.endpoint == hub.ENDPOINT
    assert found.connection.token is None
    assert found.cache == tmp_path / "hub"
    (tmp_path / "token").write_text(" hf_abc\n")
    assert find_hub().connection.token == "hf_abc"
    monkeypatch.setenv("HF_TOKEN", "two words")
    with pytest.raises(UsageError, match="HF_TOKEN is not a token"):
        find_hub()
