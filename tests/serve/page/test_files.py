"""The page's files: what they name is there, nothing is inline, nothing comes from elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pitool.serve import page

VENDOR = page.ASSETS / "vendor"
OWN = sorted(path for path in page.ASSETS.iterdir() if path.is_file())
SCRIPTS = [path for path in OWN if path.suffix == ".js"]
# Names of XML, which nothing fetches.
NAMES = {"http://www.w3.org/2000/svg"}


class Document(HTMLParser):
    """Collects the attributes of all elements, and what stands inside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("script", "style") and data.strip():
            self.inside.append(data)

    def values(self, *names: str) -> Iterator[str]:
        for _, attributes in self.elements:
            yield from (value for name in names if (value := attributes.get(name)))


@pytest.fixture(scope="module")
def document() -> Document:
    return Document(page.INDEX.read_text(encoding="utf-8"))


def test_files_of_others_are_as_they_published_them() -> None:
    table = tomllib.loads((page.HERE / "vendor.toml").read_text(encoding="utf-8"))
    listed: dict[str, str] = {}
    for project in table.values():
        assert {"version", "licence", "use", "files"} == set(project)
        assert any("LICENSE" in name for name in project["files"])
        listed |= {name: entry["sha256"] for name, entry in project["files"].items()}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    assert found == listed
    assert len(found) >= 4


def test_the_licences_are_of_the_versions() -> None:
    table = tomllib.loads((page.HERE / "vendor.toml").read_text(encoding="utf-8"))
    for project in table.values():
        for name in project["files"]:
            if not name.endswith("LICENSE"):
                head = (VENDOR / name).read_text(encoding="utf-8")[:400]
                assert re.search(rf"\bv?{re.escape(project['version'])}\b", head), name


def test_nothing_is_inline(document: Document) -> None:
    assert document.inside == []
    for tag, attributes in document.elements:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")], tag
        assert tag != "style"
        assert tag != "script" or attributes.get("src")


def test_everything_that_is_named_is_there(document: Document) -> None:
    ids = list(document.values("id"))
    assert len(ids) == len(set(ids))
    for value in document.values("for", "aria-controls", "aria-labelledby", "aria-describedby"):
        assert value in ids
    for address in document.values("href", "src"):
        if address.startswith("#"):
            assert address[1:] in ids
        else:
            assert (page.HERE / address).is_file(), address
    sprite = {name.removeprefix("i-") for name in ids if name.startswith("i-")}
    used = set()
    for path in SCRIPTS:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'\bfind\("([\w-]+)"\)', text):
            assert name in ids, f"{path.name}: {name}"
        for name in re.findall(r'from "\./([^"]+)"', text):
            assert (page.ASSETS / name).is_file(), f"{path.name}: {name}"
        used |= set(re.findall(r'\b(?:icon|iconButton)\("([\w-]+)"', text))
    assert used <= sprite
    assert len(used) >= 5


def test_every_file_is_used(document: Document) -> None:
    named = {Path(address).name for address in document.values("href", "src")}
    for path in SCRIPTS:
        named |= set(re.findall(r'from "\./([\w.-]+)"', path.read_text(encoding="utf-8")))
    assert {path.name for path in OWN} == {name for name in named if not name.startswith("#")}


@pytest.mark.parametrize("path", [page.INDEX, *OWN], ids=lambda path: str(path.name))
def test_nothing_comes_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'`)>]+", text)) <= NAMES
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval)\b", text)


def test_the_policy_lets_nothing_in() -> None:
    rules = dict(rule.split(" ", 1) for rule in page.POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    for name, value in rules.items():
        assert value in ("'none'", "'self'") or name in (
            "require-trusted-types-for", "trusted-types",
        )  # fmt: skip
    assert "unsafe" not in page.POLICY
    assert page.HEADERS["Content-Security-Policy"] == page.POLICY


def test_the_manifest_of_the_web_app() -> None:
    manifest = json.loads((page.ASSETS / "manifest.webmanifest").read_text(encoding="utf-8"))
    assert manifest["name"] == "pitool"
    for icon in manifest["icons"]:
        assert (page.ASSETS / icon["src"]).is_file()
