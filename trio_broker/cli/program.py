"""The group that turns whatever a user can get wrong into one line on stderr and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, final

import click

__all__ = ["PROGRAM", "Program"]

PROGRAM: Final = "trio-broker"


@final
class Program(click.Group):
    """A click group whose errors are one line each.

    Exit statuses: 0 done; 1 something failed, or the reader of our output went away; 2 wrong use.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As ``click.Group.main``; in standalone mode this ends the process."""
        prog_name = prog_name or PROGRAM
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            # click ends the process itself, quietly and with 1, if it was writing to a pipe that nobody reads.
            status = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.Abort:
            click.echo("Bye!")
            sys.exit(1)
        except click.ClickException as error:
            click.echo(_one_line(error), err=True)
            sys.exit(error.exit_code)
        sys.exit(status if isinstance(status, int) else 0)


def _one_line(error: click.ClickException) -> str:
    """The error as one line; for a command line without a command, the help."""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        if error.message == error.ctx.get_help():
            return error.message
        hint = f" (see {error.ctx.command_path} --help)"
    else:
        hint = ""
    return f"Error: {' '.join(error.format_message().split()).removesuffix('.')}{hint}"
