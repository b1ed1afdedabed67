"""The data of recipes/ that a plan is made from, a table for each."""

from __future__ import annotations

from collections.abc import Iterator

from pitool.catalog.boards import Board, Ram
from pitool.catalog.boards import boards as all_boards
from pitool.catalog.profiles import profiles as all_profiles
from pitool.catalog.recipes import Recipe, recipes
from pitool.catalog.tiers import MIB
from pitool.catalog.tiers import tiers as all_tiers
from pitool.planning.accelerators import accelerators as all_accelerators
from pitool.planning.alternatives import storages
from pitool.planning.rentals import gpus
from pitool.planning.shapes import sizes as all_sizes
from scripts.reference.markdown import code, table


def boards() -> Iterator[str]:
    """Yield the boards; bandwidth in 1e9 bytes/s, power in watts."""
    heads = ("id", "name", "CPU", "RAM", "GB/s", "threads", "watts", "decode", "prefill")
    yield from table(heads, map(_board, all_boards().items()))


def _board(item: tuple[str, Board]) -> tuple[object, ...]:
    key, board = item
    cpu = f"{board.cores} x {board.cpu}, {board.clock_mhz / 1000:g} GHz"
    ram = ", ".join(map(_ram, board.ram))
    watts = f"{board.watts.idle:g} to {board.watts.load:g}" if board.watts else None
    decode, prefill = (f"±{error:.0%}" for error in (board.decode_error, board.prefill_error))
    threads, rate = board.decode_threads, f"{board.bandwidth_gbs:g}"
    return f"`{key}`", board.name, cpu, ram, rate, threads, watts, decode, prefill


def _ram(ram: Ram) -> str:
    price = f" ${ram.price_usd:g}" if ram.price_usd is not None else ""
    return f"{ram.tier}{price}{'' if ram.available else ' (not sold)'}"


def tiers() -> Iterator[str]:
    """Yield the tiers, in MiB."""
    rows = (
        (f"`{key}`", tier.mem_total_mib, tier.os_mib, tier.margin_mib, tier.model_bytes // MIB)
        for key, tier in all_tiers().items()
    )
    yield from table(("tier", "MemTotal", "system", "margin", "for a model"), rows)


def profiles() -> Iterator[str]:
    """Yield the profiles."""
    heads = ("profile", "what it does", "margins", "context", "KV cache", "batch", "`auto`", "else")
    rows = (
        (
            f"`{name}`",
            profile.summary,
            f"{profile.margin:g}",
            profile.context,
            profile.kv_type,
            profile.micro_batch,
            ", ".join(f"{key} {rate:g}" for key, rate in profile.candidates.items()),
            ", ".join(profile.fallback),
        )
        for name, profile in all_profiles().items()
    )
    yield from table(heads, rows)


def models() -> Iterator[str]:
    """Yield the recommended models."""
    heads = (
        "name", "source", "weights", "licence", "tiers", "default", "quantisation", "context",
        "released", "about it",
    )  # fmt: skip
    yield from table(heads, map(_model, recipes().items()))


def _model(item: tuple[str, Recipe]) -> tuple[object, ...]:
    name, recipe = item
    weights = f"{recipe.parameters / 1e9:.2f}B"
    if recipe.active:
        weights += f", {recipe.active / 1e9:.2f}B active"
    return (
        f"`{name}`", recipe.source, weights, recipe.licence, code(recipe.tiers),
        code(recipe.default_for), recipe.quantisation.replace(",", ", "), recipe.context,
        recipe.released, recipe.summary,
    )  # fmt: skip


def sizes() -> Iterator[str]:
    """Yield the shapes that sizes stand for."""
    heads = (
        "size", "model", "layers", "hidden", "feed-forward", "heads", "key-value heads",
        "head size", "vocabulary", "context",
    )  # fmt: skip
    rows = (
        (
            f"`{f'{number / 1e9:g}B' if number >= 1e9 else f'{number / 1e6:g}M'}`", size.model,
            size.layers, size.hidden, size.feed_forward, size.heads, size.kv_heads, size.head_dim,
            size.vocabulary, size.context,
        )
        for number, size in all_sizes().items()
    )  # fmt: skip
    yield from table(heads, rows)


def storage() -> Iterator[str]:
    """Yield the media by chip, in MB/s."""
    rows = ((soc, found.sd, found.usb, found.nvme) for soc, found in storages().items())
    yield from table(("chip", "SD card", "USB SSD", "NVMe"), rows)


def accelerators() -> Iterator[str]:
    """Yield what a PCIe lane can hold, with published tokens/s."""
    rows = (
        (
            found.name,
            found.price_usd,
            found.price_date,
            ", ".join(f"{speed.model} {speed.decode:g}" for speed in found.speeds),
        )
        for found in all_accelerators().values()
    )
    yield from table(("name", "USD", "as of", "decode, tokens/s"), rows)


def rented() -> Iterator[str]:
    """Yield the GPUs to rent."""
    heads = ("card", "provider", "GPU", "GB", "GB/s", "USD an hour", "as of")
    rows = (
        (
            f"`{key}`", gpu.provider, gpu.card, gpu.vram_gb, gpu.bandwidth_gbs, gpu.usd_hour,
            gpu.price_date,
        )
        for key, gpu in gpus().items()
    )  # fmt: skip
    yield from table(heads, rows)
