"""The command line. Each command parses, calls one function, prints.

Heavy imports happen inside the commands, so that ``--help`` and ``scan`` start fast.
"""

from __future__ import annotations

import click

from migrator import __version__
from migrator.cli.app import Commands
from migrator.cli.databases import convert, upgrade, verify
from migrator.cli.here import show_here
from migrator.cli.output import say
from migrator.cli.profiles import profiles
from migrator.cli.sources import export, scan, show
from migrator.cli.tracking import code, push

__all__ = ["main"]


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="mlflow-migrate")
@click.pass_context
def main(context: click.Context) -> None:
    """Move MLflow history (file stores, databases, servers) into an MLflow 3.9 database.

    Nested runs of LLM workflows become traces. Sources are only read.

    \b
    mlflow-migrate scan ./mlruns        what is there, and what convert would do
    mlflow-migrate convert ./mlruns     write it to sqlite:///mlflow.db
    mlflow-migrate verify ./mlruns --against sqlite:///mlflow.db

    Without a command, on a terminal, it shows what lies in this directory and what to do with it.
    """
    if context.invoked_subcommand is None and not show_here():
        say(context.get_help())
        context.exit(2)


for command in (scan, convert, verify, export, upgrade, show, profiles, push, code):
    main.add_command(command)
