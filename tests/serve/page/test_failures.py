"""A sentence and a way on for each failure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pitool.engine.scripted import Scripted
from pitool.errors import DoesNotFit
from tests.serve.harness import HELLO, Slow, ask, serving, until
from tests.serve.page.browser import CHAT, Dying, Visit, delta, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser


pytestmark = pytest.mark.network


def test_the_key_is_asked_for(browser: Browser) -> None:
    with serving(Scripted(), key="secret") as server, visiting(browser, server.port) as visit:
        visit.page.get_by_text("This server asks for an API key").first.wait_for()
        visit.page.get_by_label("Key", exact=True).fill("wrong")
        visit.page.keyboard.press("Enter")
        visit.page.get_by_text("does not accept this API key").first.wait_for()
        visit.page.get_by_label("Key", exact=True).fill("secret")
        visit.button("Use this key").click()
        visit.ask("Hello")
        assert visit.finish() == "Hello from the script."
        _wait_until_stored(visit, "secret", None)
        visit.button("Settings").click()
        visit.button("Change the key").click()
        visit.page.get_by_label("Key", exact=True).fill("secret")
        visit.page.get_by_label("Remember it").check()
        visit.button("Use this key").click()
        _wait_until_stored(visit, None, "secret")
        visit.button("Forget the key").click()
        _wait_until_stored(visit, None, None)


def _wait_until_stored(visit: Visit, tab: str | None, browser: str | None) -> None:
    """Wait until the key is kept like this: until the tab is closed, and for good."""
    visit.wait_until(
        "([a, b]) => sessionStorage['pitool.key'] == a && localStorage['pitool.key'] == b",
        [tab, browser],
    )


def test_a_worker_that_dies(browser: Browser) -> None:
    with (
        serving(Dying(["one two three four"]), Scripted(["All of it."])) as server,
        visiting(browser, server.port) as visit,
    ):
        visit.ask("Talk")
        visit.answer().get_by_text("The worker was killed for lack of memory").wait_for()
        assert visit.finish().startswith("one")
        visit.button("Try again").click()
        visit.answer().get_by_text("All of it.").wait_for()


def test_a_busy_server(browser: Browser) -> None:
    with (
        serving(Slow(2000), waiting=0) as server,
        visiting(browser, server.port) as first,
        visiting(browser, server.port) as second,
    ):
        first.ask("Talk")
        first.answer().get_by_text("word").first.wait_for()
        second.ask("Me too")
        second.answer().get_by_text("as many requests as it takes").wait_for()
        assert second.answer().get_by_text("Try again in 5 seconds").is_visible()
        first.button("Stop the answer").click()
        until(lambda: server.models.running == 0)
        second.button("Try again").click()
        second.answer().get_by_text("word").first.wait_for()


def test_a_server_that_is_gone(browser: Browser) -> None:
    with serving(Scripted()) as server, visiting(browser, server.port) as visit:
        visit.page.locator("#model:enabled").wait_for()
        visit.page.route("**/v1/**", lambda route: route.abort("connectionrefused"))
        visit.ask("Hello?")
        visit.answer().get_by_text("The server cannot be reached").wait_for()
        visit.page.unroute("**/v1/**")
        visit.button("Try again").first.click()
        assert visit.finish() == "Hello from the script."


def test_a_page_whose_modules_do_not_come(browser: Browser) -> None:
    with serving(Scripted()) as server, visiting(browser, server.port) as visit:
        visit.page.route("**/assets/messages.js", lambda route: route.fulfill(status=403))
        visit.page.reload()
        visit.page.get_by_text("The page could not be loaded.").wait_for()


def test_a_proxy_that_hides_the_name(browser: Browser) -> None:
    with serving(Scripted()) as server, visiting(browser, server.port) as visit:
        visit.page.locator("#model:enabled").wait_for()
        # What the server says that is told another name than the one of the page.
        _, refused = ask(server, "/v1/chat/completions", HELLO, Origin="http://chat.example")
        visit.page.route(CHAT, lambda route: route.fulfill(status=403, json=refused))
        visit.ask("Hello?")
        visit.answer().get_by_text("has to pass on the Host header").wait_for()


def test_a_connection_that_breaks_off(browser: Browser) -> None:
    with serving(Scripted()) as server, visiting(browser, server.port) as visit:
        visit.page.locator("#model:enabled").wait_for()
        visit.reply(delta(content="Half"), end="")
        visit.ask("Hello?")
        visit.answer().get_by_text("broke off in the middle").wait_for()
        assert visit.finish() == "Half"


class Full(Scripted):
    """Has no room for any conversation."""

    def stream(self, prompt: Any, sampling: Any) -> Iterator[Any]:
        raise DoesNotFit("the prompt has 9000 tokens", "send fewer")


def test_a_context_that_is_full(browser: Browser) -> None:
    with serving(Full()) as server, visiting(browser, server.port) as visit:
        visit.ask("Long")
        visit.answer().get_by_text("longer than the model’s context").wait_for()
        visit.answer().get_by_role("button", name="New conversation").click()
        assert visit.page.locator("article").count() == 0


@pytest.mark.parametrize(
    ("status", "said"),
    [(502, "The proxy gets no answer"), (413, "too long to be sent"), (418, "refused the request")],
)
def test_other_refusals(browser: Browser, status: int, said: str) -> None:
    with serving(Scripted()) as server, visiting(browser, server.port) as visit:
        visit.page.locator("#model:enabled").wait_for()
        visit.reply(end="<html>no", status=status)
        visit.ask("Hello?")
        visit.answer().get_by_text(said).wait_for()
