"""The `farthing` command: loads a subcommand's module only when it is used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from .. import __version__
from ..channels.errors import FarthingError
from .completion import PROGRAM, VARIABLE
from .output import fail

COMMANDS: dict[str, tuple[str, str, str]] = {
    "audit": ("audit", "audit", "Check the chain's settlements against the receipts."),
    "bench": ("bench", "bench", "Measure; every figure with its conditions."),
    "chaos": ("chaos", "chaos", "Kill hub and wallets under load, and see what is lost."),
    "completion": ("completion", "completion", "Print a script that lets your shell complete."),
    "credit": ("credit", "credit", "Mint and read city credit."),
    "demo": ("demo", "demo", "Run one city block, from real readings to an audited settlement."),
    "deploy": ("deploy", "deploy", "Deploy the contracts and write their record."),
    "devnet": ("devnet", "devnet", "Run a local development chain."),
    "hub": ("hub", "hub", "Run and operate an agency's hub."),
    "member": ("member", "member", "Register members and read the registry."),
    "settle": ("settle", "settle", "Tell a running hub to settle everything now."),
    "watchtower": (
        "watchtower",
        "watchtower",
        "Run a watchtower, which answers closes for wallets that sleep.",
    ),
    "wallet": ("wallet", "wallet", "Run and use a device wallet."),
}
"""Name, module, attribute and one line of help; the module is imported on use alone."""

EXTRA_OF = {"bench": "devnet", "chaos": "devnet", "demo": "devnet", "devnet": "devnet"}
EXIT_USAGE = 64


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name without loading one, as `list_commands` does."""
        names = [
            CompletionItem(name, help=text)
            for name, (_, _, text) in sorted(COMMANDS.items())
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        try:
            found: Any = importlib.import_module(f".{module}", __package__)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("farthing"):
                raise
            if ctx.resilient_parsing:  # nobody asked for it yet: it is only being completed
                return None
            extra = EXTRA_OF.get(cmd_name, "hub")
            raise click.ClickException(
                f"`farthing {cmd_name}` needs {error.name}, which is not installed:"
                f" pip install 'farthing[{extra}]'"
            ) from None
        command: click.Command = getattr(found, attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in sorted(COMMANDS)])


_HELP = """Payment channels for fractions of a cent.

\b
Exit codes: 0 fine, 1 differs or refused, 2 could not tell, 64 wrong usage.

\b
Example:
  farthing demo --json
"""


@click.command(cls=_Lazy, help=_HELP)
@click.version_option(__version__, prog_name=PROGRAM)
def root() -> None:
    """Payment channels for fractions of a cent."""


def main() -> None:
    """Run the command line; usage errors end with 64, as the documentation says."""
    try:
        code = root.main(prog_name=PROGRAM, complete_var=VARIABLE, standalone_mode=False)
    except click.UsageError as error:
        error.show()
        raise SystemExit(EXIT_USAGE) from None
    except FarthingError as error:  # a value of an option or argument
        fail(error, as_json="--json" in sys.argv)
    except click.Abort:
        raise SystemExit(130) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(1) from None
    raise SystemExit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
