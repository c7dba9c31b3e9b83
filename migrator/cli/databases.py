"""The commands that write or compare a target: convert, verify, upgrade."""

from __future__ import annotations

import sys
from typing import Any

import click
from click.core import ParameterSource

from migrator import DEFAULT_SOURCE, DEFAULT_TARGET
from migrator.cli.app import EXIT_REJECTS, Command
from migrator.cli.options import (
    CONVERT_OPTIONS,
    DASK,
    OUTPUT_OPTIONS,
    SHARD,
    SOURCES,
    VALUES,
    options_of,
    with_executor,
    with_options,
)
from migrator.cli.output import (
    console,
    drawn_progress,
    has_one_screen,
    print_json,
    say,
    say_result,
    width,
)


@click.command(
    cls=Command, short_help="Write file stores into an MLflow database, nested runs as traces."
)
@SOURCES
@click.option(
    "--to", default=DEFAULT_TARGET, show_default=True, metavar="URI",
    help="The database to write: sqlite:///relative.db, sqlite:////absolute.db, "
    "postgresql://user:password@host/database or mysql://…; or a running MLflow server, "
    "http://host:5000.",
)  # fmt: skip
@click.option(
    "--in-place", is_flag=True,
    help="Add the traces to SOURCE itself: a database (a SQLite file after a backup and in one "
    "transaction), or an MLflow server, http://host:5000. Nothing that is there is changed.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Do everything except write.")
@click.option(
    "--schema", metavar="3.9|latest",
    help="The schema of a new database; by default that of the installed MLflow.",
)  # fmt: skip
@click.option(
    "--report", metavar="FILE",
    help="Where to write the report: .json, .html or .txt. By default JSON, beside the target; "
    "for a server, in the current directory.",
)  # fmt: skip
@click.option(
    "--on-error", type=click.Choice(["skip", "stop"]), default="skip", show_default=True,
    help="What to do when something can't be converted: skip it, list it and go on (exit code 3), "
    "or stop and write nothing.",
)  # fmt: skip
@click.option(
    "--restore", is_flag=True,
    help="Bring back what people deleted in the target since the last conversion; otherwise it "
    "stays away. What they changed stays in either case.",
)  # fmt: skip
@click.option(
    "--check-all", is_flag=True,
    help="Read the source even if the sizes and times of its files say that nothing is new. So "
    "do -v and --report.",
)  # fmt: skip
@click.option("--no-backup", is_flag=True, help="Do not back up an existing SQLite file first.")
@with_options(*CONVERT_OPTIONS)
@SHARD
@DASK
@with_options(*OUTPUT_OPTIONS)
@VALUES
def convert(  # noqa: PLR0913  # a parameter for each option
    sources: tuple[str, ...],
    to: str,
    in_place: bool,
    dry_run: bool,
    schema: str | None,
    report: str | None,
    on_error: str,
    no_backup: bool,
    dask: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    values: bool,
    **selected: Any,
) -> None:
    """Write file stores into an MLflow database, with their nested runs as traces.

    \b
    mlflow-migrate convert ./mlruns --to sqlite:///mlflow.db
    mlflow-migrate convert mlflow.db --in-place

    A new database appears only when it is complete; an existing one is backed up and changed in
    one transaction. On a server (PostgreSQL, MySQL) each experiment is one transaction, and there
    is no backup. The source is only read. Converting again changes nothing.

    Exit codes: 0 all converted; 1 could not run, nothing written; 2 wrong usage; 3 converted, but
    something was rejected and is listed in the report, or the report could not be written; 130
    interrupted, target untouched (a server then has the experiments that were complete). They
    describe the target even if the output can't be printed (a full disk, a closed pipe).
    """
    from migrator import pipeline
    from migrator.report.headline import losses
    from migrator.report.text import Style, convert_text

    context = click.get_current_context()
    if in_place and context.get_parameter_source("to") is not ParameterSource.DEFAULT:
        raise click.UsageError("--in-place and --to clash: give one of them.", context)
    console().state = "The target is untouched."
    selected["check_all"] |= verbose  # every issue is to be printed
    with (
        with_executor(options_of(selected), dask) as options,
        drawn_progress(quiet or as_json, verbose) as progress,
    ):
        outcome = pipeline.convert(
            sources or (DEFAULT_SOURCE,),
            to,
            options,
            schema=schema,
            dry_run=dry_run,
            report=report,
            values=values,
            backup=not no_backup,
            stop_on_error=on_error == "stop",
            in_place=in_place,
            progress=progress,
            say=lambda text: None if quiet else say(text),
        )
        if not dry_run:
            report_is = f" Report: {outcome.report_path}" if outcome.report_path else ""
            console().finished(f"{outcome.done}.{report_is}", outcome.exit_code)
    if as_json:
        print_json(outcome.as_dict(values))
    elif not quiet:
        # without a report this is the only place where all issues are named
        is_whole = verbose or outcome.report_problem is not None
        style = Style(is_whole, values, width(), limits_above=has_one_screen())
        say_result(convert_text(outcome, style))
    elif outcome.ledger.has_rejects and outcome.report_path:
        say(f"{losses(outcome.ledger).capitalize()}. Report: {outcome.report_path}")
    elif outcome.ledger.has_rejects:
        say(f"{losses(outcome.ledger).capitalize()}. Without -q the list is printed.")
    if outcome.report_problem is not None:
        say(f"Error: {outcome.report_problem}")
    sys.exit(outcome.exit_code)


