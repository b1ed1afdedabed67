"""Draw docs/tui.svg: the chat with the scripted engine, the same picture every time."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

from pitool.tui import demo
from pitool.tui.status import Phase
from pitool.tui.widgets.prompt import Prompt

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "tui.svg"
SIZE = (96, 28)


async def draw() -> str:
    """Return the screen as SVG after one answer."""
    with tempfile.TemporaryDirectory() as folder:
        app = demo.demo_app(Path(folder))
        async with app.run_test(size=SIZE) as pilot:
            await pilot.pause()
            await pilot.press("enter")
            while app.session.status.phase is not Phase.READY:
                await pilot.pause(0.05)
            app.screen.query_one(Prompt).insert(demo.QUESTION)
            await pilot.press("enter")
            while app.session.status.busy:
                await pilot.pause(0.05)
            await pilot.pause(0.2)
            return app.export_screenshot(title="pitool chat")


def main() -> None:
    """Write the picture, its random ids made constant."""
    svg = re.sub(r"terminal-\d+-", "terminal-", asyncio.run(draw()))
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
