"""What a comparison looks like: columns by width, and a page that no name can break."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from pitool.lab import output, page
from pitool.lab.result import Comparison, EngineFigures, TechniqueResult
from pitool.quality.divergence import Divergence
from pitool.report.tables import to_text

HOSTILE = "<script>alert('1')</script>\"&"
EVERY = (
    "technique MB compression bits convert s convert MB load s peak MB prefill decode latency s"
    " perplexity KL top-1 alike fits runs on"
)


def result(name: str, size: int, kl: float, kernel: str | None, answer: str) -> TechniqueResult:
    quality = Divergence(
        tokens=10, mean_kl=kl, median_kl=kl, p99_kl=kl, max_kl=kl, top1=0.987, perplexity=3.14,
        base_perplexity=3.13,
    )  # fmt: skip
    running = EngineFigures(0.1, 2 * 10**8, 123.0, 4e8 / size, 1.2) if kernel else None
    return TechniqueResult(
        name, name, f"does {HOSTILE}", "a paper", 4.5, (), HOSTILE, kernel, "gguf", size,
        size / 10**6, 10**7, 12.3, 10**8, quality, running, 0.5, (answer, "the same"),
    )  # fmt: skip


@pytest.fixture
def comparison() -> Comparison:
    results = (
        result("fp32", 32_000_000, 1e-7, "llama.cpp", HOSTILE),
        result("q4_k_m-imatrix", 5_400_000, 0.0123, "llama.cpp", "another"),
        result("kmeans-4bit", 5_100_000, 0.0456, None, HOSTILE),
        TechniqueResult("qat-int4", "QAT", "trains", "p", 4, ("torch",), error=HOSTILE),
    )
    return Comparison(
        HOSTILE, 1_500_000, "Cortex-A76", 4, HOSTILE, 512, "notes", (HOSTILE, "What?"), results,
        {"pitool": "0.1"}, "8gb", 8 * 10**9,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (200, EVERY),
        (80, "technique MB bits decode KL top-1 alike fits runs on"),
        (60, "technique MB decode KL top-1 fits runs on"),
    ],
)
def test_the_columns_that_matter_most_stay(comparison: Comparison, width: int, shown: str) -> None:
    text = to_text(output.to_sections(comparison), width)
    head = next(line for line in text.splitlines() if line.startswith("technique"))
    assert head.split() == shown.split()
    assert max(map(len, text.splitlines())) <= width
    for figure in ("0.0123", "98.7%", "yes", "74.1", "llama.cpp"):
        assert figure in text


class Page(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_no_name_becomes_markup(comparison: Comparison) -> None:
    read = Page()
    read.feed(page.to_html(comparison))
    assert "script" not in read.tags
    # model, text, prompt, effects, notes, an answer, and why one was not made
    assert read.text.count(HOSTILE) >= 10
    assert read.tags.count("svg") == 2
    assert read.tags.count("h2") == 7
    assert read.text.count("the same") == 4


def test_the_plots_are_well_formed_and_name_the_front(comparison: Comparison) -> None:
    for plot in page.plots(comparison):
        drawing = ElementTree.fromstring(plot.to_svg())
        bold = {e.text for e in drawing.iter() if e.get("font-weight") == "600"}
        assert {"fp32", "q4_k_m-imatrix"} <= bold


def test_the_table_draws_each_figure_and_marks_the_best_but_not_the_baseline(
    comparison: Comparison,
) -> None:
    made = page.to_html(comparison)
    cells = re.findall(r'<td class="(bar(?: best)?)" style="--share:([\d.]+)%">([^<]+)</td>', made)
    assert ("bar", "100.0", "32.0") in cells  # MB of fp32, the largest
    assert ("bar", "16.9", "5.40") in cells
    assert ("bar best", "15.9", "5.10") in cells
    assert ("bar", "100.0", "74.1") in cells  # decode: of one alone
    assert ("bar best", "27.0", "0.0123") in cells  # KL: that of fp32 is none of a rival
    assert ("bar", "0.0", "0.0000") in cells
    assert ("bar", "100.0", "98.7%") in cells  # all alike: none is the best
    heads = re.findall(r"<th[^>]*>([^<]+)</th>", made)
    assert heads[:5] == ["technique", "MB ↓", "decode ↑", "KL ↓", "top-1 ↑"]
