"""Every relative link of the documentation leads to a file, and to a heading of it.

Links to other sites are not followed: their hosts are listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
_CODE = re.compile(r"^(```|~~~).*?^\1|^(?: {4}|\t).*?$|`[^`\n]*`", re.MULTILINE | re.DOTALL)

# Other sites that pages lead to, each for what it is the source of.
SITES = {
    "arxiv.org",  # papers
    "doi.org",  # papers
    "pipx.pypa.io",
    "www.raspberrypi.com",  # Raspberry Pi Imager
}


def targets(page: Path) -> list[str]:
    """Return the targets of all links."""
    return _LINK.findall(_CODE.sub("", page.read_text()))


def leads_away(target: str) -> bool:
    """Tell whether it is an address of another site."""
    return re.match(r"[a-z][a-z+.-]*:", target) is not None


def links(page: Path) -> list[str]:
    """Return the targets of links that are no addresses of other sites."""
    return [target for target in targets(page) if not leads_away(target)]


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as GitHub makes them."""
    made: set[str] = set()
    text = re.sub(r"^(```|~~~).*?^\1", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = sum(each == name or re.fullmatch(rf"{re.escape(name)}-\d+", each) is not None
                    for each in made)  # fmt: skip
        made.add(f"{name}-{count}" if count else name)
    return made


def broken(page: Path) -> Iterator[str]:
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or not path.resolve().is_relative_to(ROOT):
            yield f"{target}: there is no such file"
        elif anchor and anchor not in anchors(path):
            yield f"{target}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert list(broken(page)) == []


def test_other_sites_are_known() -> None:
    away = [urlsplit(t) for page in PAGES for t in targets(page) if leads_away(t)]
    assert {link.scheme for link in away} == {"https"}
    assert {link.netloc for link in away} == SITES


def test_there_are_links_to_check() -> None:
    assert len(PAGES) >= 10
    assert sum(len(links(page)) for page in PAGES) >= 20


def test_a_broken_link_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_links.ROOT", tmp_path)
    page = tmp_path / "a.md"
    page.write_text(
        "# One `two` & three\n## Same\n## Same\n[a](#one-two--three) [b](#same-1) [c](a.md#same)\n"
        "[d](gone.md) ![e](../a.svg) [f](#nothing) `[g](code.md)` [h](https://example.org/x)\n"
        "```\n[i](code.md)\n# no heading\n```\n    [j](code.md)\n"
    )
    assert [each.partition(":")[0] for each in broken(page)] == [
        "gone.md", "../a.svg", "#nothing",
    ]  # fmt: skip
