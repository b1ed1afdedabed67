"""What the browser keeps: through a reload, another tab, rename and delete, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pitool.engine.scripted import Scripted
from tests.serve.harness import Slow, serving, until
from tests.serve.page.browser import visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser


pytestmark = pytest.mark.network


def test_a_reload_in_the_middle_loses_nothing(browser: Browser) -> None:
    with serving(Slow(2000)) as server, visiting(browser, server.port) as visit:
        visit.ask("Talk")
        visit.answer().get_by_text("word word word").wait_for()
        before = visit.answer().locator(".prose").inner_text()
        visit.reload()
        after = visit.finish()
        assert after.startswith(before)
        assert visit.page.locator(".bubble").inner_text() == "Talk"
        assert visit.answer().get_by_text("Interrupted").is_visible()
        until(lambda: server.models.running == 0)
        visit.button("Answer again").click()
        visit.answer().get_by_text("word").first.wait_for()


def test_an_answer_goes_on_while_another_conversation_is_shown(browser: Browser) -> None:
    with serving(Slow(60)) as server, visiting(browser, server.port) as visit:
        visit.ask("first")
        visit.answer().get_by_text("word").first.wait_for()
        visit.button("New conversation").click()
        assert visit.page.locator("article").count() == 0
        visit.page.get_by_role("link", name="first").click()
        assert len(visit.finish().split()) == 60


def test_rename_delete_and_undo(browser: Browser) -> None:
    with serving(Scripted()) as server, visiting(browser, server.port) as visit:
        visit.ask("one")
        visit.finish()
        visit.button("Actions for one").click()
        visit.button("Rename").click()
        visit.page.get_by_role("textbox", name="Name").fill("uno")
        visit.page.keyboard.press("Enter")
        visit.page.get_by_role("link", name="uno").wait_for()
        visit.reload()
        visit.page.get_by_role("link", name="uno").wait_for()
        visit.button("Actions for uno").click()
        visit.button("Delete").click()
        visit.page.get_by_text("Your conversations will be listed here").wait_for()
        visit.button("Undo").click()
        visit.page.get_by_role("link", name="uno").wait_for()
        assert visit.listed() == ["uno"]
        visit.reload()
        visit.page.get_by_role("link", name="uno").click()
        assert visit.finish() == "Hello from the script."


def test_export_and_import(browser: Browser, tmp_path: Path) -> None:
    with serving(Scripted(["A **b**."])) as server:
        with visiting(browser, server.port) as visit:
            visit.ask("Größe?")
            visit.finish()
            for name, file in (("Export as Markdown", "a.md"), ("Export as JSON", "a.json")):
                visit.button("Actions for Größe?").click()
                with visit.page.expect_download() as download:
                    visit.button(name).click()
                download.value.save_as(tmp_path / file)
                assert download.value.suggested_filename.startswith("gro")
        assert (
            tmp_path / "a.md"
        ).read_text() == "# Größe?\n\n## You\n\nGröße?\n\n## tiny\n\nA **b**.\n"
        document = json.loads((tmp_path / "a.json").read_text())
        assert document["conversations"][0]["turns"][1]["content"] == "A **b**."
        with visiting(browser, server.port) as visit:
            visit.button("Settings").click()
            (tmp_path / "wrong.json").write_text('{"conversations": 1}')
            visit.page.locator("#import-file").set_input_files(tmp_path / "wrong.json")
            visit.page.get_by_text("holds no conversations").wait_for()
            visit.button("Settings").click()
            visit.page.locator("#import-file").set_input_files(tmp_path / "a.json")
            visit.page.get_by_text("Imported 1 conversation").wait_for()
            visit.page.get_by_role("link", name="Größe?").click()
            assert visit.finish() == "A b."


def test_another_tab_shows_what_this_one_did(browser: Browser) -> None:
    with serving(Scripted()) as server, visiting(browser, server.port) as visit:
        other = visit.open()
        visit.page.bring_to_front()
        visit.ask("from here")
        visit.finish()
        other.get_by_role("link", name="from here").click()
        other.get_by_text("Hello from the script.").wait_for()
