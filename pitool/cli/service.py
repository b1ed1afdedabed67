"""``pitool service``: has the user's systemd run ``pitool serve``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click


@click.group("service")
def command() -> None:
    """Keep pitool serve running: a systemd service of the user.

    \b
    Example:
      pitool service install qwen3-1.7b
      pitool service uninstall
    """


@command.command("install", context_settings={"ignore_unknown_options": True})
@click.option("--make-key", is_flag=True, help="Make an API key, store it, and print it.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[SERVE_OPTIONS]...")
def install(make_key: bool, options: tuple[str, ...]) -> None:
    """Start pitool serve now and with every session of this user.

    SERVE_OPTIONS are those of pitool serve; without any, the ones of the last time stay. They are
    kept in ~/.config/pitool/serve.env with the API key, which is taken from PITOOL_API_KEY if that
    is set. The service gets what memory a model may use on this machine, and is restarted if it
    fails.

    \b
    Example:
      pitool service install
      pitool service install qwen3-1.7b --host 0.0.0.0 --make-key
      systemctl --user status pitool
      journalctl --user -u pitool
    """
    import os
    import secrets
    import shlex

    from pitool.cli import serve
    from pitool.deploy import service
    from pitool.device.detect import detect
    from pitool.report.progress import talk

    given = _parsed(options or service.arguments())
    host, port = given["host"], given["port"]
    service.check_port(port)
    values = {service.ARGUMENTS: shlex.join(_absolute(options, given))} if options else {}
    key = secrets.token_urlsafe(24) if make_key else os.environ.get(service.KEY)
    if key:
        values[service.KEY] = key
    if values:
        service.choose(values)
    machine = detect()
    service.install(machine)
    shown = f"[{host}]" if ":" in host else host
    talk(f"pitool serve is running at http://{shown}:{port}")
    if make_key:
        click.echo(key)
    elif host not in serve.LOCAL and not service.chosen().get(service.KEY):
        talk("warning: anyone on this network can use it; add --make-key to require a key")
    for note in service.notes(machine):
        talk(note)


def _parsed(options: Sequence[str]) -> Mapping[str, Any]:
    """Return the values of options of pitool serve; click's errors where they are none."""
    from pitool.cli import serve

    root = click.get_current_context().find_root()
    with serve.command.make_context("serve", list(options), parent=root) as context:
        return context.params


def _absolute(options: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """Return options with whole paths for files of this folder: a service has another one."""
    files = {path for path in given.values() if isinstance(path, Path) and path.exists()}
    words = []
    for option in options:
        name, equals, value = option.partition("=") if option[:1] == "-" else ("", "", option)
        path = Path(value)
        words.append(f"{name}{equals}{path.absolute()}" if value and path in files else option)
    return words


@command.command("uninstall")
def uninstall() -> None:
    """Stop the service and remove it; its settings and key stay in ~/.config/pitool/serve.env.

    \b
    Example:
      pitool service uninstall
    """
    from pitool.deploy import service
    from pitool.report.progress import talk

    removed = service.uninstall()
    talk("the service is removed" if removed else "there is no service of pitool")


@command.command("show")
def show() -> None:
    """Print the unit that install would write, such as for a service of the whole system.

    \b
    Example:
      pitool service show
    """
    from pitool.deploy import service
    from pitool.device.detect import detect

    click.echo(service.unit(detect()), nl=False)
