"""Writes the text of the sample model: train.txt and heldout.txt, the same for the same seed.

Standard library only. Conversations are in ChatML, one after the other.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from dialogue import conversation, render

SEED = 2026
TRAIN_CONVERSATIONS = 34_000
HELD_OUT_CONVERSATIONS = 220


def make(seed: int, count: int, held_out: bool) -> list[str]:
    """`count` different conversations of one side."""
    rng = random.Random(f"{seed}-{'held-out' if held_out else 'train'}")
    seen: dict[str, None] = {}
    while len(seen) < count:
        seen[render(conversation(rng, held_out))] = None
    return list(seen)


def write(path: Path, conversations: list[str]) -> None:
    """The conversations one after the other, as a model reads them."""
    path.write_text("".join(conversations), encoding="utf-8")


def main() -> None:
    """Write both files into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for train.txt and heldout.txt"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--conversations", type=int, default=TRAIN_CONVERSATIONS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "train.txt", make(options.seed, options.conversations, held_out=False))
    write(options.out / "heldout.txt", make(options.seed, HELD_OUT_CONVERSATIONS, held_out=True))


if __name__ == "__main__":
    main()
