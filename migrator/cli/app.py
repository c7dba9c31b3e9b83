"""What all commands have in common: usage errors, exit codes, messages of errors."""

from __future__ import annotations

import os
from typing import Any

import click

from migrator.cli.output import say, say_wrapped
from migrator.errors import MigrateError, OptionError
from migrator.report.console import Console, safe_streams
from migrator.report.printable import printable
from migrator.signals import interruptible

EXIT_REJECTS = 3
EXIT_INTERRUPTED = 130


CLASHES = (
    ("--json", "--csv"),
    ("--json", "--tree"),
    ("--csv", "--tree"),
    ("--csv", "--values"),
    ("--csv", "--verbose"),
    ("--tree", "--verbose"),
    ("--tree", "--experiment"),
    ("--tree", "--dask"),
    ("--quiet", "--verbose"),
    ("--write", "--diff"),
)
"""Options of which only one has an effect when both are given."""


class Command(click.Command):
    """A command that refuses options which clash, and shows its own usage with usage errors."""

    def invoke(self, ctx: click.Context) -> Any:
        self._refuse_clashes(ctx)
        try:
            return super().invoke(ctx)
        except OptionError as error:
            raise click.UsageError(printable(str(error)), ctx) from error
        except click.UsageError as error:  # raised in a command's body
            error.ctx = error.ctx or ctx
            raise

    def _refuse_clashes(self, ctx: click.Context) -> None:
        given = {
            name
            for parameter in self.get_params(ctx)
            for name in parameter.opts
            if ctx.params.get(parameter.name or "")
        }
        for first, second in CLASHES:
            if {first, second} <= given:
                raise click.UsageError(f"{first} and {second} clash: give one of them.", ctx)


COMPLETION = "_MLFLOW_MIGRATE_COMPLETE"  # set while a shell asks for completions


class CommandGroup(click.Group):
    """A group of such commands."""

    command_class = Command


class Commands(CommandGroup):
    """All commands; turns errors that a user can meet into a message and an exit code."""

    group_class = CommandGroup

    command_class = Command

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command with streams that take any text, and report where output was lost."""
        if COMPLETION in os.environ:  # Click writes the script as bytes, which safe streams lack
            return super().main(*args, **extra)
        with safe_streams() as console:
            try:
                return super().main(*args, **extra, obj=console)
            except SystemExit as end:
                if console.problem is not None:
                    lost = f"Error: the output is incomplete: {console.problem}."
                    say(f"{lost} {console.state}", err=True)
                    if console.exit_code is None and not end.code:
                        raise SystemExit(1) from end
                raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with interruptible():
                return super().invoke(ctx)
        except MigrateError as error:
            say_wrapped(f"Error: {error}")
            ctx.exit(1)
        except KeyboardInterrupt as stop:
            console: Console = ctx.obj
            say(str(stop) or f"Interrupted. {console.state}", err=True)
            ctx.exit(EXIT_INTERRUPTED if console.exit_code is None else console.exit_code)
