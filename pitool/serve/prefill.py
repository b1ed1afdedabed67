"""``--prefill FILE``: what every conversation begins with is read when a model is loaded.

The file holds a system prompt as text, or a JSON object with ``messages`` and ``tools`` as a
request has them. A model that has read it once finds it on the disk when it is loaded again.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pitool.catalog import reading
from pitool.engine.base import ChatPrompt, Engine, Message, Sampling
from pitool.engine.prefills.bundled import shared_beginning
from pitool.errors import BadInput, PitoolError, UsageError
from pitool.serve.bodies import Fields
from pitool.serve.openai.messages import messages, tools

log = logging.getLogger(__name__)


def read_prefill(path: Path) -> ChatPrompt:
    """Return the beginning of a conversation; BadInput where the file holds none."""
    text = reading.read_text(path)
    if not text.lstrip().startswith("{"):
        return ChatPrompt((Message("system", text.strip()),))
    try:
        fields = Fields(reading.parse_json(text), str(path))
        made = ChatPrompt(messages(fields), tools(fields))
        fields.done()
    except ValueError:
        raise BadInput(
            f"{path} is not JSON", "correct it, or write the system prompt as text"
        ) from None
    except UsageError as error:
        raise BadInput(f"{path}: {error.what}", error.do) from None
    return made


def prefill(engine: Engine, beginning: ChatPrompt) -> int:
    """Have an engine read what conversations begin with; return its tokens. Blocks.

    A model that cannot, as one without a chat template, does without: it is a matter of speed.
    """
    try:
        ids = shared_beginning(engine, beginning)
        for _ in engine.stream(ids, Sampling(max_tokens=0)):
            pass
    except PitoolError as error:
        log.warning("the prefill was not read: %s", error.sentence)
        return 0
    return len(ids)
