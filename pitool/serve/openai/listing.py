"""``/v1/models``: which models there are."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from pitool.serve.context import context_of
from pitool.serve.failures import NoSuchModel
from pitool.serve.pump import in_thread
from pitool.serve.replies import JSONResponse
from pitool.serve.shelf import Offer


def _document(offer: Offer) -> dict[str, Any]:
    return {
        "id": offer.id, "object": "model", "created": offer.created, "owned_by": "pitool",
    }  # fmt: skip


async def models(request: Request) -> JSONResponse:
    """Return all of them."""
    offers = await in_thread(context_of(request).shelf.offers)
    return JSONResponse({"object": "list", "data": [_document(offer) for offer in offers]})


async def model(request: Request) -> JSONResponse:
    """Return the one of a name."""
    name = request.path_params["name"].casefold()
    for offer in await in_thread(context_of(request).shelf.offers):
        if name in map(str.casefold, offer.names):
            return JSONResponse(_document(offer))
    raise NoSuchModel(f"there is no model {request.path_params['name']!r}", "see /v1/models")
