"""Answers as Markdown, a stranger's too: nothing runs, nothing is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pitool.engine.scripted import Scripted
from tests.serve.harness import serving
from tests.serve.page.browser import MARKDOWN, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser


pytestmark = pytest.mark.network

HOSTILE = r"""<script>window.hit = 1</script> <img src=x onerror="window.hit=2">

A ![picture](http://evil.example/p.png) and <img src=y onerror="window.hit=17"> <kbd><img src=z></kbd>

<svg onload="window.hit=3"><a xlink:href="javascript:window.hit=4">x</a></svg>
<iframe srcdoc="<script>parent.hit=5</script>"></iframe> <form action="http://evil.example"><input autofocus onfocus="window.hit=6"></form>

<style>body { background: url(http://evil.example/s) }</style> <link rel=stylesheet href="http://evil.example/l.css"> <base href="http://evil.example/">
<meta http-equiv="refresh" content="0; url=http://evil.example/">

[a](javascript:window.hit=7) [b](data:text/html,<script>hit</script>) [c](vbscript:x) [d](/v1/models) [e](https://good.example/x "t") <javascript:window.hit=8>
[f](  javascript:window.hit=9) [g](&#106;avascript:window.hit=10) [h][ref] ![i][ref]

[ref]: javascript:window.hit=11

<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=window.hit=12&gt;">

```html" onmouseover="window.hit=13
<img src=x onerror=window.hit=14>
```

<details open ontoggle="window.hit=15"><summary>s</summary></details> <b onclick="window.hit=16">bold</b> <div id="prompt" class="banner" name="cookie">d</div>
"""  # noqa: E501


def test_an_answer_runs_nothing_and_loads_nothing(browser: Browser) -> None:
    with serving(Scripted([HOSTILE])) as server, visiting(browser, server.port) as visit:
        visit.page.on("dialog", lambda dialog: visit.errors.append(dialog.message))
        visit.ask("Attack")
        visit.finish()
        visit.reload()  # a stored answer is a stranger's, too
        visit.finish()
        visit.page.wait_for_timeout(200)
        assert visit.page.evaluate("window.hit") is None
        prose = visit.answer().locator(".prose")
        allowed = {
            "DIV", "P", "BR", "A", "CODE", "PRE", "B", "KBD", "SPAN", "BUTTON", "svg", "use",
        }  # fmt: skip
        tags = prose.evaluate("(e) => [...e.querySelectorAll('*')].map((x) => x.tagName)")
        assert set(tags) <= allowed
        attributes = prose.evaluate(
            "(e) => [...e.querySelectorAll('*')].flatMap((x) => x.getAttributeNames())"
        )
        assert not {name for name in attributes if name.startswith("on")}
        assert not {"style", "src", "srcdoc", "id", "name"} & set(attributes)
        links = prose.evaluate("(e) => [...e.querySelectorAll('a')].map((a) => [a.href, a.rel])")
        assert {address.split("?")[0] for address, _ in links} == {
            "https://good.example/x", "http://evil.example/p.png",
        }  # fmt: skip
        assert all("noopener" in rel and "noreferrer" in rel for _, rel in links)
        # What was meant as HTML is there to be read.
        text = prose.inner_text()
        assert "<script>window.hit = 1</script>" in text
        assert '<img src=x onerror="window.hit=2">' in text


def test_the_page_itself_is_guarded(browser: Browser) -> None:
    with serving(Scripted()) as server, visiting(browser, server.port) as visit:
        inline = """() => {
            const script = document.createElement("script");
            try { script.textContent = "window.hit = 1"; document.head.append(script); }
            catch (error) { return error.name; }
            return window.hit ?? "blocked";
        }"""
        assert visit.page.evaluate(inline) in ("TypeError", "blocked")
        loaded = """() => new Promise((done) => {
            const image = new Image();
            image.onload = () => done("loaded");
            image.onerror = () => done("blocked");
            image.src = "http://evil.example/x.png";
        })"""
        assert visit.page.evaluate(loaded) == "blocked"
        assert len(visit.errors) >= 1
        assert all("Security Policy" in error or "Trusted" in error for error in visit.errors)
        visit.errors.clear()
        visit.hosts.discard("evil.example")


def test_markdown_is_drawn(browser: Browser) -> None:
    with serving(Scripted([MARKDOWN])) as server, visiting(browser, server.port) as visit:
        visit.ask("Show")
        visit.finish()
        prose = visit.answer().locator(".prose")
        assert prose.get_by_role("heading", name="Title", level=3).is_visible()
        assert prose.locator("em, del, sub, blockquote, ol, table, pre").count() == 7
        assert "☑ done" in prose.inner_text()
        assert "☐ open" in prose.inner_text()
        assert "a <tag> & 1 < 2." in prose.inner_text()
        assert prose.locator("p br").count() == 1
        assert prose.locator("td").last.evaluate("(e) => getComputedStyle(e).textAlign") == "right"
        assert prose.locator(".code-head span").inner_text() == "python"


def test_code_is_copied_without_the_clipboards_api(browser: Browser) -> None:
    with serving(Scripted([MARKDOWN])) as server, visiting(browser, server.port) as visit:
        # As over plain HTTP from another machine.
        visit.page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        visit.page.evaluate(
            """document.addEventListener("copy", () => {
                window.copied = document.activeElement.value;
            })"""
        )
        visit.ask("Show")
        visit.finish()
        visit.answer().locator(".code").get_by_role("button", name="Copy").click()
        visit.page.get_by_text("Copied").wait_for()
        assert visit.page.evaluate("window.copied") == 'print("x")\n'
