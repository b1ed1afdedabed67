"""The program's entry point and its only exit: minds the signals and reports errors.

Data goes to stdout, everything else to stderr. The traceback of an unexpected error goes to a log
whose path is shown. Imports next to nothing, so that Ctrl-C has an end from the first moment.
"""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from pitool.errors import Interrupted, PitoolError, ended, error_of_system, no_memory, readable

# Seconds that a thread is given to end with the program.
PATIENCE = 2.0


def main() -> None:
    """Run the program and exit with its code."""
    _open_closed()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # What was ignored from the start stays so, Ctrl-C too: nohup and the shell ask for that.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        code = run(_command)
    except KeyboardInterrupt:  # another one, while the first was reported
        code = Interrupted.exit_code
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)  # all is said: the next one has nothing to say
    _leave_threads(code)
    # An interrupt inside exec() of a string, as dataclass() does it, makes Python 3.11 end a module
    # by SIGINT, whatever its exit code; the next exec() of a string takes that back.
    exec("")  # noqa: S102
    sys.exit(code)


def _leave_threads(code: int) -> None:
    """Exit at once where a thread would not end: a library that was interrupted may leave some."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            with suppress(RuntimeError):  # not begun, where the interrupt came as it was started
                thread.join(PATIENCE)
            if thread.is_alive():
                atexit._run_exitfuncs()
                os._exit(code)


def _open_closed() -> None:
    """Have the null device for a standard stream that is closed.

    A file that is opened later would get its number, and be written to by whoever prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _command() -> None:
    # Names of files hold what is no UTF-8 as lone surrogates, and a terminal may know less than
    # Unicode. Escaped like this they are right in JSON too.
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    if any(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr)):
        from pitool.report.streams import guard

        guard()
    from pitool.cli.commands import cli

    cli.main(standalone_mode=False, prog_name="pitool")


def run(call: Callable[[], object]) -> int:
    """Return the exit code of ``call``; an error becomes one line on stderr."""
    try:
        call()
        sys.stdout.flush()
    except PitoolError as error:
        return _failed(error)
    except KeyboardInterrupt:
        return _say("interrupted", Interrupted.exit_code)
    except Exception as error:
        return _ended_by(error)
    return 0


def _failed(error: PitoolError) -> int:
    """Report an error of pitool's own; one that no user caused goes to the log as well."""
    if error.exit_code == PitoolError.exit_code:
        from pitool.catalog.fault_log import record

        record(error.sentence, error.details)
    return _say(error.sentence, error.exit_code)


def _ended_by(error: Exception) -> int:
    """Report an error that is not pitool's own, or has no words yet."""
    import click

    from pitool.cli.commands import ClosedPipe

    match error:
        case click.ClickException():
            return _say(error.format_message(), 2)
        case click.Abort():
            return _say("interrupted", Interrupted.exit_code)
        case BrokenPipeError() | ClosedPipe():
            # Python would report the closed pipe again when it flushes stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        case MemoryError():
            small = no_memory()
            return _say(small.sentence, small.exit_code)
        case OSError() if known := error_of_system(error, "use another disk"):
            return _say(known.sentence, known.exit_code)
    return _fault(error)


def _say(text: str, code: int) -> int:
    """Print one line to stderr, where anybody still reads it, and return the exit code."""
    if sys.stderr is not None:  # closed from the start
        with suppress(OSError):
            print(f"pitool: {ended(readable(text))}", file=sys.stderr, flush=True)  # noqa: T201 - without click
    return code


def _fault(error: Exception) -> int:
    """Write the traceback to the log and print its path."""
    import traceback

    from pitool.catalog.fault_log import record

    what = f"internal error ({type(error).__name__}: {error})"
    log = record(what, "".join(traceback.format_exception(error)))
    return _say(f"{what}; {f'see {log}, and ' if log else ''}report it with pitool report", 1)
