"""Questions and answers: asked, stopped, continued, given again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pitool.engine.scripted import Scripted
from tests.serve.harness import Slow, serving, until
from tests.serve.page.browser import CHAT, delta, finished, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser


pytestmark = pytest.mark.network


def test_a_first_answer(browser: Browser) -> None:
    with (
        serving(Scripted(["It has **four** cores."])) as server,
        visiting(browser, server.port) as visit,
    ):
        visit.page.get_by_text("Ask tiny").wait_for()
        visit.ask("How many cores has a Raspberry Pi 5, and\nhow fast are they?")
        assert visit.finish() == "It has four cores."
        assert visit.answer().locator("strong").inner_text() == "four"
        assert "10 tokens/s" in visit.answer().locator(".figures").inner_text()
        assert "first token after" in visit.answer().locator(".figures").inner_text()
        assert visit.listed() == ["How many cores has a Raspberry Pi 5, and"]
        assert visit.page.title() == "How many cores has a Raspberry Pi 5, and · pitool"
        assert not visit.page.get_by_text("Ask tiny").is_visible()
        # The next one goes on from here.
        assert visit.page.evaluate("document.activeElement.id") == "prompt"


def test_a_conversation_is_sent_in_turns(browser: Browser) -> None:
    with serving(Scripted(["One.", "Two."])) as server, visiting(browser, server.port) as visit:
        visit.ask("first")
        visit.finish()
        visit.ask("second")
        visit.answer().get_by_text("Two.").wait_for()
        visit.finish()
    assert visit.conversations() == [
        [("user", "first")],
        [("user", "first"), ("assistant", "One."), ("user", "second")],
    ]


def test_stop_keeps_what_there_is(browser: Browser) -> None:
    engine = Slow(2000)
    with serving(engine) as server, visiting(browser, server.port) as visit:
        visit.ask("Talk")
        visit.answer().get_by_text("word word").wait_for()
        visit.page.keyboard.press("Escape")
        text = visit.finish()
        assert 2 <= len(text.split()) < 1000
        assert visit.answer().get_by_text("Stopped.").is_visible()
        until(lambda: server.models.running == 0)
        assert engine.given < 1000


def test_a_stopped_answer_is_continued(browser: Browser) -> None:
    with (
        serving(
            Scripted(["word " * 2000, " and more"], decode_rate=50.0, real_time=True)
        ) as server,
        visiting(browser, server.port) as visit,
    ):
        visit.ask("Talk")
        visit.answer().get_by_text("word word").wait_for()
        visit.button("Stop the answer").click()
        text = visit.finish()
        until(lambda: server.models.running == 0)
        visit.button("Continue").click()
        visit.answer().get_by_text("and more").wait_for()
        assert visit.finish().startswith(text)
        role, beginning = visit.conversations()[1][-1]
        assert role == "assistant"
        assert beginning.startswith(text)


def test_answer_again_replaces_the_answer(browser: Browser) -> None:
    with (
        serving(Scripted(["First.", "Second."])) as server,
        visiting(browser, server.port) as visit,
    ):
        visit.ask("Which?")
        assert visit.finish() == "First."
        visit.button("Answer again").click()
        visit.answer().get_by_text("Second.").wait_for()
        assert visit.page.locator("article").count() == 2
        assert visit.conversations()[1] == [("user", "Which?")]


def test_an_answer_that_cannot_be_given_again_comes_back(browser: Browser) -> None:
    with serving(Scripted(["First."])) as server, visiting(browser, server.port) as visit:
        visit.ask("Which?")
        visit.finish()
        visit.reply(status=500)
        visit.button("Answer again").click()
        visit.page.get_by_text("failed to answer").wait_for()
        assert visit.finish() == "First."


@pytest.mark.parametrize("leave", ["Escape", "reload"])
def test_an_answer_that_never_began_leaves_the_old_one(browser: Browser, leave: str) -> None:
    with serving(Scripted(["First."])) as server, visiting(browser, server.port) as visit:
        visit.ask("Which?")
        visit.finish()
        visit.page.route(CHAT, lambda route: None)  # no answer comes
        visit.button("Answer again").click()
        visit.answer().get_by_text("Waiting for the model").wait_for()
        if leave == "reload":
            visit.reload()
        else:
            visit.page.keyboard.press(leave)
        visit.answer().get_by_text("First.").wait_for()
        assert visit.finish() == "First."
        assert visit.page.locator("article").count() == 2


def test_the_last_question_is_edited(browser: Browser) -> None:
    with (
        serving(Scripted(["One.", "Two.", "Three."])) as server,
        visiting(browser, server.port) as visit,
    ):
        visit.ask("first")
        visit.finish()
        visit.ask("secnd")
        visit.answer().get_by_text("Two.").wait_for()
        visit.finish()
        prompt = visit.page.locator("#prompt")
        prompt.press("ArrowUp")
        assert prompt.input_value() == "secnd"
        prompt.press("Escape")
        assert prompt.input_value() == ""
        visit.button("Edit").click()
        prompt.fill("second")
        prompt.press("Enter")
        visit.answer().get_by_text("Three.").wait_for()
        assert visit.page.locator(".bubble").all_inner_texts() == ["first", "second"]
    assert visit.conversations()[2] == [
        ("user", "first"),
        ("assistant", "One."),
        ("user", "second"),
    ]


def test_thoughts_are_folded(browser: Browser) -> None:
    with serving(Scripted()) as server, visiting(browser, server.port) as visit:
        visit.page.locator("#model:enabled").wait_for()
        visit.reply(
            delta(reasoning_content="First "), delta(reasoning_content="this."),
            delta(content="That."), finished(),
        )  # fmt: skip
        visit.ask("Why?")
        assert visit.finish() == "That."
        assert not visit.page.get_by_text("First this.").is_visible()
        visit.page.get_by_text("Thought for").click()
        assert visit.page.get_by_text("First this.").is_visible()


def test_settings_are_sent(browser: Browser) -> None:
    with serving(Scripted()) as server, visiting(browser, server.port) as visit:
        visit.button("Settings").click()
        visit.page.get_by_label("System prompt").fill("Be brief.")
        visit.page.get_by_label("Temperature").fill("0.2")
        visit.page.get_by_label("Longest answer").fill("7")
        visit.button("Save").click()
        visit.ask("Hello")
        visit.finish()
    (body,) = visit.sent
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"},
    ]  # fmt: skip
    assert (body["temperature"], body["max_tokens"], body["stream"]) == (0.2, 7, True)
