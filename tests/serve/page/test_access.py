"""Phone, keyboard, screen reader, themes, and the state of the board."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pitool.engine.scripted import Scripted
from tests.serve.harness import serving
from tests.serve.page.browser import MARKDOWN, PHONE, Dying, Visit, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route


pytestmark = pytest.mark.network

WIDE = f"""{"long" * 80}

https://example.org/{"path/" * 60}

```
{"code " * 60}
```

| {" | ".join("column" for _ in range(20))} |
|{"---|" * 20}
| {" | ".join("value" for _ in range(20))} |

`{"inline" * 40}`
"""


def test_a_phone_scrolls_in_one_direction_only(browser: Browser) -> None:
    with (
        serving(Scripted([WIDE]), names=("m" * 80,)) as server,
        visiting(browser, server.port, PHONE) as visit,
    ):
        visit.ask("w" * 300)
        visit.finish()
        for selector in ("html", "#scroller", ".prose"):
            wide = visit.page.locator(selector).last.evaluate(
                "(e) => e.scrollWidth - e.clientWidth"
            )
            assert wide <= 0, selector
        box = visit.page.locator("#send").bounding_box()
        assert box and box["x"] + box["width"] <= PHONE[0]
        assert box["y"] + box["height"] <= PHONE[1]


def test_the_drawer_of_a_phone(browser: Browser) -> None:
    with serving(Scripted()) as server, visiting(browser, server.port, PHONE) as visit:
        visit.ask("Hello")
        visit.finish()
        link = visit.page.get_by_role("link", name="Hello")
        assert not link.is_visible()
        visit.button("Conversations").tap()
        link.wait_for()
        visit.page.keyboard.press("Escape")
        link.wait_for(state="hidden")
        visit.button("Conversations").tap()
        visit.button("New conversation").tap()
        link.wait_for(state="hidden")
        assert visit.page.locator("article").count() == 0


def test_the_keyboard_alone(browser: Browser) -> None:
    with (
        serving(Scripted(["One.", "Two."]), names=("a", "b")) as server,
        visiting(browser, server.port) as visit,
    ):
        keys = visit.page.keyboard
        focus = "document.activeElement.id || document.activeElement.getAttribute('aria-label')"
        visit.page.locator("#model:enabled").wait_for()
        keys.type("first")
        keys.press("Shift+Enter")
        keys.type("line")
        assert visit.page.locator("#prompt").input_value() == "first\nline"
        keys.press("Enter")
        visit.finish()
        keys.press("Alt+r")
        visit.answer().get_by_text("Two.").wait_for()
        visit.finish()
        keys.press("Alt+m")
        assert visit.page.evaluate(focus) == "model"
        keys.press("b")
        assert visit.page.locator("#model").input_value() == "b"
        keys.press("Control+/")
        visit.page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
        keys.press("Escape")
        keys.press("Alt+n")
        assert visit.page.locator("article").count() == 0
        assert visit.page.evaluate(focus) == "prompt"
        keys.press("Alt+l")
        keys.press("Enter")
        assert visit.page.locator("article").count() == 2
        keys.press("Alt+l")
        keys.press("Tab")
        assert visit.page.evaluate(focus) == "Actions for first"
        keys.press("Enter")
        keys.press("Tab")
        keys.press("Tab")
        keys.press("Tab")
        keys.press("Enter")
        visit.page.get_by_text("Deleted “first”.").wait_for()
        assert visit.listed() == []


def test_every_control_has_a_visible_focus(browser: Browser) -> None:
    with serving(Scripted()) as server, visiting(browser, server.port) as visit:
        visit.ask("Hello")
        visit.finish()
        seen = set()
        for _ in range(30):
            visit.page.keyboard.press("Tab")
            if visit.page.evaluate("document.activeElement === document.body"):
                continue  # the browser's own controls
            here = visit.page.evaluate(
                """() => {
                    const e = document.activeElement, s = getComputedStyle(e);
                    return [e.id || e.textContent, s.outlineStyle !== "none" || e.id === "prompt"];
                }"""
            )
            assert here[1], here
            seen.add(here[0])
        assert {"new", "theme", "prompt", "open-settings", "scroller"} <= seen


def test_a_screen_reader_hears_paragraphs_and_not_tokens(browser: Browser) -> None:
    answer = "First paragraph of many words.\n\nSecond one.\n\nThird one."
    with (
        serving(Scripted([answer], decode_rate=40.0, real_time=True)) as server,
        visiting(browser, server.port) as visit,
    ):
        visit.page.evaluate(
            """() => {
                window.heard = [];
                new MutationObserver((all) => all.forEach((m) =>
                    m.addedNodes.forEach((n) => heard.push(n.textContent))))
                    .observe(document.getElementById("live"), { childList: true });
            }"""
        )
        visit.ask("Talk")
        visit.finish()
        assert visit.page.evaluate("heard") == [
            "First paragraph of many words.", "Second one.", "Third one.", "End of the answer.",
        ]  # fmt: skip
        live = visit.page.locator("[aria-live], [role=log], [role=status], [role=alert]")
        names = live.evaluate_all("(all) => all.map((e) => e.id)")
        assert sorted(names) == ["banner", "live", "toasts"]
        for role in ("navigation", "main", "banner", "contentinfo"):
            assert visit.page.get_by_role(role).count() == 1, role


def test_light_and_dark(browser: Browser) -> None:
    ground = "getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g)"

    def wait_for_brightness(visit: Visit, comparison: str) -> None:
        # A dialog tells of its end in a task of its own, after the click.
        sum_of = f"{ground}.slice(0, 3).reduce((sum, part) => sum + Number(part), 0)"
        visit.wait_until(f"{sum_of} {comparison}")

    with (
        serving(Scripted()) as server,
        visiting(browser, server.port, color_scheme="dark") as visit,
    ):
        visit.page.locator("#model:enabled").wait_for()
        wait_for_brightness(visit, "< 382")
        visit.button("Light theme").click()
        wait_for_brightness(visit, "> 382")
        visit.reload()
        wait_for_brightness(visit, "> 382")
        visit.button("Settings").click()
        visit.page.get_by_label("As the system").check()
        visit.button("Save").click()
        wait_for_brightness(visit, "< 382")
        visit.page.emulate_media(color_scheme="light")
        wait_for_brightness(visit, "> 382")


def _fulfil(body: str, route: Route) -> None:
    route.fulfill(body=body)


def test_the_board_is_shown(browser: Browser) -> None:
    with serving(Scripted()) as server, visiting(browser, server.port) as visit:
        visit.page.locator("#model:enabled").wait_for()
        for board, shown in (
            ({"temperature_c": 61.4, "throttled": []}, "61 °C"),
            ({"temperature_c": 84.9, "throttled": ["under-voltage"]}, "85 °C · under-voltage"),
            ({"temperature_c": None, "throttled": None}, ""),
        ):
            document = json.dumps({"status": "ok", "board": board})
            visit.page.unroute("**/health")
            visit.page.route("**/health", partial(_fulfil, document))
            visit.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            if shown:
                visit.page.locator("#board").get_by_text(shown).wait_for()
            else:
                visit.page.locator("#board").wait_for(state="hidden")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with (
        serving(Dying([MARKDOWN]), Scripted([MARKDOWN])) as server,
        visiting(browser, server.port, color_scheme=theme, bypass_csp=True) as visit,
    ):
        visit.page.locator("#model:enabled").wait_for()
        found = {"empty": axe.run(visit.page)}
        visit.ask("Show")
        visit.finish()
        found["failed"] = axe.run(visit.page)
        visit.button("Try again").click()
        visit.answer().locator("table").wait_for()
        visit.finish()
        found["answer"] = axe.run(visit.page)
        for name in ("Settings", "Keyboard shortcuts"):
            visit.button(name).click()
            found[name] = axe.run(visit.page)
            visit.page.keyboard.press("Escape")
    for where, results in found.items():
        violations = results.response["violations"]
        assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in violations] == [], where
