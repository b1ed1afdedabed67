"""Exports a conversation as Markdown or JSON. Never writes a file."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

from pitool.store.conversation import Answer, Conversation, ConversationRow, Notice, Question

SCHEMA = "pitool.conversation/1"


def to_markdown(conversation: Conversation) -> str:
    """Return a Markdown document: a heading per turn, then its text as it was written."""
    parts = [f"# {conversation.name or 'Conversation'}"]
    if conversation.system:
        parts += ["## System prompt", conversation.system]
    for row in conversation.rows:
        parts += _markdown(row)
    return "\n\n".join(parts) + "\n"


def _markdown(row: ConversationRow) -> list[str]:
    match row:
        case Question():
            return ["## Question", row.text]
        case Answer():
            return [f"## Answer ({row.model})", row.text] if row.text else []
        case Notice():
            return [f"> {row.what}{row.advice}"]


def to_json(conversation: Conversation) -> str:
    """Return a JSON document with everything except the keys."""
    rows = [
        {"kind": type(row).__name__.lower()}
        | {name: value for name, value in asdict(row).items() if name != "key"}
        for row in conversation.rows
    ]
    document = {
        "schema": SCHEMA,
        "title": conversation.name,
        "system": conversation.system,
        "sampling": asdict(conversation.sampling),
        "rows": rows,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def export(conversation: Conversation, path: Path) -> str:
    """Return the document for a path: JSON for ``.json``, else Markdown."""
    return to_json(conversation) if path.suffix == ".json" else to_markdown(conversation)


def file_name(conversation: Conversation) -> str:
    """Return a file name for a conversation, without characters that a file system may reject."""
    words = re.sub(r"[^\w-]+", "-", conversation.name.lower()).strip("-")
    return f"{words[:40] or 'conversation'}.md"


CODE_BLOCK = re.compile(r"^(`{3,}|~{3,})[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)


def code_blocks(text: str) -> list[str]:
    """Return the contents of the fenced code blocks of a Markdown text."""
    return [match[2] for match in CODE_BLOCK.finditer(text)]
