"""A headless Chromium at the page of a server, driven as a person would."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pitool.engine.scripted import Scripted
from pitool.errors import WorkerDied

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, Route

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
CHAT = "**/v1/chat/completions"
# What the scripts have put there when they listen.
READY = "#theme svg"
DESKTOP, PHONE = (1280, 800), (390, 844)
# Milliseconds after which what should be on the screen is missing.
PATIENCE = 20_000


MARKDOWN = """# Title

A *b* ~~c~~ `d` with two
lines, H<sub>2</sub>O and a <tag> & 1 < 2.

- [x] done
- [ ] open
  1. nested

| a | b |
|---|--:|
| 1 | 2 |

> quoted

```python
print("x")
```
"""


class Dying(Scripted):
    """Dies after some words."""

    def stream(self, prompt: Any, sampling: Any) -> Iterator[Any]:
        for number, token in enumerate(super().stream(prompt, sampling)):
            if number == 3:
                raise WorkerDied("the worker was killed for lack of memory", "choose a smaller one")
            yield token


class Visit:
    """One visitor of a page.

    ``errors``: what the browser complains about; ``hosts``: what was asked for anything; ``sent``:
    the bodies of its questions.
    """

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.context, self.address = context, address
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        self.sent: list[Any] = []
        context.on("request", self._requested)
        context.set_default_timeout(PATIENCE)
        self.page = self.open()

    def _requested(self, request: Request) -> None:
        if request.url.endswith(CHAT.removeprefix("**")):
            self.sent.append(request.post_data_json)
        self.hosts.add(request.url.split("/")[2] if "://" in request.url else request.url[:5])

    def open(self, path: str = "/") -> Page:
        """Open the page in a tab of its own, and wait until it is ready."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.goto(self.address + path)
        page.locator(READY).wait_for()
        return page

    def reload(self) -> None:
        """Load the page again, and wait until it is ready."""
        self.page.reload()
        self.page.locator(READY).wait_for()

    def ask(self, question: str) -> None:
        """Type a question and send it."""
        self.page.locator("#model:enabled").wait_for()
        self.page.locator("#prompt").fill(question)
        self.page.locator("#prompt").press("Enter")

    def answer(self, number: int = -1) -> Locator:
        """Return an answer of the conversation that is shown."""
        answers = self.page.locator("article.answer")
        return answers.nth(number) if number >= 0 else answers.last

    def conversations(self) -> list[list[tuple[str, str]]]:
        """Return role and text of each message of each question that was sent."""
        return [[(m["role"], m["content"]) for m in body["messages"]] for body in self.sent]

    def finish(self) -> str:
        """Wait until no answer runs, and return the text of the last one."""
        self.page.locator("article.answer:not(.running)").last.wait_for()
        self.page.locator("article.running").wait_for(state="detached")
        text: str = self.answer().locator(".prose").inner_text()
        return text

    def wait_until(self, condition: str, argument: object = None) -> None:
        """Wait until an expression of JavaScript, or a function of ``argument``, is true.

        Asked from here again and again: Playwright's own ``wait_for_function`` asks in the page
        from the second time on, where the policy of its content forbids it.
        """
        end = time.monotonic() + PATIENCE / 1000
        while not self.page.evaluate(condition, argument):
            assert time.monotonic() < end, condition
            self.page.wait_for_timeout(50)

    def button(self, name: str) -> Locator:
        """Return the button of that name."""
        return self.page.get_by_role("button", name=name, exact=True)

    def listed(self) -> list[str]:
        """Return the titles in the list of conversations."""
        titles: list[str] = self.page.locator("#conversations .name").all_inner_texts()
        return titles

    def reply(self, *documents: object, end: str = "data: [DONE]\n\n", status: int = 200) -> None:
        """Have the next requests answered by these events, and not by the server."""
        body = "".join(f"data: {json.dumps(document)}\n\n" for document in documents) + end
        kind = "text/event-stream"

        def fulfil(route: Route) -> None:
            route.fulfill(status=status, body=body, headers={"Content-Type": kind})

        self.page.unroute(CHAT)
        self.page.route(CHAT, fulfil)


def delta(**said: str) -> dict[str, Any]:
    """Return an event with a piece of an answer."""
    return {"choices": [{"index": 0, "delta": said, "finish_reason": None}]}


def finished(reason: str = "stop") -> dict[str, Any]:
    """Return the event at the end of an answer."""
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


@contextmanager
def visiting(
    browser: Browser, port: int, size: tuple[int, int] = DESKTOP, **more: Any
) -> Iterator[Visit]:
    """Open the page; hold that the browser had nothing to complain about in the end."""
    phone = size == PHONE
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, has_touch=phone, is_mobile=phone, **more
    )
    try:
        visit = Visit(context, f"http://127.0.0.1:{port}")
        yield visit
        failed = re.compile(r"Failed to load resource")  # of a status that the test is about
        assert [error for error in visit.errors if not failed.search(error)] == []
        assert visit.hosts <= {f"127.0.0.1:{port}", "blob:"}
    finally:
        context.close()
