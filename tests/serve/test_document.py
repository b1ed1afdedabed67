"""The server by its own document: it lists what there is, and random requests never fail it."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from pitool.serve.app import ENDPOINTS
from pitool.serve.openapi import REQUESTS
from tests.serve.harness import Serving, ask, serving
from tests.serve.test_openai import Able

pytestmark = [pytest.mark.network, pytest.mark.filterwarnings("ignore")]

# These reach the hub.
AWAY = {"/api/pull"}
EXAMPLES = 10


def test_every_path_is_described() -> None:
    with serving(Able()) as server:
        status, document = ask(server, "/openapi.json", method="GET")
    assert status == 200
    paths = {re.sub(r":\w+}", "}", path): method.lower() for path, method, _ in ENDPOINTS}
    assert {path: next(iter(known)) for path, known in document["paths"].items()} == paths
    posts = {path for path, method, _ in ENDPOINTS if method == "POST"}
    assert posts == set(REQUESTS)


@pytest.mark.thorough
@pytest.mark.parametrize("path", sorted(set(REQUESTS) - AWAY))
def test_every_field_that_is_described_is_known(path: str) -> None:
    """A field is refused for its value at most, never for its name."""
    with serving(Able()) as server:
        for name in REQUESTS[path]["properties"]:
            _, reply = ask(server, path, {name: {"odd": 1}})
            assert f"{name!r} is not supported in" not in str(reply), name
        _, reply = ask(server, path, {"bogus": 1})
        assert "'bogus' is not supported in" in str(reply) or "error" in reply


def test_random_requests_never_fail_the_server() -> None:
    schemathesis: Any = pytest.importorskip("schemathesis")
    from schemathesis.generation import GenerationMode

    seen: defaultdict[str, set[int]] = defaultdict(set)
    with serving(Able(prefill_rate=1e9)) as server:
        schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
        for result in schema.exclude(path_regex="|".join(AWAY)).get_all_operations():
            for mode in GenerationMode:
                _try(server, result.ok(), mode, seen)
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/api/generate"):
        assert {200, 400} <= seen[path], path


def _try(server: Serving, operation: Any, mode: Any, seen: dict[str, set[int]]) -> None:
    """Send random requests to one path, right ones or wrong ones."""
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

    checks = [not_a_server_error, status_code_conformance, content_type_conformance]

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        response = case.call()
        seen[operation.path].add(response.status_code)
        if operation.path != "/health":
            case.validate_response(response, checks=checks)

    try:
        one()
    except Exception as error:
        if type(error).__name__ != "Unsatisfiable":  # there is no wrong request without fields
            raise
    assert ask(server, "/health", method="GET")[0] == 200
