"""Every technique on the sample model, and the figures written into docs/explanation/lab.md.

    python -m benchmarks.lab [--resume]

The page's part between the two marks is what ``pitool compare sample`` measured and what its
columns say of themselves; the rest of the page is written by hand.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from pitool.lab.output import METRICS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "lab.md"
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"


def main() -> None:
    """Run the comparison; the page changes only when it is whole."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--resume", action="store_true", help="take rows that are done")
    resume = "--resume" if parser.parse_args().resume else "--no-resume"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pitool", "compare", "sample", "--markdown", resume],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.1f} minutes", file=sys.stderr)
    took = "" if resume == "--resume" else f" All of it took {minutes:.0f} minutes."
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    about, table = done.stdout.split("\n", 1)
    parts = (before + BEGIN, about + took, table.strip(), columns(), END + after)
    PAGE.write_text("\n\n".join(parts), encoding="utf-8")


def columns() -> str:
    """Return what each column says of itself, as a list."""
    shown = (column for column in METRICS if column.key != "fits")
    lines = [f"- **{column.heading}**: {column.explained}" for column in shown]
    return "\n".join(["The columns:", "", *lines])


if __name__ == "__main__":
    main()
