"""``/api/pull``: a client of the server has it download a model, which is served then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pitool.serve.context import Context
from pitool.serve.models import Models
from pitool.serve.shelf import AllBundles
from tests.pull.hub_server import ID, FakeHub
from tests.serve.harness import Engines, ask, serving, serving_of

pytestmark = [pytest.mark.network, pytest.mark.engine]


def test_a_model_is_pulled_and_listed(hub: FakeHub, bundles: Path) -> None:
    context = Context(AllBundles(bundles), Models(Engines([])))
    with serving_of(context) as server:
        assert ask(server, "/api/tags", method="GET") == (200, {"models": []})
        status, text = ask(server, "/api/pull", {"model": f"{ID}:Q8_0"})
        assert status == 200
        lines = [json.loads(line) for line in text.splitlines()]
        assert lines[0] == {"status": "pulling manifest"}
        assert lines[-1] == {"status": "success"}
        downloads = [line for line in lines if "completed" in line]
        assert downloads[-1]["completed"] == downloads[-1]["total"] > 0
        (model,) = ask(server, "/api/tags", method="GET")[1]["models"]
        assert model["model"] == "Tiny-q8_0:Q8_0"
        # What is there is not downloaded again.
        before = hub.fetched("tiny-Q8_0.gguf").count("")
        reply = ask(server, "/api/pull", {"model": f"{ID}:Q8_0", "stream": False})
        assert reply == (200, {"status": "success"})
        assert hub.fetched("tiny-Q8_0.gguf").count("") == before == 1  # but for its head
        status, shown = ask(server, "/api/show", {"model": "tiny-q8_0"})
        assert status == 200
        assert shown["details"]["quantization_level"] == "Q8_0"
        assert shown["model_info"]["general.architecture"] == "llama"
        assert "im_start" in shown["template"]
        assert shown["capabilities"] == ["completion"]


def test_what_cannot_be_pulled_is_said(hub: FakeHub, bundles: Path) -> None:
    context = Context(AllBundles(bundles), Models(Engines([])))
    with serving_of(context) as server:
        status, text = ask(server, "/api/pull", {"model": "someone/nothing"})
        assert status == 200 and "there is no model" in json.loads(text.splitlines()[-1])["error"]
        status, reply = ask(server, "/api/pull", {"model": "someone/nothing", "stream": False})
        assert status == 400 and "there is no model" in reply["error"]
    with serving() as server:
        status, reply = ask(server, "/api/pull", {"model": ID})
        assert status == 400 and "one model only" in reply["error"]
