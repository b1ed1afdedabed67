"""HTML pages from templates in the package, everything in them escaped.

A page stands alone: no script, no font, no network. jinja2 is loaded when a page is made.
"""

from __future__ import annotations

from importlib import resources
from typing import Any


def render(package: str, template: str, **values: Any) -> str:
    """Return the page of a template in ``package``; it may extend ``page.html`` beside this file.

    Strings are escaped, but those of ``markup``.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def load(name: str) -> str | None:
        for folder in (package, __package__):
            file = resources.files(folder) / name
            if file.is_file():
                return file.read_text(encoding="utf-8")
        return None

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(load),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def markup(text: str) -> str:
    """Return a string that is markup already, such as an SVG, and is not escaped again."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - who calls this has escaped what it quotes
