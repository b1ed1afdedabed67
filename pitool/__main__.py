"""``python -m pitool``."""

from pitool.cli.main import main

main()
