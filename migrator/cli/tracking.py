"""The commands about tracking: push, code."""

from __future__ import annotations

import sys

import click

from migrator.cli.app import EXIT_REJECTS, Command
from migrator.cli.output import console, drawn_progress, print_json, say, say_result
from migrator.credentials import masked


@click.command(cls=Command, short_help="Send the tracker's local runs and traces on to a server.")
@click.argument("source", metavar="URI")
@click.option(
    "--to", required=True, metavar="URL", help="A running MLflow server, such as http://host:5000."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def push(source: str, to: str, as_json: bool) -> None:
    """Send runs and traces of a local database on to an MLflow server.

    \b
    mlflow-migrate push sqlite:///mlflow.db --to http://localhost:5000

    Use it for what the tracker wrote to its local fallback while the server was unreachable.
    Traces keep their ids and times; runs get new ids, which traces follow. What the server has
    already is not changed; what it has in part, from a push or a tracker that was cut off, is
    completed. What its API can't keep is listed before anything is sent.
    Exit code 3 if the server refused some.
    """
    from migrator.counting import counted
    from migrator.pipeline import push as send

    console().state = "Nothing was sent."
    with drawn_progress(as_json) as progress:
        pushed = send(source, to, progress=progress, say=say)
    exit_code = 0 if pushed.is_complete else EXIT_REJECTS
    there = counted(pushed.there_already, "was there already", "were there already")
    refused = counted(pushed.failed, "was refused", "were refused")
    done = f"Sent {pushed.sent} to {masked(to)}; {there}, {refused}."
    console().finished(done, exit_code)
    for line in dict.fromkeys(f"{each.code.value}: {each.message}" for each in pushed.issues):
        say(line)
    if as_json:
        print_json(pushed.as_dict())
    else:
        say_result(done)
    sys.exit(exit_code)


@click.command(cls=Command, short_help="List legacy tracking in Python code, or rewrite it.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--write", is_flag=True,
    help="Rewrite what is safe to rewrite, and print the diff. Needs the extra: "
    "mlflow-migrate[code].",
)  # fmt: skip
@click.option("--diff", "show_diff", is_flag=True, help="Print the diff and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def code(paths: tuple[str, ...], write: bool, show_diff: bool, as_json: bool) -> None:
    """List legacy tracking in Python code, and what replaces it.

    \b
    mlflow-migrate code src/
    mlflow-migrate code src/ --write > legacy.diff

    Listed are nested runs, file: tracking URIs, the legacy tracker's import, and tokens and prompts
    logged as metrics and files. The import, and URIs that are passed directly to MLflow, are safe
    to rewrite: a URI becomes that of a database beside the store. Notebooks are listed, not
    rewritten. With --write or --diff the list goes to stderr. Exit code 3 if a file can't be read.
    """
    from migrator.codemod import inspect
    from migrator.counting import counted

    found = inspect(paths, write=write, show_diff=show_diff)
    if found.written:
        console().finished(f"Rewrote {counted(len(found.changes), 'file')}.", found.exit_code)
    if as_json:
        print_json(found.as_dict())
    elif write or show_diff:
        click.echo(found.diff, nl=False)
        say(found.as_text())
    else:
        say_result(found.as_text())
    sys.exit(found.exit_code)
