"""Pages from templates: what is quoted is escaped, what is missing is a fault."""

from __future__ import annotations

import importlib.resources
import subprocess
import sys

import pytest
from jinja2 import TemplateNotFound, UndefinedError

from pitool.report import html


def test_values_are_escaped_but_markup_is_not() -> None:
    page = html.render("pitool.report", "page.html", title="<script>alert(1)</script>")
    assert "<title>&lt;script&gt;alert(1)&lt;/script&gt;</title>" in page
    marked = html.render("pitool.report", "page.html", title=html.markup("<b>a</b>"))
    assert "<h1><b>a</b></h1>" in marked


def test_a_value_that_is_missing_is_no_empty_text() -> None:
    with pytest.raises(UndefinedError):
        html.render("pitool.report", "page.html")
    with pytest.raises(TemplateNotFound):
        html.render("pitool.report", "nothing.html", title="t")


def test_templates_are_in_the_package_and_jinja2_waits_until_one_is_made() -> None:
    for package, name in (("pitool.report", "page.html"), ("pitool.lab", "comparison.html")):
        assert (importlib.resources.files(package) / name).is_file()
    code = "import sys, pitool.report.html; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
