"""`farthing completion`: the script that lets a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .output import reports_errors

SHELLS = ("bash", "zsh", "fish")
PROGRAM = "farthing"
VARIABLE = "_FARTHING_COMPLETE"
"""Set by the script where the shell asks the program for what fits."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
@reports_errors
def completion(context: click.Context, *, shell: str) -> None:
    r"""Print a script for your shell, which then completes commands, options and files.

    \b
    bash 4.4 or later, in ~/.bashrc:  eval "$(farthing completion bash)"
    zsh, in ~/.zshrc:                 eval "$(farthing completion zsh)"
    fish, once:                       farthing completion fish > \
                                        ~/.config/fish/completions/farthing.fish

    \b
    Example:
      eval "$(farthing completion bash)"
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click has no completion for {shell}")
    click.echo(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source())
