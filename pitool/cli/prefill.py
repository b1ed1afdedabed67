"""``pitool prefill``: reads what conversations begin with once, and keeps it in the bundle."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pitool.cli.name_lists import names_option
from pitool.cli.names import BundlePath
from pitool.cli.ranges import WholeRange

if TYPE_CHECKING:
    from pitool.catalog.bundles import Bundle, Runnable
    from pitool.cli.loading import Loader
    from pitool.engine.base import ChatPrompt
    from pitool.engine.prefills.bundled import Prefilled


@click.command("prefill")
@click.argument("bundle", required=False, type=BundlePath())
@click.argument("prompt", required=False, type=click.Path(path_type=Path))
@names_option("--quant", text="Only for these artifacts, such as Q4_K_M,Q8_0.")
@click.option("--compact", is_flag=True, help="Save it in q8_0: about half the size of f16.")
@click.option("--remove", metavar="NAME", help="Delete a prompt and what was read of it.")
@click.option("--context", type=WholeRange(min=256), help="Context size in tokens.")
@click.option("--force", is_flag=True, help="Load even if the memory seems too small.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    bundle: Path | None,
    prompt: Path | None,
    quant: str | None,
    compact: bool,
    remove: str | None,
    context: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Read the beginning of conversations once, and save what the model made of it.

    PROMPT is a system prompt as text (.txt), or JSON with messages and tools as OpenAI's API has
    them. What is saved lies in the bundle: run, chat and serve find it, and a conversation that
    begins so need not read it again. Without PROMPT, those prompts of the bundle are read that have
    to be: after a tuning or an update of the engine.

    \b
    Example:
      pitool prefill sample-1gb system.txt
      pitool prefill sample-1gb
      pitool run sample-1gb --prefill system "What next?"
    """
    from pitool.catalog.bundles import find_bundle, newest
    from pitool.catalog.tables import lookup, names_in
    from pitool.cli.loading import loader
    from pitool.engine.prefills import bundled as prefills
    from pitool.errors import UsageError

    if prompt is None and bundle is not None and _is_prompt(bundle):
        bundle, prompt = None, bundle
    opened = find_bundle(bundle) if bundle else newest()
    known = prefills.prompts(opened.path)
    if remove is not None:
        lookup(known, remove, "prompt of this bundle", UsageError)
        prefills.remove(opened.path, remove)
        return
    if prompt is None and not known:
        raise UsageError(f"{opened.path.name} has no prompts", "name one, such as system.txt")
    runnables = _chosen(opened, names_in(quant or ""))
    done = list(read_for(runnables, prompt, loader(context, force=force), compact=compact))
    if as_json:
        click.echo(json.dumps([asdict(each) for each in done], indent=2))
        return
    for each in done:
        click.echo(line(each))
    if not done:
        click.echo(f"read before: {', '.join(known)}")


def _is_prompt(path: Path) -> bool:
    from pitool.catalog.files import path_kind
    from pitool.engine.prefills.bundled import PROMPT_SUFFIXES

    return path.suffix.lower() in PROMPT_SUFFIXES and path_kind(path) == "file"


def _chosen(bundle: Bundle, names: Collection[str]) -> list[Runnable]:
    """Return the artifacts that are named, or the one that is run where none is."""
    from pitool.catalog.bundles import choose

    return [choose(bundle, name) for name in names] or [choose(bundle)]


def read_for(
    runnables: Collection[Runnable], prompt: Path | None, load: Loader, *, compact: bool
) -> Iterator[Prefilled]:
    """Yield what was read of a prompt, or of those that have to be read, for each artifact.

    A prompt is parsed before a model is loaded; how far it is read is shown.
    """
    from pitool.device.settings import settings_for
    from pitool.engine.prefills import bundled as prefills
    from pitool.report.progress import Stages, stage_of
    from pitool.serve.prefill import read_prefill

    beginnings: dict[str, ChatPrompt] = {}
    if prompt is not None:
        beginnings[prefills.name_of(prompt)] = read_prefill(prompt)
    for runnable in runnables:
        assert runnable.bundle is not None  # it is of one
        if prompt is not None:
            prefills.add_prompt(runnable.bundle, prompt)
            wanted = dict(beginnings)
        else:
            settings = settings_for(runnable)
            known = prefills.prompts(runnable.bundle)
            missing = [name for name in known if not prefills.is_read(runnable, settings, name)]
            wanted = {name: read_prefill(known[name]) for name in missing}
        if not wanted:
            continue
        with Stages() as progress, load(runnable, lambda _: None) as engine:
            for name, beginning in wanted.items():
                on_tokens = stage_of(progress, f"reading {name} with {runnable.quantisation}")
                yield prefills.read(engine, runnable, name, beginning, on_tokens, compact=compact)


def beginning_of(runnable: Runnable, text: str) -> ChatPrompt:
    """Return what ``--prefill`` names: a prompt of the bundle, or a file."""
    from pitool.catalog.files import expand
    from pitool.engine.prefills.bundled import prompts
    from pitool.serve.prefill import read_prefill

    return read_prefill(prompts(runnable.bundle).get(text) or expand(text))


def line(made: Prefilled) -> str:
    """Return what was saved, for people."""
    from pitool.report.numbers import format_bytes, format_seconds

    return (
        f"{made.name} for {made.quantisation}: {made.tokens} tokens, read in"
        f" {format_seconds(made.seconds)}, saved in {format_bytes(made.bytes)}"
    )
