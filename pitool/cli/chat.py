"""``pitool chat``: the terminal interface."""

from __future__ import annotations

import gc
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pitool.cli.guess_options import guess_options
from pitool.cli.kv_type import kv_type_option, parse
from pitool.cli.names import BundlePath, cluster_option
from pitool.cli.ranges import WholeRange

if TYPE_CHECKING:
    from collections.abc import Callable

    from pitool.bench.progress import BenchRunner, MakeRunner
    from pitool.catalog.bundles import Runnable
    from pitool.cluster.health import BoardHealth, ClusterJudge
    from pitool.device.doctor.finding import Finding
    from pitool.errors import PitoolError
    from pitool.pull.market import Market
    from pitool.store.database import Database

CHAT_FLUSH_SECONDS = 0.1
"""A screen shows tokens together anyway: messages that it need not read leave the cores alone."""


@click.command("chat")
@click.argument("bundle", required=False, type=BundlePath())
@click.option("--quant", metavar="NAME", help="Artifact of the bundle, such as Q4_K_M.")
@click.option("--context", type=WholeRange(min=1), metavar="N", help="Context size in tokens.")
@click.option("--threads", type=WholeRange(1, 512), metavar="N", help="CPU threads.")
@click.option("--system", default="", metavar="TEXT", help="System prompt.")
@click.option("--prefill", metavar="NAME|FILE",
              help="System prompt that pitool prefill has read.")  # fmt: skip
@click.option("--persona", metavar="NAME", help="System prompt and sampling kept with /persona.")
@click.option(
    "-c", "--continue", "resume", is_flag=True, help="Go on with the last model and conversation."
)
@cluster_option
@guess_options
@kv_type_option
@click.option("--force", is_flag=True, help="Load even if the memory seems too small.")
def command(
    bundle: Path | None,
    quant: str | None,
    context: int | None,
    threads: int | None,
    draft: str | None,
    speculate: bool,
    system: str,
    prefill: str | None,
    persona: str | None,
    resume: bool,
    cluster: str | None,
    kv_type: str | None,
    force: bool,
) -> None:
    """Chat with a model; without BUNDLE, choose one from a list.

    BUNDLE is a folder, the name of a bundle in the default folder, a GGUF file or an ONNX
    folder.

    \b
    Example:
      pitool chat sample-1gb --context 2048
      pitool chat --continue
    """
    from pitool.errors import Interrupted, PitoolError, UsageError

    cache = parse(kv_type)
    # Textual draws on stderr, so all three have to be the terminal.
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise UsageError("chat needs a terminal", "use pitool run for pipes")
    if os.environ.get("TERM") == "dumb":
        raise UsageError(
            "this terminal cannot draw a screen (TERM=dumb)", "chat line by line: pitool run -i"
        )

    gc.disable()  # there is nothing to collect among what is imported

    from pitool.catalog.bundles import home, list_bundles
    from pitool.catalog.model_argument import find_runnable
    from pitool.cli.hangup import end_without
    from pitool.cli.loading import loader, loading_words
    from pitool.device.forecast import Judge
    from pitool.device.memory import rss
    from pitool.device.monitor import Monitor
    from pitool.device.sensor_history import SensorHistory
    from pitool.engine.prefills.files import FOLDER_NAME, Prefills
    from pitool.store import last_model
    from pitool.store.personas import Personas
    from pitool.tui.app import PitoolApp

    chosen = Personas().find(persona) if persona else None
    runnable = find_runnable(bundle, quant) if bundle or quant else None
    if resume and runnable is None:
        runnable = last_model.find(home())
    if prefill is not None:
        system = _system_of(runnable, prefill)
    database, trouble = _conversations()
    app = PitoolApp(
        load=loader(
            context,
            threads,
            force=force,
            flush_seconds=CHAT_FLUSH_SECONDS,
            cluster=cluster,
            draft=draft,
            speculate=speculate,
            cache=cache,
        ),
        bundles=list_bundles,
        memory=rss,
        runnable=runnable,
        system=system or (chosen.system if chosen else ""),
        sampling=chosen.sampling if chosen else None,
        resume=resume,
        database=database,
        trouble=trouble,
        prefills=Prefills(home() / FOLDER_NAME),
        sensors=SensorHistory(Monitor().look, _examine),
        judge=Judge() if cluster is None else _judge_of(cluster),
        tuned=partial(loading_words, context=context),
        bench=_bench(threads, force=force),
        market=_market,
        settings=home(),
        boards=None if cluster is None else _boards_of(cluster),
        shown=_collect_what_comes,
    )
    end_without(sys.stdin.fileno(), app.journal.flush if app.journal else lambda: None)
    app.run()
    if app.interrupted:
        raise Interrupted("interrupted")
    if app.return_code:
        raise PitoolError("the screen crashed", "please report the error above")


def _judge_of(cluster: str) -> ClusterJudge:
    """Return what judges models by the boards of a cluster, which are looked at meanwhile."""
    from pitool.cluster.health import ClusterJudge
    from pitool.cluster.members import find_cluster

    return ClusterJudge(find_cluster(cluster))


def _boards_of(cluster: str) -> Callable[[], list[BoardHealth]]:
    """Return what looks at the boards of a cluster, for the screen of the device."""
    from pitool.cluster.health import look
    from pitool.cluster.members import find_cluster

    return partial(look, find_cluster(cluster))


def _system_of(runnable: Runnable | None, prefill: str) -> str:
    """Return the system prompt that ``--prefill`` names."""
    from pitool.catalog.model_argument import find_runnable
    from pitool.cli.prefill import beginning_of
    from pitool.errors import UsageError

    beginning = beginning_of(runnable or find_runnable(None), prefill)
    if beginning.tools or [turn.role for turn in beginning.messages] != ["system"]:
        raise UsageError(
            f"{prefill} is more than a system prompt", "use it with pitool run or pitool serve"
        )
    return beginning.messages[0].content


def _conversations() -> tuple[Database | None, PitoolError | None]:
    """Return the stored conversations, or why there are none: a model answers without them.

    What has been in the trash for long enough is deleted.
    """
    from pitool.catalog.bundles import home
    from pitool.errors import PitoolError
    from pitool.store.database import FILE_NAME, Database

    try:
        database = Database(home() / FILE_NAME)
        database.empty_trash()
    except PitoolError as error:
        return None, error
    return database, None


def _collect_what_comes() -> None:
    """Have the garbage collector leave alone what is there: looking through it stops an answer."""
    gc.freeze()
    gc.enable()


def _examine() -> list[Finding]:
    """Have the doctor look; imported when he is asked, for the first screen does not need him."""
    from pitool.device.doctor.examination import examine

    return examine()


def _market() -> Market:
    """Return what ready models come from; imported when the catalogue is opened."""
    from pitool.device.here import find_place
    from pitool.pull.market import Market

    return Market(partial(find_place, None, None), lambda _: None)


def _bench(threads: int | None, *, force: bool) -> MakeRunner:
    """Return what makes the bench of the screen; imported when it is opened."""

    def make(notify: Callable[[], None], seen: Callable[[float], object]) -> BenchRunner:
        from pitool.bench.progress import BenchRunner
        from pitool.bench.session import Tools, unchecked

        tools = Tools(check=unchecked) if force else Tools()
        return BenchRunner(tools, notify, seen, threads)

    return make
