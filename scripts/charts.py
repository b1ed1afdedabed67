"""Draw the chart of a plan into docs/pictures/: the same picture while the predictor is the same.

python -m scripts.charts
"""

from __future__ import annotations

from pathlib import Path

from pitool.cli.commands import cli

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"


def main() -> None:
    """Write the picture."""
    words = ["plan", "3B", "--ram", "8gb", "--plot", str(PICTURES / "plan.svg")]
    cli(words, standalone_mode=False)


if __name__ == "__main__":
    main()
