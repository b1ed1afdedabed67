"""Draw the page of ``pitool serve`` into docs/pictures/, in a headless Chromium.

The engine is the scripted one. It needs ``pip install 'pitool[browser]'`` and Debian's chromium.

    python -m scripts.page_pictures
"""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Route, sync_playwright

from pitool.engine.scripted import Scripted
from tests.serve.harness import serving
from tests.serve.page.browser import CHROMIUM, DESKTOP, PHONE, Visit, visiting

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
MODEL = "qwen3-1.7b"
EARLIER = ("A haiku about raspberries", "Which SD card lasts longest?")
QUESTION = "Which Raspberry Pi should I buy for a model of this size?"
ANSWER = """The **Raspberry Pi 5 with 8 GB**: its memory is the fastest of the family, and memory \
is what decides how quickly a model writes.

| board | memory | measured | a 1.7B model |
|---|---|---:|---:|
| Zero 2 W | 512 MB | 2.2 GB/s | does not fit |
| Pi 4 | 4 GB | 3.7 GB/s | 3 tokens/s |
| Pi 5 | 8 GB | 14.9 GB/s | 12 tokens/s |

Give it a power supply with 5 A and a fan, and look now and then whether it is throttled:

```bash
pitool doctor
```
"""
BOARD = {"status": "ok", "board": {"temperature_c": 58.4, "throttled": []}}
# Names of the pictures: the window, the theme, and pixels for each of the page's.
PICTURES = {"page": (DESKTOP, "light", 1), "page-phone": (PHONE, "dark", 1.5)}


def _health(route: Route) -> None:
    route.fulfill(body=json.dumps(BOARD))


def _talk(visit: Visit) -> None:
    """Have three conversations, the last one of them shown from its start."""
    for question in (*EARLIER, QUESTION):
        visit.page.keyboard.press("Alt+n")
        visit.ask(question)
        visit.page.locator(".bubble").get_by_text(question).wait_for()
        visit.finish()
    visit.page.locator("#scroller").evaluate("(e) => { e.scrollTop = 0; }")
    visit.page.locator("#board").get_by_text("58 °C").wait_for()


def main() -> None:
    """Write the pictures."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, (size, theme, scale) in PICTURES.items():
            engine = Scripted(["Yes.", "That one.", ANSWER], prefill_rate=90, decode_rate=11.8)
            with (
                serving(engine, names=(MODEL,)) as server,
                visiting(
                    browser, server.port, size, color_scheme=theme, device_scale_factor=scale
                ) as visit,
            ):
                visit.page.route("**/health", _health)
                visit.reload()
                _talk(visit)
                visit.page.wait_for_timeout(500)
                visit.page.screenshot(path=FOLDER / f"{name}.png", animations="disabled")
        browser.close()


if __name__ == "__main__":
    main()
