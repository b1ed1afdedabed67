"""Rewrites the generated parts of every page."""

from __future__ import annotations

from scripts.reference import pages, updated

if __name__ == "__main__":
    for page in pages():
        page.write_text(updated(page.read_text(encoding="utf-8")), encoding="utf-8")
