"""``/v1/rerank``: documents are rated by a query, as Jina's and Cohere's interfaces have it.

An engine that can has ``rerank(query, documents)``, with scores and tokens; none of a worker does.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from pitool.errors import UsageError
from pitool.serve.bodies import read_body
from pitool.serve.context import Context, context_of
from pitool.serve.embeddings import MOST_TEXTS
from pitool.serve.openai.messages import text_of
from pitool.serve.replies import Pieces, Reply
from pitool.serve.shelf import Offer


async def endpoint(request: Request) -> Reply:
    """Rate each document."""
    fields, context = await read_body(request), context_of(request)
    name, query = fields.text("model"), fields.text("query")
    documents = [_text(each, i) for i, each in enumerate(fields.list("documents") or [])]
    most = fields.integer("top_n", 1)
    with_texts = fields.flag("return_documents") or False
    fields.done()
    if not query or not documents:
        raise UsageError("a query and documents are needed", "send 'query' and 'documents'")
    if len(documents) > MOST_TEXTS:
        raise UsageError(f"there are {len(documents)} documents", f"send at most {MOST_TEXTS}")
    offer = await context.find(name)
    return Reply(_rated(context, offer, query, documents, most, with_texts=with_texts), None)


def _text(value: object, i: int) -> str:
    """Return a document: a text, or an object that holds one."""
    given = value.get("text") if isinstance(value, dict) else value
    return text_of(given, f"document {i}")


async def _rated(
    context: Context,
    offer: Offer,
    query: str,
    documents: list[str],
    most: int | None,
    *,
    with_texts: bool,
) -> Pieces:
    async with context.models.turn(offer) as turn:
        if turn.info.task != "rerank":
            raise UsageError(f"{offer.id} cannot rank documents", "use a model for reranking")
        scores, tokens = await turn.call(lambda engine: _rate(engine, query, documents))
    order = sorted(range(len(documents)), key=lambda i: -scores[i])[:most]
    results: list[dict[str, Any]] = []
    for i in order:
        found: dict[str, Any] = {"index": i, "relevance_score": scores[i]}
        if with_texts:
            found["document"] = {"text": documents[i]}
        results.append(found)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    yield {"object": "list", "model": offer.id, "results": results, "usage": usage}


def _rate(engine: Any, query: str, documents: list[str]) -> tuple[list[float], int]:
    """Return the score of each document, and the tokens of all."""
    rate = getattr(engine, "rerank", None)
    if rate is None:
        raise UsageError("this runtime cannot rank documents", "use another model")
    found = rate(query, documents)
    return [float(score) for score in found.scores], sum(found.tokens)
