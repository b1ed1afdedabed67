"""``/openapi.json``: what the server offers, in OpenAPI 3.1.

It names the fields that are read, with their limits; what each means is OpenAI's and Ollama's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request

from pitool import __version__
from pitool.serve.replies import JSONResponse

Schema = Mapping[str, Any]


def _number(low: float, high: float) -> Schema:
    return {"type": ["number", "null"], "minimum": low, "maximum": high}


def _integer(low: int, high: int | None = None) -> Schema:
    return {"type": ["integer", "null"], "minimum": low, **({"maximum": high} if high else {})}


def _list(items: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "minItems": least}


def _object(required: Iterable[str] = (), **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


FLAG: Schema = {"type": ["boolean", "null"]}
TEXT: Schema = {"type": ["string", "null"]}
WORDS: Schema = {"type": "string", "minLength": 1}
ANY: Schema = {"type": ["object", "null"]}
TIME: Schema = {"type": ["string", "number", "null"], "examples": ["5m", 0, -1]}
IDS = _list({"type": "integer", "minimum": 0}, 1)
TOOLS: Schema = {
    "type": ["array", "null"],
    "items": _object(
        ["type", "function"],
        type={"const": "function"},
        function=_object(["name"], name=WORDS, description=TEXT, parameters=ANY, strict=FLAG),
    ),
}
MESSAGE = _object(
    ["role"],
    role={"enum": ["system", "developer", "user", "assistant", "tool"]},
    content={
        "oneOf": [
            TEXT,
            _list(_object(["type", "text"], type={"const": "text"}, text={"type": "string"})),
        ]
    },
    tool_calls={"type": ["array", "null"], "items": {"type": "object"}},
    tool_call_id=TEXT,
    name=TEXT,
    reasoning_content=TEXT,
)
MODEL: dict[str, Schema] = {"model": TEXT}
SAMPLING: dict[str, Schema] = {
    "temperature": _number(0, 100),
    "top_p": _number(0, 1),
    "top_k": _integer(0),
    "min_p": _number(0, 1),
    "repeat_penalty": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 100},
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "seed": _integer(-1),
    "stop": {"oneOf": [TEXT, {**_list(WORDS), "maxItems": 32}]},
    "logit_bias": {
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[0-9]{1,9}$"},
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
    },
}
MOST: Schema = {"type": ["integer", "null"], "minimum": -1, "description": "-1: no limit"}
SHAPE: dict[str, Schema] = {
    "response_format": {
        "type": ["object", "null"],
        "required": ["type"],
        "properties": {
            "type": {"enum": ["text", "json_object", "json_schema"]},
            "json_schema": _object(name=WORDS, strict=FLAG, schema={"type": "object"}),
        },
    },
    "grammar": {**TEXT, "description": "llama.cpp's GBNF"},
}
STREAM: dict[str, Schema] = {
    "stream": FLAG,
    "stream_options": {"type": ["object", "null"], "properties": {"include_usage": FLAG}},
}
PREDICTION: Schema = {
    "type": ["object", "null"],
    "properties": {"type": {"const": "content"}, "content": {"type": ["string", "array"]}},
    "description": "a text that much of the answer is expected to be",
}
EFFORT: Schema = {"enum": ["none", "minimal", "low", "medium", "high", "xhigh", None]}
KEEP: dict[str, Schema] = {"keep_alive": TIME}
OPTIONS: Schema = {"type": ["object", "null"], "description": "as Ollama's Modelfile has them"}
FORMAT: Schema = {"oneOf": [{"type": "null"}, {"const": "json"}, {"type": "object"}]}
THINK: Schema = {"enum": [True, False, "low", "medium", "high", None]}
OLLAMA: dict[str, Schema] = {
    **MODEL, **KEEP, "stream": FLAG, "options": OPTIONS, "format": FORMAT, "think": THINK,
}  # fmt: skip
OLLAMA_MESSAGE = _object(
    ["role"],
    role={"enum": ["system", "user", "assistant", "tool"]},
    content=TEXT,
    thinking=TEXT,
    tool_name=TEXT,
    tool_calls={"type": ["array", "null"], "items": {"type": "object"}},
)
TEXTS: Schema = {"oneOf": [WORDS, _list(WORDS, 1), IDS, _list(IDS, 1)]}

# What a body has, by path; a path without is only read.
REQUESTS: dict[str, Schema] = {
    "/v1/chat/completions": _object(
        ["messages"], messages=_list(MESSAGE, 1), tools=TOOLS,
        tool_choice={"oneOf": [{"enum": ["none", "auto", "required", None]}, {"type": "object"}]},
        parallel_tool_calls=FLAG, max_tokens=MOST, max_completion_tokens=MOST,
        n=_integer(1, 16), logprobs=FLAG, top_logprobs=_integer(0, 20), reasoning_effort=EFFORT,
        chat_template_kwargs=ANY, prediction=PREDICTION, **MODEL, **SAMPLING, **SHAPE, **STREAM,
    ),
    "/v1/completions": _object(
        ["prompt"], prompt=TEXTS, suffix=TEXT, echo=FLAG, max_tokens=MOST, n=_integer(1, 16),
        logprobs=_integer(0, 20), **MODEL, **SAMPLING, **SHAPE, **STREAM,
    ),
    "/v1/responses": _object(
        ["input"], input={"oneOf": [WORDS, _list({"type": "object"}, 1)]}, instructions=TEXT,
        max_output_tokens=MOST, tools={"type": ["array", "null"], "items": {"type": "object"}},
        text=ANY, reasoning={"type": ["object", "null"], "properties": {"effort": EFFORT}},
        stream=FLAG, **MODEL, **SAMPLING,
    ),
    "/v1/embeddings": _object(
        ["input"], input=TEXTS, encoding_format={"enum": ["float", "base64", None]},
        dimensions=_integer(1), **MODEL,
    ),
    "/v1/rerank": _object(
        ["query", "documents"], query=WORDS, documents=_list(WORDS, 1), top_n=_integer(1),
        return_documents=FLAG, **MODEL,
    ),
    "/api/chat": _object(messages=_list(OLLAMA_MESSAGE), tools=TOOLS, **OLLAMA),
    "/api/generate": _object(prompt=TEXT, system=TEXT, suffix=TEXT, raw=FLAG, **OLLAMA),
    "/api/embed": _object(
        ["input"], input={"oneOf": [TEXT, _list({"type": "string"})]}, options=OPTIONS,
        truncate=FLAG, **MODEL, **KEEP,
    ),
    "/api/embeddings": _object(prompt=TEXT, options=OPTIONS, **MODEL, **KEEP),
    "/api/show": _object(verbose=FLAG, **MODEL),
    "/api/pull": _object(["model"], model=WORDS, stream=FLAG),
}  # fmt: skip

_ERRORS = {
    "400": "what is wrong with the request",
    "401": "the key is missing or wrong",
    "403": "a web page of another site, or a public host name without a key",
    "404": "no such model",
    "408": "the body did not come",
    "413": "the body is too long",
    "500": "the model failed",
    "501": "the model's runtime is not installed",
    "503": "too many requests wait, or the server is stopping",
}


def document(endpoints: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the document of some paths, each with its method."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pitool serve",
            "version": __version__,
            "description": "Language models, by OpenAI's and Ollama's interfaces.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{}, {"key": []}],
        "paths": {
            re.sub(r":\w+}", "}", path): {method.lower(): _operation(path)}
            for path, method in endpoints
        },
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(path: str) -> dict[str, Any]:
    made: dict[str, Any] = {"responses": _responses(path)}
    if path in REQUESTS:
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": REQUESTS[path]}},
        }
    names = re.findall(r"{(\w+)", path)
    if names:
        made["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": WORDS} for name in names
        ]
    return made


def _responses(path: str) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    request = REQUESTS.get(path, {}).get("properties", {})
    if path == "/metrics":
        content = {"text/plain": {"schema": {"type": "string"}}}
    elif "stream" in request:
        kind = "application/x-ndjson" if path.startswith("/api/") else "text/event-stream"
        content[kind] = {"schema": {"type": "string"}}
    errors = {
        status: {
            "description": meaning,
            "content": {"application/json": {"schema": {"type": "object", "required": ["error"]}}},
        }
        for status, meaning in _ERRORS.items()
    }
    if path == "/health":
        errors["503"] = {"description": "loading, or a model has died", "content": content}
    return {"200": {"description": "the answer", "content": content}, **errors}


async def endpoint(request: Request) -> JSONResponse:
    """Return the document."""
    return JSONResponse(request.app.state.document)
