"""The option ``--kv-type`` of the commands that load a model or plan one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pitool.catalog.kv_types import CacheTypes

kv_type_option = click.option(
    "--kv-type",
    metavar="TYPES",
    help="Type of the KV cache, such as q8_0; or of keys and values, such as q8_0,q5_1.",
)


def parse(text: str | None) -> CacheTypes | None:
    """Return the types that were typed, None where none were; UsageError names the nearest."""
    if text is None:
        return None
    from pitool.catalog.kv_types import CacheTypes

    return CacheTypes.parse(text)
