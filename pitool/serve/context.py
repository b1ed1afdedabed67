"""What the endpoints share: the models, the figures, the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from pitool.engine.base import Timings
from pitool.report.numbers import format_rate
from pitool.serve.board import Board
from pitool.serve.metrics import Metrics
from pitool.serve.models import Models
from pitool.serve.pump import in_thread
from pitool.serve.shelf import Offer, Shelf


@dataclass(frozen=True, slots=True)
class Context:
    """``log`` is given a line for each answer; ``key`` is asked for, where there is one.

    ``origins``: of web pages of other sites that may ask.
    """

    shelf: Shelf
    models: Models
    key: str | None = None
    origins: tuple[str, ...] = ()
    log: Callable[[str], object] = lambda _: None
    metrics: Metrics = field(default_factory=Metrics)
    board: Board = field(default_factory=Board)

    async def find(self, name: str | None) -> Offer:
        """Return the model of a name, the first one for none; it may be looked for on the disk."""
        return await in_thread(lambda: self.shelf.find(name))

    def answered(self, path: str, model: str, timings: Timings) -> None:
        """Count an answer, and log its figures: prompts and answers stay out of logs."""
        self.metrics.answered(model, timings)
        t = timings
        self.log(
            f"{path}: {model}: prompt {t.prompt_tokens} tokens ({t.reused_tokens} reused),"
            f" {format_rate(t.prefill_rate)}, answer {t.decoded_tokens} tokens,"
            f" {format_rate(t.decode_rate)}"
        )


def context_of(request: Request) -> Context:
    """Return what an endpoint shares with the others."""
    context: Context = request.app.state.context
    return context
