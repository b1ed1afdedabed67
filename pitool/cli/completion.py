"""``pitool completion``: what a shell needs to complete pitool's commands."""

from __future__ import annotations

import click

# Where each shell looks for what completes a program, and what has to be there.
LINES = {
    "bash": ("~/.bashrc", 'eval "$(pitool completion bash)"'),
    "zsh": ("~/.zshrc", 'eval "$(pitool completion zsh)"'),
    "fish": ("~/.config/fish/completions/pitool.fish", "pitool completion fish | source"),
}


@click.command("completion")
@click.argument("shell", type=click.Choice(list(LINES)))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and bundles.

    \b
    bash: add to ~/.bashrc:  eval "$(pitool completion bash)"
    zsh:  add to ~/.zshrc, after compinit:  eval "$(pitool completion zsh)"
    fish: pitool completion fish > ~/.config/fish/completions/pitool.fish

    \b
    Example:
      pitool completion bash
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    root = ctx.find_root().command
    click.echo(found(root, {}, "pitool", "_PITOOL_COMPLETE").source())
