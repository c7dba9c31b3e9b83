"""The commands that read a store: scan, show, export."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrator import DEFAULT_SOURCE, DEFAULT_TARGET
from migrator.cli.app import Command
from migrator.cli.databases import convert
from migrator.cli.options import (
    DASK,
    EXPORT_OPTIONS,
    OUTPUT_OPTIONS,
    SCAN_OPTIONS,
    SHARD,
    SHOW_OPTIONS,
    SOURCES,
    VALUES,
    options_of,
    with_executor,
    with_options,
)
from migrator.cli.output import (
    console,
    drawn_progress,
    print_exactly,
    print_json,
    say,
    say_result,
    width,
)
from migrator.credentials import masked
from migrator.databases import new_targets
from migrator.errors import TargetError

if TYPE_CHECKING:
    from migrator.pipeline import PlannedTree

COMMANDLINE = click.core.ParameterSource.COMMANDLINE
NOT_REPEATED = {"sources", "as_json", "quiet", "verbose", "values", "color"}
"""Parameters of ``scan`` that change nothing in what ``convert`` writes."""


def convert_command(sources: Sequence[str]) -> str:
    """The command that converts what was scanned, with the options that ``scan`` was given."""
    context = click.get_current_context()
    words = ["mlflow-migrate", "convert", *map(masked, sources)]
    shared = {option.name for option in convert.params} - NOT_REPEATED
    for option in context.command.params:
        name = option.name or ""
        if name not in shared or context.get_parameter_source(name) is not COMMANDLINE:
            continue
        value = context.params.get(name)
        if isinstance(option, click.Option) and option.is_flag:
            words.append(option.opts[-1])
            continue
        for one in value if isinstance(value, tuple) else (value,):
            # A pattern may be the very secret that it masks.
            words += [option.opts[-1], "PATTERN" if name == "redact" else str(one)]
    return shlex.join([*words, *target_words(sources)])


def target_words(sources: Sequence[str]) -> list[str]:
    """The option for a target that can be written, where the default one can't.

    The default target may be the source, or a database of another release.
    """
    from migrator import extractor

    is_database = any(map(extractor.is_database, sources))
    if not is_database and _can_be_written(DEFAULT_TARGET):
        return []
    return ["--to", next(filter(_can_be_written, new_targets(sources)))]


def _can_be_written(target: str) -> bool:
    """True unless a file is there that MLflow can't write."""
    if not Path(target.removeprefix("sqlite:///")).exists():
        return True
    from migrator import loader

    try:
        loader.open_target(target)
    except TargetError:
        return False
    return True


@click.command(
    cls=Command, short_help="Show what a store holds, what is damaged, what convert would do."
)
@SOURCES
@with_options(*SCAN_OPTIONS)
@SHARD
@DASK
@with_options(*OUTPUT_OPTIONS)
@VALUES
@click.option("--csv", "as_csv", is_flag=True, help="Print one CSV line per experiment.")
@click.option("--tree", metavar="NAME_OR_ID", help="Draw the run trees of this experiment.")
@click.option("--html", metavar="FILE", help="Also write the result as an HTML page.")
def scan(
    sources: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    values: bool,
    as_csv: bool,
    tree: str | None,
    html: str | None,
    dask: str | None,
    **selected: Any,
) -> None:
    """Show what a file store holds, what is damaged, and what convert would make of it.

    \b
    mlflow-migrate scan ./mlruns
    mlflow-migrate scan ./mlruns --tree my-experiment
    mlflow-migrate scan ./mlruns --html mlruns.html

    SOURCE is a file store (default ./mlruns), its parent directory, a file: URI, an address
    such as s3://bucket/mlruns (pip install 'mlflow-migrate[s3]'), an archive of a file store
    (.tar, .tar.gz, .zip), a tracking database (mlflow.db, sqlite:///mlflow.db, postgresql://…,
    mysql://…), or a tracking server (http://host:5000). Several sources are scanned as one.
    Nothing is written except the page that --html names.
    """
    from migrator import pipeline
    from migrator.report.files import check_report_path, write_page
    from migrator.report.headline import damage
    from migrator.report.scan import scan_text
    from migrator.report.text import Style

    if html is not None:
        check_report_path(html, (".html", ".htm"))

    trees: list[PlannedTree] = []
    options = options_of(selected | ({"experiments": (tree,)} if tree else {}))
    with (
        with_executor(options, dask) as chosen,
        drawn_progress(quiet or as_json or as_csv, verbose) as progress,
    ):
        outcome = pipeline.scan(
            sources or (DEFAULT_SOURCE,),
            chosen,
            on_tree=trees.append if tree else None,
            progress=progress,
            say=lambda text: None if quiet else say(text),
        )
    if as_json:
        print_json(outcome.as_dict(values))
    elif as_csv:
        from migrator.report.csv import experiments_csv

        print_exactly(experiments_csv(outcome), nl=False)
    elif tree:
        _print_trees(trees)
    elif not quiet:
        command = convert_command(sources)
        say_result(scan_text(outcome, command, Style(verbose, values, width())))
    elif outcome.ledger.has_rejects:
        say(f"{damage(outcome.ledger).capitalize()}; scan without -q lists why.")
    if html is not None:
        pipeline.check_outside(outcome.sources, "--html", html)
        write_page(outcome, Path(html), values)
        console().state = f"Wrote {html}."
        if not quiet:
            say(f"Wrote {html}.")
    sys.exit(outcome.exit_code)


