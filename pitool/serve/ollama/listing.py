"""``/api/tags``, ``show``, ``ps`` and ``version``: which models there are, and what they are."""

from __future__ import annotations

import datetime
from typing import Any

from starlette.requests import Request

from pitool import __version__
from pitool.catalog import gguf, reading
from pitool.catalog.bundles import Runnable
from pitool.catalog.files import path_kind
from pitool.chat_format import format_of
from pitool.device import memory
from pitool.errors import PitoolError
from pitool.planning.formats import find_format
from pitool.serve.bodies import read_body
from pitool.serve.context import context_of
from pitool.serve.ollama import documents
from pitool.serve.pump import in_thread
from pitool.serve.replies import JSONResponse
from pitool.serve.shelf import Offer
from pitool.serve.times import LONGEST
from pitool.serve.turns import Loaded

# The version of Ollama whose interface this is: clients ask for what is new in one.
OLLAMA = "0.12.0"
# Longest string of a file's metadata that is told.
LONGEST_TEXT = 1 << 16


async def version(_request: Request) -> JSONResponse:
    """Return the version of the interface, and of pitool."""
    return JSONResponse({"version": OLLAMA, "pitool": __version__})


async def tags(request: Request) -> JSONResponse:
    """Return all models."""
    offers = await in_thread(context_of(request).shelf.offers)
    return JSONResponse({"models": [documents.listed(offer) for offer in offers]})


async def running(request: Request) -> JSONResponse:
    """Return the models that are loaded."""
    loaded = context_of(request).models.loaded.values()
    return JSONResponse({"models": [_loaded(model) for model in loaded]})


def _loaded(model: Loaded) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    # For ever is in so many years, as Ollama writes it.
    seconds = min(model.expires, LONGEST)
    return {
        **documents.listed(model.offer),
        "size": memory.rss(model.engine.pid) or model.offer.bytes,
        "size_vram": 0,
        "context_length": model.engine.info.sequence_context,
        "expires_at": (now + datetime.timedelta(seconds=seconds)).isoformat(),
    }


async def show(request: Request) -> JSONResponse:
    """Return what is known of a model, from its files."""
    fields = await read_body(request)
    name = fields.text("model") or fields.text("name")
    fields.ignore("verbose", "system", "template", "options")
    fields.done()
    offer = await context_of(request).find(name)
    return JSONResponse(await in_thread(lambda: _shown(offer)))


def _shown(offer: Offer) -> dict[str, Any]:
    runnable = offer.open()
    known = _metadata(runnable)
    template = _template(runnable, known)
    manifest = offer.bundle.manifest if offer.bundle else None
    return {
        "modelfile": f"FROM {offer.tag}\n",
        "parameters": f"num_ctx {runnable.context}",
        "template": template,
        "license": (manifest.licence if manifest else None) or "",
        "modified_at": documents.listed(offer)["modified_at"],
        "details": documents.details(offer),
        "model_info": known,
        "capabilities": capabilities(template),
    }


def capabilities(template: str) -> list[str]:
    """Return what a model can do, by its chat template."""
    calls, _, thinking = format_of(template).partition("/")
    found = ["completion"]
    if calls:
        found.append("tools")
    return found + ["thinking"] * bool(thinking)


def _metadata(runnable: Runnable) -> dict[str, Any]:
    """Return the short metadata of a GGUF; the least of an ONNX folder."""
    if not find_format(runnable.format).planned_by_header:
        artifact = runnable.artifact
        name = artifact.architecture if artifact else "unknown"
        return {"general.architecture": name, f"{name}.context_length": runnable.context}
    found = gguf.read_header(runnable.entry).metadata
    return {key: value for key, value in found.items() if _is_short(value)}


def _is_short(value: object) -> bool:
    return len(value) < LONGEST_TEXT if isinstance(value, str) else isinstance(value, int | float)


def _template(runnable: Runnable, known: dict[str, Any]) -> str:
    """Return the chat template: of a GGUF's metadata, or of the tokenizer's folder."""
    if isinstance(said := known.get("tokenizer.chat_template"), str):
        return said
    folder = runnable.entry if path_kind(runnable.entry) == "folder" else runnable.entry.parent
    try:
        if path_kind(folder / "chat_template.jinja"):
            return reading.read_text(folder / "chat_template.jinja")
        said = reading.read_object(folder / "tokenizer_config.json").get("chat_template")
    except PitoolError:
        return ""
    return said if isinstance(said, str) else ""
