"""What a size such as ``14B`` means: a real model's shape where one is sold by that name.

The table is ``recipes/sizes.toml``; sizes that it lacks have a shape by rule (``shapes``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from pitool.catalog import tables
from pitool.catalog.model_shape import ModelShape
from pitool.planning.shapes import dense_shape, parse_size, typical_shape


@dataclass(frozen=True, slots=True)
class Size:
    """The numbers of a dense decoder with a gated feed-forward; ``model`` is whose they are."""

    model: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    tied: bool

    @property
    def shape(self) -> ModelShape:
        """The shape, without biases and norms of heads, which are less than 0.01 % of it."""
        numbers = asdict(self)
        del numbers["model"]
        return dense_shape(**numbers)


@cache
def sizes(path: Path | None = None) -> dict[float, Size]:
    """Return the table by the number of weights that the name says."""
    path = path or tables.recipes_folder() / "sizes.toml"
    return {
        parse_size(name) or 0: tables.build(Size, table, f"{path.name}: {name}")
        for name, table in tables.read_toml(path).items()
    }


def sized_shape(text: str) -> tuple[str, ModelShape] | None:
    """Return name and shape of a size; None for a text that is none, BadInput for an absurd one."""
    number = parse_size(text)
    if number is None:
        return None
    name = f"a typical {text.strip().upper()}"
    if known := sizes().get(number):
        return f"{name}, as {known.model}", known.shape
    return name, typical_shape(number)