@click.command(cls=Command, short_help="Draw a run's tree beside the trace that it becomes.")
@click.argument("run_id")
@SOURCES
@with_options(*SHOW_OPTIONS)
@click.option("-v", "--verbose", is_flag=True, help="Show where every field came from.")
def show(run_id: str, sources: tuple[str, ...], verbose: bool, **selected: Any) -> None:
    """Draw the tree of a run and, beside it, the trace that it becomes.

    \b
    mlflow-migrate show 3f2a91 ./mlruns

    RUN_ID may be shortened. Each span is shown with its type, start, duration, status, tokens,
    and where its inputs and outputs came from.
    """
    from migrator import pipeline
    from migrator.report.tree import show_text

    planned = pipeline.show(
        run_id,
        sources or (DEFAULT_SOURCE,),
        options_of(selected),
        say=say,
    )
    text = show_text(planned.plan, planned.tree.runs, planned.tree.children, verbose, width())
    print_exactly(text)


@click.command(cls=Command, short_help="Send traces to other tools as OpenTelemetry (OTLP).")
@SOURCES
@click.option(
    "--otlp", "to", required=True, metavar="FILE|URL",
    help="Where to send them: a new file (.json, .jsonl, else protobuf), or a receiver's address.",
)  # fmt: skip
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE",
    help="A header for the receiver, such as Authorization=…; may be repeated.",
)  # fmt: skip
@with_options(*EXPORT_OPTIONS)
@with_options(*OUTPUT_OPTIONS)
def export(
    sources: tuple[str, ...],
    to: str,
    headers: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **selected: Any,
) -> None:
    """Send traces to Jaeger, Phoenix, Langfuse, Tempo and others, as OpenTelemetry (OTLP).

    \b
    mlflow-migrate export ./mlruns --otlp traces.jsonl
    mlflow-migrate export ./mlruns --otlp http://localhost:4318

    Rebuilt traces and those that MLflow wrote are sent, with the GenAI semantic conventions. For
    an MLflow server add --header x-mlflow-experiment-id=ID. Ids are the same each time.
    """
    from migrator import pipeline
    from migrator.report.headline import losses
    from migrator.report.text import Style, issues_text

    pairs = [tuple(header.split("=", 1)) for header in headers]
    for pair in pairs:
        if len(pair) != 2:
            # the text itself may be a secret
            raise click.BadParameter("A value is not NAME=VALUE.", param_hint="--header")
    with drawn_progress(quiet or as_json, verbose) as progress:
        sent = pipeline.export(
            sources or (DEFAULT_SOURCE,),
            to,
            options_of(selected),
            headers=[(pair[0], pair[1]) for pair in pairs],
            progress=progress,
            say=lambda text: None if quiet else say(text),
        )
        console().finished(str(sent), sent.outcome.exit_code)
    if as_json:
        counts = {"traces": sent.traces, "spans": sent.spans, "without_spans": sent.without_spans}
        print_json(
            {"to": sent.outcome.target, **counts, "issues": sent.outcome.as_dict()["issues"]}
        )
    elif not quiet:
        issues = issues_text(sent.outcome, Style(verbose))
        parts = filter(None, (str(sent), issues))
        say_result("\n\n".join(parts))
    elif sent.outcome.ledger.has_rejects:
        lost = losses(sent.outcome.ledger).capitalize()
        say(f"{lost}. Without -q the list is printed.")
    sys.exit(sent.outcome.exit_code)


def _print_trees(trees: list[PlannedTree]) -> None:
    from migrator.counting import counted
    from migrator.report.tree import run_tree

    for planned in trees:
        plan = planned.plan
        became = f"kept as runs: {plan.left_as_runs}"
        if plan.traces:
            became = counted(len(plan.traces), "trace")
        lines = run_tree(plan.root_run_id, planned.tree.runs, planned.tree.children)
        print_exactly("\n".join([*lines, f"    = {plan.role.value}, {became}"]))
