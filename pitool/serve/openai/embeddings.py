"""``/v1/embeddings``: vectors of texts or of token ids."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from pitool.engine.base import Embeddings
from pitool.errors import UsageError
from pitool.serve.bodies import read_body
from pitool.serve.context import Context, context_of
from pitool.serve.embeddings import MOST_TEXTS, check_dimensions, embed
from pitool.serve.openai.completions import Text, texts_of
from pitool.serve.replies import Pieces, Reply
from pitool.serve.shelf import Offer

FORMS = ("float", "base64")


async def endpoint(request: Request) -> Reply:
    """Return a vector for each input."""
    fields, context = await read_body(request), context_of(request)
    name, texts = fields.text("model"), _texts(fields.take("input"))
    form = fields.word("encoding_format", FORMS) or "float"
    dimensions = fields.integer("dimensions", 1)
    fields.ignore("user")
    fields.done()
    offer = await context.find(name)
    return Reply(_vectors(context, offer, texts, form, dimensions), None)


def _texts(value: object) -> Sequence[Text]:
    found = texts_of(value)
    if not found:
        raise UsageError("'input' is not a text", "send a text, token ids, or a list of them")
    if len(found) > MOST_TEXTS:
        raise UsageError(f"there are {len(found)} inputs", f"send at most {MOST_TEXTS}")
    return found


async def _vectors(
    context: Context, offer: Offer, texts: Sequence[Text], form: str, dimensions: int | None
) -> Pieces:
    async with context.models.turn(offer) as turn:
        check_dimensions(turn.info, dimensions)
        found = await embed(turn, texts)
    tokens = sum(found.tokens)
    yield {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(_encoded(found, form))
        ],
        "model": offer.id,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _encoded(found: Embeddings, form: str) -> list[Any]:
    """Return the vectors as numbers, or as base64 of little-endian float32."""
    if form == "float":
        return list(found.vectors.tolist())
    return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in found.vectors]
