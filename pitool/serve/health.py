"""``/health`` and ``/metrics``: whether the models are well, and how the board does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pitool.device import memory
from pitool.serve.board import board_json
from pitool.serve.context import Context, context_of
from pitool.serve.metrics import MEDIA_TYPE, board_lines, family
from pitool.serve.replies import JSONResponse
from pitool.serve.turns import Loaded


async def health(request: Request) -> JSONResponse:
    """Return 200, or 503 while a model is loaded at the start or after one has died."""
    context = context_of(request)
    models = context.models
    loaded = [_model(model) for model in models.loaded.values()]
    if models.loading is not None:
        loaded.append({"id": models.loading.id, "state": "loading"})
    status = _status(context)
    document = {
        "status": status,
        "busy": models.running > 0,
        "running": models.running,
        "waiting": models.waiting,
        "models": loaded,
        "board": board_json(await context.board.sample()),
    }
    return JSONResponse(document, 200 if status == "ok" else 503)


def _status(context: Context) -> str:
    models = context.models
    if models.dead or any(not model.alive for model in models.loaded.values()):
        return "dead"
    return "loading" if models.loading is not None and not models.loaded else "ok"


def _model(model: Loaded) -> dict[str, Any]:
    info = model.engine.info
    return {
        "id": model.offer.id,
        "state": "loaded" if model.alive else "dead",
        "running": model.users,
        "context": info.sequence_context,
        "sequences": model.places,
        "memory_bytes": memory.rss(model.engine.pid),
    }


async def metrics(request: Request) -> Response:
    """Return all figures in Prometheus' format."""
    context = context_of(request)
    sample = await context.board.sample()
    lines = [*_state(context), *board_lines(sample)]
    return Response(context.metrics.lines(lines), media_type=MEDIA_TYPE)


def _state(context: Context) -> Iterator[str]:
    models = context.models
    yield from family("waiting", "gauge", "Requests in line.", [((), models.waiting)])
    yield from family("running", "gauge", "Answers that are written.", [((), models.running)])
    loaded = [((("model", model.offer.id),), model) for model in models.loaded.values()]
    alive = [(labels, int(model.alive)) for labels, model in loaded]
    yield from family("model_alive", "gauge", "Whether a loaded model's process runs.", alive)
    held = [(labels, memory.rss(model.engine.pid)) for labels, model in loaded]
    yield from family("model_memory_bytes", "gauge", "Its resident memory.", held)