@click.command(cls=Command, short_help="Compare a converted database with its source.")
@SOURCES
@click.option(
    "--against",
    "--to",
    "against",
    default=DEFAULT_TARGET,
    show_default=True,
    metavar="URI",
    help="The database.",
)
@click.option(
    "--strict", is_flag=True,
    help="Exit with 3 also where only people changed something in the target since the last "
    "conversion.",
)  # fmt: skip
@with_options(*CONVERT_OPTIONS)
@with_options(*OUTPUT_OPTIONS)
def verify(
    sources: tuple[str, ...],
    against: str,
    strict: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **selected: Any,
) -> None:
    """Read the source and a converted database again, and list where they differ.

    \b
    mlflow-migrate verify ./mlruns --against sqlite:///mlflow.db

    The database is read through MLflow's own stores, by each of the --workers processes. A server
    is read through MLflow's own client, by one process. Use the same options as for convert. Exit
    code 3 if anything differs. What people changed in a database since the last conversion is
    listed apart.
    """
    from migrator.counting import counted
    from migrator.verification import verify as compare

    with drawn_progress(quiet or as_json, verbose) as progress:
        result = compare(
            sources or (DEFAULT_SOURCE,),
            against,
            options_of(selected),
            progress=progress,
            say=lambda text: None if quiet else say(text),
        )
    if as_json:
        print_json(result.as_dict())
    elif not quiet:
        say_result(result.as_text(verbose))
    elif result.total:
        found = counted(result.total, "difference")
        say(f"{found}; verify without -q lists what differs.")
    is_different = result.total or (strict and result.changed_total)
    sys.exit(EXIT_REJECTS if is_different else 0)


@click.command(cls=Command, short_help="Upgrade a converted database to the installed MLflow.")
@click.argument("uri", default=DEFAULT_TARGET)
def upgrade(uri: str) -> None:
    """Upgrade a converted database to the schema of the installed, newer MLflow.

    \b
    mlflow-migrate upgrade sqlite:///mlflow.db

    Makes a backup beside it, runs MLflow's own upgrade, and fills the columns (model, provider
    and cost of spans) that only newer releases have and MLflow's upgrade leaves empty. Otherwise a
    newer MLflow that opens the database upgrades it by itself, without a backup. Older releases
    refuse an upgraded database.
    """
    from migrator import pipeline
    from migrator.counting import counted

    result = pipeline.upgrade(uri)
    if result.backup_path is None:
        say_result(f"{result.path} is at schema {result.to_revision} already; nothing to do.")
        return
    done = f"Upgraded {result.path} from schema {result.from_revision} to {result.to_revision}"
    console().finished(f"{done}.", 0)
    say_result(
        f"{done}; filled model, provider or cost of {counted(result.spans_filled, 'span')}.\n"
        f"Backup: {result.backup_path}"
    )
