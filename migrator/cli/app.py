"""What all commands have in common: usage errors, exit codes, messages of errors."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from migrator.cli.output import fitted, say
from migrator.errors import MigrateError, OptionError
from migrator.report.console import Console, safe_streams
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


WHOLE_HYPHEN = "\N{NON-BREAKING HYPHEN}"


class HelpFormatter(click.HelpFormatter):
    """Breaks lines of a help text between words only, so that what stands in them can be pasted.

    Click would break ``mlflow-migrate[s3]`` after the hyphen.
    """

    def write_text(self, text: str) -> None:
        super().write_text(text.replace("-", WHOLE_HYPHEN))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        whole = [(term, text.replace("-", WHOLE_HYPHEN)) for term, text in rows]
        super().write_dl(whole, col_max, col_spacing)

    def write(self, string: str) -> None:
        super().write(string.replace(WHOLE_HYPHEN, "-"))


class Context(click.Context):
    """The context of every command."""

    formatter_class = HelpFormatter


def _fitted(error: click.UsageError) -> click.UsageError:
    """The same error with a message that fits the terminal, below the usage of its command."""
    if isinstance(error, NoArgsIsHelpError):  # its message is a whole help text
        return error
    text = fitted(f"Error: {error.format_message()}")
    return click.UsageError(text.removeprefix("Error: "), error.ctx)


class Command(click.Command):
    """A command that refuses options which clash, and shows its own usage with usage errors."""

    context_class = Context

    def invoke(self, ctx: click.Context) -> Any:
        self._refuse_clashes(ctx)
        try:
            return super().invoke(ctx)
        except OptionError as error:
            raise click.UsageError(str(error), ctx) from error
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
    context_class = Context


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
                    say(f"{lost} {console.state}")
                    if console.exit_code is None and not end.code:
                        raise SystemExit(1) from end
                raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with interruptible():
                return super().invoke(ctx)
        except click.UsageError as error:
            raise _fitted(error) from error
        except MigrateError as error:
            say(f"Error: {error}")
            ctx.exit(1)
        except KeyboardInterrupt as stop:
            console: Console = ctx.obj
            say(str(stop) or f"Interrupted. {console.state}")
            ctx.exit(EXIT_INTERRUPTED if console.exit_code is None else console.exit_code)
