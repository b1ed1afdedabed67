"""The HTTP application: which paths there are, and what stands before them."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pitool.errors import PitoolError
from pitool.serve import health, openapi, page
from pitool.serve.context import Context, context_of
from pitool.serve.failures import Failure, failure_of
from pitool.serve.guard import Bodies, Keys, Origins
from pitool.serve.ollama import answering, downloads, embedding
from pitool.serve.ollama import listing as tags
from pitool.serve.openai import chat, completions, embeddings, listing, rerank, responses
from pitool.serve.replies import refusal

Endpoint = Callable[[Request], object]

# Path, method, and what answers; ``/openapi.json`` describes each.
ENDPOINTS: tuple[tuple[str, str, Endpoint], ...] = (
    ("/v1/chat/completions", "POST", chat.endpoint),
    ("/v1/completions", "POST", completions.endpoint),
    ("/v1/responses", "POST", responses.endpoint),
    ("/v1/embeddings", "POST", embeddings.endpoint),
    ("/v1/rerank", "POST", rerank.endpoint),
    ("/v1/models", "GET", listing.models),
    ("/v1/models/{name:path}", "GET", listing.model),
    ("/api/chat", "POST", answering.chat),
    ("/api/generate", "POST", answering.generate),
    ("/api/embed", "POST", embedding.many),
    ("/api/embeddings", "POST", embedding.one),
    ("/api/tags", "GET", tags.tags),
    ("/api/show", "POST", tags.show),
    ("/api/ps", "GET", tags.running),
    ("/api/version", "GET", tags.version),
    ("/api/pull", "POST", downloads.endpoint),
    ("/health", "GET", health.health),
    ("/metrics", "GET", health.metrics),
    ("/openapi.json", "GET", openapi.endpoint),
)


def application(context: Context) -> Starlette:
    """Return the application."""
    routes: list[BaseRoute] = [
        Route(path, endpoint, methods=[method]) for path, method, endpoint in ENDPOINTS
    ]
    routes += [Route("/", _index), Mount("/assets", _Assets(directory=page.ASSETS))]
    before = [
        Middleware(_Counted, context=context),
        Middleware(Origins, key=context.key is not None, allowed=context.origins),
    ]
    if context.origins:
        before.append(
            Middleware(
                CORSMiddleware,
                allow_origins=context.origins,
                allow_methods=["GET", "HEAD", "POST"],
                allow_headers=["*"],
            )
        )
    before += [Middleware(Keys, key=context.key), Middleware(Bodies)]
    app = Starlette(
        routes=routes,
        middleware=before,
        exception_handlers={
            PitoolError: _pitool_error,
            HTTPException: _http_error,
            ClientDisconnect: _left,
            Exception: _unforeseen,
        },
    )
    app.router.redirect_slashes = False
    app.state.context = context
    app.state.document = openapi.document((path, method) for path, method, _ in ENDPOINTS)
    return app


async def _index(_request: Request) -> Response:
    return FileResponse(page.INDEX, headers=page.HEADERS)


class _Assets(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(page.HEADERS)
        return response


async def _pitool_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PitoolError)
    return refusal(failure_of(error), request.scope["path"])


async def _http_error(request: Request, error: Exception) -> Response:
    """Answer what the router refuses."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    what = error.detail
    if error.status_code == 404:
        known = ", ".join(path for path, _, _ in ENDPOINTS)
        what = f"unknown endpoint {request.method} {path}; use one of {known}"
    elif error.status_code == 405:
        what = f"{path} does not know the method {request.method}"
    response = refusal(Failure(error.status_code, what), path)
    response.headers.update(error.headers or {})
    return response


async def _left(_request: Request, _error: Exception) -> Response:
    """Answer nobody: the client left before its request was read."""
    return Response(status_code=400)


async def _unforeseen(request: Request, error: Exception) -> Response:
    """Answer an error that nobody foresaw; the server logs it."""
    what = f"internal error ({type(error).__name__})"
    context_of(request).log(what)
    return refusal(Failure(500, what, "server_error"), request.scope["path"])


class _Counted:
    """Counts requests by their endpoint and status."""

    def __init__(self, app: ASGIApp, *, context: Context) -> None:
        self._app, self._context = app, context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = {path for path, _, _ in ENDPOINTS} | {"/"}
        path = scope["path"] if scope["path"] in known else "other"

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._context.metrics.requested(path, message["status"])
            await send(message)

        await self._app(scope, receive, counting)
