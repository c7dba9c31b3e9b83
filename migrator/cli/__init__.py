"""The command line. Each command parses, calls one function, prints.

Heavy imports happen inside the commands, so that ``--help`` and ``scan`` start fast.
"""

from __future__ import annotations

import click

from migrator import __version__
from migrator.cli.app import Commands
from migrator.cli.databases import convert, upgrade, verify
from migrator.cli.profiles import profiles
from migrator.cli.sources import export, scan, show
from migrator.cli.tracking import code, push

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlflow-migrate")
def main() -> None:
    """Move MLflow file stores (./mlruns) into an MLflow 3.9 database, nested runs as traces.

    \b
    mlflow-migrate scan ./mlruns        what is there, and what convert would do
    mlflow-migrate convert ./mlruns     write it to sqlite:///mlflow.db
    mlflow-migrate verify ./mlruns --against sqlite:///mlflow.db
    """


for command in (scan, convert, verify, export, upgrade, show, profiles, push, code):
    main.add_command(command)
