"""``/api/embed`` and the older ``/api/embeddings``: vectors of texts."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from pitool.errors import UsageError
from pitool.serve.bodies import Fields, read_body
from pitool.serve.context import Context, context_of
from pitool.serve.embeddings import MOST_TEXTS, check_dimensions, embed
from pitool.serve.ollama import documents, options
from pitool.serve.replies import Pieces, Reply
from pitool.serve.shelf import Offer
from pitool.serve.times import parse_time


async def many(request: Request) -> Reply:
    """Return a vector for each text."""
    fields, context = await read_body(request), context_of(request)
    given = fields.take("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError("'input' is neither a text nor a list of texts", "send a text")
    if len(texts) > MOST_TEXTS:
        raise UsageError(f"there are {len(texts)} texts", f"send at most {MOST_TEXTS}")
    dimensions = fields.integer("dimensions", 1)
    name, keep = _common(fields)
    offer = await context.find(name)
    return Reply(_many(context, offer, texts, dimensions, keep), None)


async def one(request: Request) -> Reply:
    """Return the vector of one text."""
    fields, context = await read_body(request), context_of(request)
    text = fields.text("prompt") or ""
    name, keep = _common(fields)
    offer = await context.find(name)
    return Reply(_one(context, offer, text, keep), None)


def _common(fields: Fields) -> tuple[str | None, float | None]:
    name = fields.text("model") or fields.text("name")
    keep = fields.take("keep_alive")
    options.sampling(fields.fields("options"))
    fields.ignore("truncate")
    fields.done()
    return name, None if keep is None else parse_time(keep)


async def _many(
    context: Context, offer: Offer, texts: list[str], dimensions: int | None, keep: float | None
) -> Pieces:
    made: dict[str, Any] = {"model": offer.tag, "embeddings": []}
    async with context.models.turn(offer, keep) as turn:
        check_dimensions(turn.info, dimensions)
        if texts:
            found = await embed(turn, texts)
            made["embeddings"] = found.vectors.tolist()
            made["prompt_eval_count"] = sum(found.tokens)
        made["load_duration"] = documents.nanoseconds(turn.waited)
    yield made


async def _one(context: Context, offer: Offer, text: str, keep: float | None) -> Pieces:
    async with context.models.turn(offer, keep) as turn:
        vectors = (await embed(turn, [text])).vectors.tolist() if text else [[]]
    yield {"embedding": vectors[0]}
