"""How the commands that hold a model start its worker: settings of this machine, memory checked."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from pitool.catalog.bundles import Runnable
from pitool.catalog.kv_types import CacheTypes
from pitool.engine.worker import FLUSH_SECONDS, WorkerEngine

Loader = Callable[[Runnable, Callable[[float], None]], WorkerEngine]


def loader(
    context: int | None = None,
    threads: int | None = None,
    *,
    force: bool = False,
    flush_seconds: float = FLUSH_SECONDS,
    cluster: str | None = None,
    draft: str | None = None,
    speculate: bool = True,
    say: Callable[[str], object] = lambda _: None,
    cache: CacheTypes | None = None,
    tuned: bool = True,
) -> Loader:
    """Return what starts a worker; ``force`` leaves out the look at the memory.

    ``cluster``: the name of the one whose boards hold the model; ``say`` hears how it is split.
    ``draft``: the model that guesses tokens; ``speculate``: guess at all. ``tuned``: with what was
    found to be fast here, else as on a board where nothing is known. What fails from here on is
    logged.
    """
    from pitool.catalog.fault_log import keep_warnings
    from pitool.cli.guess_options import find_draft
    from pitool.device.detect import detect
    from pitool.device.settings import check_memory, settings_for, untuned, with_guesses
    from pitool.engine import worker
    from pitool.engine.prefills.bundled import places_of

    keep_warnings()
    guessing = find_draft(draft, speculate=speculate)

    def load(runnable: Runnable, on_progress: Callable[[float], None]) -> WorkerEngine:
        if tuned:
            settings = settings_for(runnable, context, threads=threads, cache=cache)
        else:
            settings = untuned(runnable, context, detect())
        settings = with_guesses(settings, guessing, speculate=speculate)
        places = places_of(runnable, settings)
        if cluster is not None:
            from pitool.cluster import loading

            return loading.start(
                cluster,
                runnable,
                settings,
                on_progress,
                flush_seconds,
                places,
                force=force,
                say=say,
            )
        if not force:
            check_memory(runnable, settings)
        return worker.start(
            runnable.format, runnable.entry, settings, on_progress, flush_seconds, places
        )

    return load


@cache
def loading_words(runnable: Runnable, context: int | None = None) -> str:
    """Return what to know of how an artifact is loaded, a line each; empty for nothing.

    That is what ``pitool tune`` found, or why it is not used, what a longer ``context`` than
    planned costs, and which prompts were read before; what the planned one costs was said with the
    plan.
    """
    from pitool.device import tuned
    from pitool.device.detect import detect
    from pitool.device.settings import settings_for
    from pitool.engine.prefills import bundled
    from pitool.planning.formats import find_format

    cost = ""
    if context is not None and context > runnable.context:
        cost = find_format(runnable.format).cost_of(runnable.entry, context)
    read = ""
    if bundled.prompts(runnable.bundle):
        read = bundled.words(runnable, settings_for(runnable, context))
    return "\n".join(filter(None, (tuned.words(runnable, detect()), cost, read)))
