"""The command line. Each command parses, calls one function of the pipeline, prints.

Heavy imports happen inside the commands, so that ``--help`` and ``scan`` start fast.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from migrator import __version__
from migrator.credentials import masked
from migrator.errors import MigrateError, OptionError
from migrator.model import Role
from migrator.report.console import Console, safe_streams
from migrator.report.printable import printable, printable_json
from migrator.signals import interruptible

if TYPE_CHECKING:
    from migrator.pipeline import Options, PlannedTree, Progress

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_SOURCE = "./mlruns"
DEFAULT_TARGET = "sqlite:///mlflow.db"
GROUPS = click.Choice(["sweeps", "pipelines", "flat", "deleted", "tables"])
EXIT_REJECTS = 3
EXIT_INTERRUPTED = 130


# Options of which only one has an effect when both are given.
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


class Command(click.Command):
    """A command that refuses options which clash, and whose usage errors show its own usage."""

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


class CommandGroup(click.Group):
    """A group of such commands."""

    command_class = Command


class Commands(CommandGroup):
    """All commands; turns errors that a user can meet into a message and an exit code."""

    group_class = CommandGroup

    command_class = Command

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command with streams that take any text, and say so where they took no more."""
        with safe_streams() as console:
            try:
                return super().main(*args, **extra, obj=console)
            except SystemExit as end:
                if console.problem is not None:
                    lost = f"Error: the output is incomplete: {console.problem}."
                    _say(f"{lost} {console.state}", err=True)
                    if console.exit_code is None and not end.code:
                        raise SystemExit(1) from end
                raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with interruptible():
                return super().invoke(ctx)
        except MigrateError as error:
            _say(f"Error: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt as stop:
            console: Console = ctx.obj
            _say(str(stop) or f"Interrupted. {console.state}", err=True)
            ctx.exit(EXIT_INTERRUPTED if console.exit_code is None else console.exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlflow-migrate")
def main() -> None:
    """Move MLflow file stores (./mlruns) into an MLflow 3.9 database, nested runs as traces.

    \b
    mlflow-migrate scan ./mlruns        what is there, and what would become of it
    mlflow-migrate convert ./mlruns     write it to sqlite:///mlflow.db
    mlflow-migrate verify ./mlruns --against sqlite:///mlflow.db
    """


def _roles(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """Split every ``EXPERIMENT=ROLE`` at its last equals sign."""
    pairs = []
    for value in values:
        experiment, equals, role = value.rpartition("=")
        if not equals or not experiment or role not in {each.value for each in Role}:
            allowed = ", ".join(each.value for each in Role)
            raise click.BadParameter(
                f"{value!r} is not EXPERIMENT=ROLE; a role is one of {allowed}."
            )
        pairs.append((experiment, role))
    return tuple(pairs)


TRACE_OPTIONS = (
    click.option(
        "--include", multiple=True, type=GROUPS,
        help="Make traces also of these; by default they stay runs only.",
    ),
    click.option(
        "--exclude", multiple=True, type=GROUPS,
        help="Make no traces of these; with deleted MLflow's own are left out, too.",
    ),
    click.option("--profile", metavar="NAME", help="Use only this profile for run trees."),
    click.option(
        "--role", "roles", multiple=True, metavar="EXPERIMENT=ROLE", callback=_roles,
        help="What all trees of an experiment (name or id) are: workflow, session, batch, "
        "call, sweep, pipeline or training; may be repeated.",
    ),
    click.option(
        "--group-by-time", is_flag=True,
        help="Join flat runs to their workflow, and workflows to their request, by time.",
    ),
    click.option(
        "--adopt-orphans", is_flag=True,
        help="Put steps that lost their workflow below the one before them.",
    ),
    click.option(
        "--profile-file", "profile_files", multiple=True, metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help="Add a profile of your own (TOML); may be repeated.",
    ),
)  # fmt: skip
"""What becomes a trace, and how."""

CHOICE_OPTIONS = (
    click.option(
        "--since", metavar="DATE",
        help="Only what started or ended since (2024-05-31, or with a time; UTC), or has "
        "not ended.",
    ),
    click.option(
        "--only", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
        help="Only what this list names: the rejects file of an earlier conversion.",
    ),
)  # fmt: skip
"""What of the source is taken."""

KIND_OPTIONS = (
    click.option("--no-runs", is_flag=True, help="Leave the runs out, write traces only."),
    click.option("--no-traces", is_flag=True, help="Leave traces out, write runs only."),
)  # fmt: skip
"""Which kinds of things are taken."""

TARGET_OPTIONS = (
    click.option(
        "--on-conflict", type=click.Choice(["fail", "merge", "rename"]), default="fail",
        show_default=True,
        help="When the target has another experiment of the same name or id.",
    ),
    click.option(
        "--experiment-kind", type=click.Choice(["auto", "genai", "keep"]), default="auto",
        show_default=True,
        help="Which experiments MLflow opens in its GenAI view: auto marks those that hold "
        "mostly traces, genai all, keep none.",
    ),
)  # fmt: skip
"""What a target decides."""

EXPERIMENT = click.option(
    "--experiment", "experiments", multiple=True, metavar="NAME_OR_ID",
    help="Only this experiment; may be repeated.",
)  # fmt: skip
ARTIFACTS = click.option(
    "--artifacts", default="auto", show_default=True,
    metavar="auto|relocate|keep|copy:DIR",
    help="Recorded artifact locations: relocate those that lead nowhere to where the "
    "files are, keep all, or copy the files into DIR. auto relocates if the store was "
    "moved.",
)  # fmt: skip
WORKERS = click.option(
    "--workers", type=click.IntRange(min=1), metavar="N",
    help="Processes that read; by default one for each core. The result is the same.",
)  # fmt: skip
REDACT = click.option(
    "--redact", multiple=True, metavar="PATTERN",
    help="Mask what matches this regular expression in every value, key and file name; may be "
    "repeated. Ids, locations, and names of experiments and registered models stay.",
)  # fmt: skip

SHOW_OPTIONS = (EXPERIMENT, *TRACE_OPTIONS, REDACT)
EXPORT_OPTIONS = (EXPERIMENT, *TRACE_OPTIONS, ARTIFACTS, WORKERS, *CHOICE_OPTIONS, REDACT)
SCAN_OPTIONS = (EXPERIMENT, *KIND_OPTIONS, *EXPORT_OPTIONS[1:])
CONVERT_OPTIONS = (EXPERIMENT, *KIND_OPTIONS, *TRACE_OPTIONS, *TARGET_OPTIONS, ARTIFACTS, WORKERS,
                   *CHOICE_OPTIONS, REDACT)  # fmt: skip


def with_options(*added: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds these options, in this order."""

    def add(command: F) -> F:
        for option in reversed(added):
            command = option(command)
        return command

    return add


def _shard(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    """Read ``K/N``."""
    number, _, count = value.partition("/")
    plain = number.isascii() and number.isdecimal() and count.isascii() and count.isdecimal()
    if not plain or not 1 <= int(number) <= int(count):
        raise click.BadParameter(f"{value!r} is not K/N with K from 1 to N, such as 2/4.")
    return int(number), int(count)


SHARD = click.option(
    "--shard", default="1/1", metavar="K/N", callback=_shard,
    help="Only the K-th of N parts of about equal size, which jobs of their own convert into one "
    "database, in any order.",
)  # fmt: skip
DASK = click.option(
    "--dask", metavar="ADDRESS",
    help="Let a Dask cluster read: tcp://host:8786, or its scheduler file. The result is the same. "
    "Needs the extra: mlflow-migrate[dask].",
)  # fmt: skip


OUTPUT_OPTIONS = (
    click.option(
        "--json", "as_json", is_flag=True,
        help="Print JSON, for machines: all of it, whatever -q and -v say.",
    ),
    click.option(
        "-q", "--quiet", is_flag=True, help="Print errors only, and what another option asks for.",
    ),
    click.option("-v", "--verbose", is_flag=True, help="Print every issue and note."),
)  # fmt: skip

SOURCES = click.argument("sources", nargs=-1, metavar="[SOURCE]...")
VALUES = click.option(
    "--values", is_flag=True,
    help="Show the damaged values themselves with the issues; they may be secret.",
)  # fmt: skip


@main.command(short_help="Show what a store holds, what is damaged, what convert would do.")
@SOURCES
@with_options(*SCAN_OPTIONS)
@SHARD
@DASK
@with_options(*OUTPUT_OPTIONS)
@VALUES
@click.option("--csv", "as_csv", is_flag=True, help="Print one CSV line per experiment.")
@click.option("--tree", metavar="NAME_OR_ID", help="Draw the run trees of this experiment.")
@click.option("--html", metavar="FILE", help="Also write all of it as a page to look at (.html).")
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
    """Say what a file store holds, what is damaged, and what convert would make of it.

    \b
    mlflow-migrate scan ./mlruns
    mlflow-migrate scan ./mlruns --tree my-experiment
    mlflow-migrate scan ./mlruns --html mlruns.html

    SOURCE is a file store (default ./mlruns), its parent directory, a file: URI, or an address
    such as s3://bucket/mlruns (pip install 'mlflow-migrate[s3]'); several sources are scanned as
    one. Nothing is written but the page that --html names.
    """
    from migrator import extractor, pipeline
    from migrator.report.files import check_report_path, write_page
    from migrator.report.text import scan_text

    if html is not None:
        check_report_path(html, (".html", ".htm"))

    trees: list[PlannedTree] = []
    options = _options(selected | ({"experiments": (tree,)} if tree else {}))
    with _hired(options, dask) as hired, _progress(quiet or as_json or as_csv) as progress:
        outcome = pipeline.scan(
            sources or (DEFAULT_SOURCE,),
            hired,
            on_tree=trees.append if tree else None,
            progress=progress,
        )
    if as_json:
        _print_json(outcome.as_dict(values))
    elif as_csv:
        from migrator.report.csv import experiments_csv

        _say(experiments_csv(outcome), nl=False)
    elif tree:
        _print_trees(trees)
    elif not quiet:
        command = ["mlflow-migrate", "convert", *map(masked, sources)]
        if any(map(extractor.is_database, sources)):
            command += ["--to", "sqlite:///migrated.db"]
        _say(scan_text(outcome, shlex.join(command), verbose, values))
    if html is not None:
        pipeline.check_outside(outcome.sources, "--html", html)
        write_page(outcome, Path(html), values)
        _console().state = f"Wrote {html}."
        if not quiet:
            _say(f"Wrote {html}.", err=True)
    sys.exit(outcome.exit_code)


@main.command(short_help="Write file stores into an MLflow database, nested runs as traces.")
@SOURCES
@click.option(
    "--to", default=DEFAULT_TARGET, show_default=True, metavar="URI",
    help="The database to write: sqlite:///relative.db, sqlite:////absolute.db, "
    "postgresql://user:password@host/database or mysql://…; or a running MLflow server, "
    "http://host:5000.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Do everything but write.")
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
    help="When something can't be converted: name it and go on (exit code 3), or write nothing.",
)  # fmt: skip
@click.option("--no-backup", is_flag=True, help="Make no copy of an existing SQLite file before.")
@with_options(*CONVERT_OPTIONS)
@SHARD
@DASK
@with_options(*OUTPUT_OPTIONS)
@VALUES
def convert(
    sources: tuple[str, ...],
    to: str,
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

    A new database appears only when it is complete; an existing one is backed up and changed in
    one transaction. On a server (PostgreSQL, MySQL) each experiment is one transaction, and there
    is no backup. The source is only read. Converting again changes nothing.

    Exit codes: 0 all converted; 1 could not run, nothing written; 2 usage; 3 converted, but
    something was rejected and is named in the report, or the report could not be written; 130
    interrupted, target untouched; on a server, with the experiments that are whole by then. They
    tell of the target, also where the output can't be printed (a full disk, a closed pipe).
    """
    from migrator import pipeline
    from migrator.report.text import convert_text

    _console().state = "The target is untouched."
    with _hired(_options(selected), dask) as options, _progress(quiet or as_json) as progress:
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
            progress=progress,
            say=lambda text: None if quiet else _say(text, err=True),
        )
        if not dry_run:
            report_is = f" Report: {outcome.report_path}" if outcome.report_path else ""
            _console().finished(f"{outcome.done}.{report_is}", outcome.exit_code)
    if as_json:
        _print_json(outcome.as_dict(values))
    elif not quiet:
        # without a report this is the only place where all issues are named
        _say(convert_text(outcome, verbose or outcome.report_problem is not None, values))
    if outcome.report_problem is not None:
        _say(f"Error: {outcome.report_problem}", err=True)
    sys.exit(outcome.exit_code)


@main.command(short_help="Compare a converted database with its source.")
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
@with_options(*CONVERT_OPTIONS)
@with_options(*OUTPUT_OPTIONS)
def verify(
    sources: tuple[str, ...],
    against: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **selected: Any,
) -> None:
    """Read the source and a converted database again, and say where they differ.

    \b
    mlflow-migrate verify ./mlruns --against sqlite:///mlflow.db

    The database is read through MLflow's own client, by one process whatever --workers says. Give
    the options that convert was given. Exit code 3 if anything differs.
    """
    from migrator.verify import verify as compare

    with _progress(quiet or as_json) as progress:
        result = compare(
            sources or (DEFAULT_SOURCE,), against, _options(selected), progress=progress
        )
    if as_json:
        _print_json(result.as_dict())
    elif not quiet:
        _say(result.as_text(verbose))
    sys.exit(EXIT_REJECTS if result.total else 0)


@main.command(short_help="Send traces to other tools as OpenTelemetry (OTLP).")
@SOURCES
@click.option(
    "--otlp", "to", required=True, metavar="FILE|URL",
    help="Where to: a new file (.json, .jsonl, else protobuf), or a receiver's address.",
)  # fmt: skip
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE",
    help="Sent along to a receiver, such as Authorization=…; may be repeated.",
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

    Rebuilt traces and those that MLflow wrote, with the GenAI semantic conventions. An MLflow
    server wants --header x-mlflow-experiment-id=ID. Ids are the same each time.
    """
    from migrator import pipeline
    from migrator.report.text import counted, issues_text

    pairs = [tuple(header.split("=", 1)) for header in headers]
    for pair in pairs:
        if len(pair) != 2:
            # the text itself may be a secret
            raise click.BadParameter("A value is not NAME=VALUE.", param_hint="--header")
    with _progress(quiet or as_json) as progress:
        sent = pipeline.export(
            sources or (DEFAULT_SOURCE,),
            to,
            _options(selected),
            headers=[(pair[0], pair[1]) for pair in pairs],
            progress=progress,
        )
        traces, spans = counted(sent.traces, "trace"), counted(sent.spans, "span")
        done = f"Sent {traces} with {spans} to {masked(to)}."
        _console().finished(done, sent.outcome.exit_code)
    if as_json:
        counts = {"traces": sent.traces, "spans": sent.spans, "without_spans": sent.without_spans}
        _print_json(
            {"to": sent.outcome.target, **counts, "issues": sent.outcome.as_dict()["issues"]}
        )
    elif not quiet:
        if sent.without_spans:
            done += f" {sent.without_spans:,} have no spans and were left out."
        issues = issues_text(sent.outcome, verbose, False)
        _say("\n\n".join(part for part in (issues, done) if part))
    sys.exit(sent.outcome.exit_code)


@main.command(short_help="Upgrade a converted database to the installed MLflow.")
@click.argument("uri", default=DEFAULT_TARGET)
def upgrade(uri: str) -> None:
    """Carry a converted database to the schema of the installed, newer MLflow.

    \b
    mlflow-migrate upgrade sqlite:///mlflow.db

    Makes a backup beside it, runs MLflow's own upgrade, and fills the columns (model, provider
    and cost of spans) that only newer releases have and MLflow's upgrade leaves empty. A newer
    MLflow opened on the database would upgrade it by itself, without a backup, and older releases
    then refuse it.
    """
    from migrator import pipeline

    result = pipeline.upgrade(uri)
    if result.backup_path is None:
        _say(f"{result.path} is at schema {result.to_revision} already; nothing to do.")
        return
    done = f"Upgraded {result.path} from schema {result.from_revision} to {result.to_revision}"
    _console().finished(f"{done}.", 0)
    _say(
        f"{done}; filled model, provider or cost of {result.spans_filled:,} spans.\n"
        f"Backup: {result.backup_path}"
    )


@main.command(short_help="Draw a run's tree beside the trace that it becomes.")
@click.argument("run_id")
@SOURCES
@with_options(*SHOW_OPTIONS)
@click.option("-v", "--verbose", is_flag=True, help="Say where every field came from.")
def show(run_id: str, sources: tuple[str, ...], verbose: bool, **selected: Any) -> None:
    """Draw the tree of a run and, beside it, the trace that it becomes.

    \b
    mlflow-migrate show 3f2a91 ./mlruns

    RUN_ID may be shortened. For every span: type, start, duration, status, tokens, and where
    its inputs and outputs came from.
    """
    from migrator import pipeline
    from migrator.report.tree import show_text

    planned = pipeline.show(run_id, sources or (DEFAULT_SOURCE,), _options(selected))
    _say(show_text(planned.plan, planned.tree.runs, planned.tree.children, verbose))


@main.group(short_help="List, show, check and create profiles.")
def profiles() -> None:
    """List, show, check and begin profiles: what the params and files of runs mean.

    \b
    mlflow-migrate profiles list
    mlflow-migrate profiles new my-tool --to my-tool.toml
    mlflow-migrate profiles check my-tool.toml ./mlruns

    All about them: docs/reference/profiles.md.
    """


PROFILE_FILES = click.option(
    "--profile-file", "profile_files", multiple=True, metavar="FILE",
    type=click.Path(exists=True, dir_okay=False), help="Also this one; may be repeated.",
)  # fmt: skip


@profiles.command("list")
@PROFILE_FILES
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def list_profiles(profile_files: tuple[str, ...], as_json: bool) -> None:
    """List all profiles in the order in which they are tried."""
    from migrator.report.text import table
    from migrator.transformer import load_profiles, recognised_by

    rows = [
        {
            "name": profile.name,
            "description": profile.description,
            "origin": profile.origin,
            "extends": sorted(profile.extends),
            "opt_in": profile.opt_in,
            "recognises": list(recognised_by(profile)),
        }
        for profile in load_profiles(profile_files)
    ]
    if as_json:
        _print_json({"profiles": rows})
        return
    _say(
        table(
            ["name", "origin", "what it is for"],
            [[str(row["name"]), str(row["origin"]), str(row["description"])] for row in rows],
            left={0, 1, 2},
        )
    )


@profiles.command("show")
@click.argument("name")
@PROFILE_FILES
def show_profile(name: str, profile_files: tuple[str, ...]) -> None:
    """Print the TOML of a profile, to read or to begin from."""
    from migrator.transformer import built_in_text, load_profiles

    for profile in load_profiles(profile_files):
        if profile.name == name and profile.origin != "built in":
            _say(Path(profile.origin).read_text(encoding="utf-8"), nl=False)
            return
    _say(built_in_text(name), nl=False)


@profiles.command("check", short_help="Check a profile of your own, alone or against a store.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@SOURCES
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def check_profile(file: str, sources: tuple[str, ...], as_json: bool) -> None:
    """Check a profile of your own: is it well formed, and which trees of SOURCE does it take?

    A mistake is named with its line, its key and what is allowed (exit code 2). Without a SOURCE
    only the file itself is looked at.
    """
    from migrator import pipeline
    from migrator.transformer import load_profiles, recognised_by

    (profile,) = (p for p in load_profiles([file]) if p.origin == file)
    taken: list[PlannedTree] = []
    trees = 0

    def count(planned: PlannedTree) -> None:
        nonlocal trees
        trees += 1
        if planned.plan.profile == profile.name:
            taken.append(planned)

    if sources:
        groups = frozenset({profile.opt_in} if profile.opt_in else ())
        options = pipeline.Options(profile_files=(file,), include=groups)
        pipeline.scan(sources, options, on_tree=count)
    traces = sum(len(planned.plan.traces) for planned in taken)
    if as_json:
        _print_json(
            {
                "profile": profile.name,
                "file": file,
                "trees": trees if sources else None,
                "taken": [planned.plan.root_run_id for planned in taken] if sources else None,
                "traces": traces if sources else None,
            }
        )
        return
    _say(f'{file} is a profile: "{profile.name}", {profile.description or "undescribed"}')
    for line in recognised_by(profile):
        _say(f"    takes trees whose {line}" if profile.recognise else f"    takes {line}")
    if sources:
        _say(f"It takes {len(taken):,} of {trees:,} trees, which give {traces:,} traces.")
        for planned in taken[:5]:
            root = planned.plan.root_run_id
            _say(f"    {root}  {planned.tree.runs[root].name}  {planned.plan.role.value}")
        if len(taken) > 5:
            _say(f"    … and {len(taken) - 5:,} more")


@profiles.command("new", short_help="Print a template for a profile of your own.")
@click.argument("name")
@click.option("--extends", default="generic", show_default=True, metavar="NAME")
@click.option("--to", metavar="FILE", help="Write it to a new file; by default it is printed.")
def new_profile(name: str, extends: str, to: str | None) -> None:
    """Begin a profile: print a template with all that can stand in it."""
    from migrator.transformer import template

    text = template(name, extends, to or f"{name}.toml")
    if to is None:
        _say(text, nl=False)
        return
    try:
        with Path(to).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise OptionError(f"{to} is there already.", todo="Name another file.") from error
    except OSError as error:
        raise OptionError(f"{to} can't be written: {error}.", todo="Name another file.") from error
    _console().finished(f"Wrote {to}.", 0)
    _say(f"Wrote {to}. Next: mlflow-migrate profiles check {shlex.quote(to)} ./mlruns")


@main.command(short_help="Send the tracker's local runs and traces on to a server.")
@click.argument("source", metavar="URI")
@click.option(
    "--to", required=True, metavar="URL", help="A running MLflow server, such as http://host:5000."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def push(source: str, to: str, as_json: bool) -> None:
    """Send runs and traces of a local database on to an MLflow server.

    \b
    mlflow-migrate push sqlite:///mlflow.db --to http://localhost:5000

    For what the tracker wrote to its fallback while the server was away. Traces keep ids and
    times; runs get new ids. What is there already is left alone. Exit code 3 if some were refused.
    """
    from migrator.tracker.push import push as send

    _console().state = "Nothing was sent."
    pushed = send(source, to)
    exit_code = EXIT_REJECTS if pushed.failed else 0
    done = (
        f"Sent {pushed.sent} to {masked(to)}; {pushed.there_already:,} were there "
        f"already, {pushed.failed:,} were refused."
    )
    _console().finished(done, exit_code)
    if as_json:
        _print_json(pushed.as_dict())
    else:
        _say(done)
    sys.exit(exit_code)


@main.command(short_help="List legacy tracking in Python code, or rewrite it.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--write", is_flag=True,
    help="Rewrite what is safe, and print the diff. Needs the extra: mlflow-migrate[code].",
)  # fmt: skip
@click.option("--diff", "show_diff", is_flag=True, help="Print the diff and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def code(paths: tuple[str, ...], write: bool, show_diff: bool, as_json: bool) -> None:
    """List legacy tracking in Python code, with what takes its place.

    \b
    mlflow-migrate code src/
    mlflow-migrate code src/ --write > legacy.diff

    Nested runs, file: tracking URIs, the legacy tracker's import, tokens and prompts logged as
    metrics and files. Safe to rewrite are the import and URIs handed straight to MLflow; a URI
    becomes the database that stands beside the store. Notebooks are listed, not rewritten. With
    --write or --diff the list goes to stderr. Exit code 3 if a file couldn't be read.
    """
    from migrator.codemod import inspect

    found = inspect(paths, write=write, show_diff=show_diff)
    if found.written:
        _console().finished(f"Rewrote {len(found.changes):,} files.", found.exit_code)
    if as_json:
        _print_json(found.as_dict())
    elif write or show_diff:
        click.echo(found.diff, nl=False)
        _say(found.as_text(), err=True)
    else:
        _say(found.as_text())
    sys.exit(found.exit_code)


def _options(selected: dict[str, Any]) -> Options:
    from migrator.pipeline import Options

    return Options(
        experiments=tuple(selected["experiments"]),
        runs=not selected.get("no_runs", False),
        traces=not selected.get("no_traces", False),
        include=frozenset(selected["include"]),
        exclude=frozenset(selected["exclude"]),
        profile=selected["profile"],
        profile_files=tuple(selected["profile_files"]),
        on_conflict=selected.get("on_conflict", "fail"),
        experiment_kind=selected.get("experiment_kind", "auto"),
        roles=selected["roles"],
        group_by_time=selected["group_by_time"],
        adopt_orphans=selected["adopt_orphans"],
        artifacts=selected.get("artifacts", "auto"),
        workers=selected.get("workers") or 0,
        since=selected.get("since"),
        only=selected.get("only"),
        redact=tuple(selected["redact"]),
        shard=selected.get("shard", (1, 1)),
    )


@contextmanager
def _hired(options: Options, dask: str | None) -> Iterator[Options]:
    """Yield the options with the executor of a Dask cluster, if one is named."""
    if dask is None:
        yield options
        return
    from migrator.workers import dask as cluster

    if options.workers:
        raise OptionError("--workers and --dask: the cluster itself says how many it has.")
    with cluster.connect(dask) as executor:
        yield replace(options, executor=executor, workers=executor.threads())


@contextmanager
def _progress(silent: bool) -> Iterator[Progress]:
    """Yield a function that draws progress on a terminal, and nothing in a pipe."""
    from migrator.pipeline import no_progress

    if silent or sys.stderr is None or not sys.stderr.isatty():
        yield no_progress
        return
    from tqdm import tqdm

    bar = tqdm(file=sys.stderr, leave=False)

    def draw(stage: str, done: int, total: int) -> None:
        if bar.desc != f"{stage}: ":
            bar.reset()
            bar.set_description(stage, refresh=False)
        bar.total = total or None
        bar.update(done - bar.n)

    with bar:
        yield draw


def _say(text: str, **how: Any) -> None:
    """Print text: names come from a store, so none may control the terminal."""
    click.echo(printable(text), **how)


def _print_json(value: dict[str, Any]) -> None:
    """Print JSON, in ASCII where the stream lacks characters: its escapes are JSON's own then."""
    out = _console().out
    is_unicode = out is None or out.is_unicode
    click.echo(printable_json(json.dumps(value, ensure_ascii=not is_unicode, indent=2)))


def _console() -> Console:
    console: Console = click.get_current_context().obj
    return console


def _print_trees(trees: list[PlannedTree]) -> None:
    from migrator.report.tree import run_tree

    for planned in trees:
        plan = planned.plan
        became = (
            f"{len(plan.traces)} trace(s)" if plan.traces else f"stays runs: {plan.left_as_runs}"
        )
        _say("\n".join(run_tree(plan.root_run_id, planned.tree.runs, planned.tree.children)))
        _say(f"    = {plan.role.value}, {became}")


if __name__ == "__main__":
    main()
