"""The site of docs/ is built without a warning, and loads nothing from other hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
_LOADED = re.compile(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=\"([^\"]+)\"")


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run MkDocs, which warns of links, anchors and pages that lead nowhere."""
    words = ("-m", "mkdocs", "build", "--strict", "--config-file", str(config), "--site-dir")
    return subprocess.run(
        [sys.executable, *words, str(out)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", out)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


def test_every_page_is_on_it(site: Path) -> None:
    pages = {page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")}
    assert len(pages) >= 25
    home = (site / "index.html").read_text(encoding="utf-8")
    for page in pages:
        assert (site / page).is_file()
        assert f'href="{page}"' in home or str(page) == "index.html"


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = {
        target
        for page in site.rglob("*.html")
        for target in _LOADED.findall(page.read_text(encoding="utf-8"))
    }
    assert any(target.endswith(".css") for target in loaded)
    assert [target for target in loaded if re.match(r"(?:https?:)?//", target)] == []


def test_tables_and_lists_are_read_as_such(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = re.sub(
            r"<(pre|code)\b.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL
        )
        assert not re.search(r"<p>\s*(?:\||- |\d+\. )|\n(?:\||- )", text), page.name


def test_a_broken_link_would_end_it(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A\n[b](gone.md) [c](#nowhere)\n")
    own = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[0]
    (tmp_path / "mkdocs.yml").write_text(own)
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert "gone.md" in done.stderr
    assert "#nowhere" in done.stderr
