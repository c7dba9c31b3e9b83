"""The commands: which stores are opened, where the items go, what is reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from migrator import __version__, addresses, extractor, loader
from migrator.credentials import masked
from migrator.errors import OptionError, RejectedError, SourceError
from migrator.issues import Issue, Severity
from migrator.loader import rest as server
from migrator.model import ArtifactCopy
from migrator.outcome.summary import Outcome
from migrator.pipeline.locations import is_below
from migrator.pipeline.options import Options
from migrator.pipeline.sinks import Discard
from migrator.pipeline.stores import (
    Progress,
    Store,
    fetched,
    name_sources,
    no_progress,
    open_stores,
)
from migrator.pipeline.through_rest import Say, check_options, report_base, to_server
from migrator.pipeline.trees import PlannedTree
from migrator.pipeline.walk import Migration
from migrator.report.files import (
    check_report_path,
    first_report_path,
    free_report_path,
    write_report,
)
from migrator.signals import point_of_no_return


def _check_rejects(issues: Sequence[Issue]) -> None:
    """Raise RejectedError for the first rejection."""
    for issue in issues:
        if issue.severity is Severity.REJECTED:
            where = f"{issue.path}: " if issue.path else ""
            raise RejectedError(
                f"{issue.code.value}: {where}{issue.message} Nothing was written (--on-error "
                "stop).",
                todo=f"{issue.code.action} Or convert the rest with --on-error skip.",
            )


def scan(
    sources: Sequence[str],
    options: Options,
    *,
    on_tree: Callable[[PlannedTree], None] | None = None,
    progress: Progress = no_progress,
) -> Outcome:
    """Return what ``convert`` would do with the sources, without a target.

    Raises SourceError and OptionError.
    """
    began = time.monotonic()
    with fetched(sources, options, progress) as places:
        stores = open_stores(places, progress)
        outcome = _outcome(stores, options, target=None)
        migration = Migration(
            stores, options, Discard(), outcome, on_tree=on_tree, progress=progress
        )
        migration.run()
        migration.check_handed()
        name_sources(stores, outcome)
    outcome.ledger.add_outcome(migration.handed, {})
    outcome.seconds = time.monotonic() - began
    return outcome


def convert(
    sources: Sequence[str],
    to: str,
    options: Options,
    *,
    schema: str | None = None,
    dry_run: bool = False,
    report: str | None = None,
    values: bool = False,
    backup: bool = True,
    stop_on_error: bool = False,
    progress: Progress = no_progress,
    say: Say = lambda text: None,
) -> Outcome:
    """Write the sources into the database at ``to``, whole or not at all.

    The report goes to ``report``, or to a new file beside the target; ``values`` shows the
    source's own words in it. With ``stop_on_error`` the first thing that is rejected ends the
    conversion. Raises SourceError, OptionError, TargetError, RejectedError, and LedgerError (a
    defect); the target is untouched then.

    A server (``http://…``) is written through its API: what that can't keep is told to ``say``
    before anything is written, and what an error leaves half done the next conversion completes.
    """
    began = time.monotonic()
    if report is not None:
        check_report_path(report)
    if addresses.is_server(to):
        check_options(options, schema, backup)
        return _convert_through_api(
            sources, to, options, dry_run=dry_run, report=report, values=values,
            stop_on_error=stop_on_error, progress=progress, say=say,
        )  # fmt: skip
    check_apart(sources, to)
    target = loader.open_target(to, schema)
    whole = not dry_run and options.artifacts.startswith("copy:")
    with (
        point_of_no_return() as committing,  # outermost: the mirrors' removal comes after, too
        fetched(sources, options, progress, whole=whole) as places,
    ):
        stores = open_stores(places, progress)
        outcome = _outcome(stores, options, target=target.uri)
        check_outside(outcome.sources, "--to", target.path)
        check_outside(outcome.sources, "--report", report or str(target.report_base))
        outcome.dry_run = dry_run
        walk = partial(
            Migration,
            stores,
            options,
            outcome=outcome,
            existing=target.experiments(),
            largest_id=target.largest_id,
            name_key=target.collation_key,
            progress=progress,
        )
        if dry_run:
            migration = walk(sink=Discard())
            migration.run()
            migration.check_handed()
            if stop_on_error:
                _check_rejects(outcome.ledger.issues)
            name_sources(stores, outcome)
            outcome.ledger.add_outcome(migration.handed, {})
            outcome.seconds = time.monotonic() - began
            if report is not None:
                _report(outcome, Path(report), values)
            return outcome
        with loader.Writer(target) as writer:
            migration = walk(sink=writer)
            migration.run()
            migration.check_handed()
            _copy_artifacts(migration, progress)
            progress("checking", 0, 0)
            written = writer.finish()
            migration.check_written(written)
            if stop_on_error:
                rejected = migration.redactor.issues(written.issues)
                _check_rejects([*outcome.ledger.issues, *rejected])
            progress("publishing", 0, 0)
            result = writer.publish(
                loader.PublishOptions(
                    backup=backup,
                    check_rejects=_check_rejects if stop_on_error else lambda issues: None,
                    committing=committing,
                    on_progress=lambda done, total: progress("publishing experiments", done, total),
                )
            )
        migration.add_result(result)
        name_sources(stores, outcome)
        outcome.backup = result.backup_path
        outcome.schema = target.wanted
        outcome.seconds = time.monotonic() - began
        path = Path(report) if report else _report_path(target.report_base, outcome)
        _report(outcome, path, values, like=target.report_base)
        return outcome


def _convert_through_api(
    sources: Sequence[str],
    to: str,
    options: Options,
    *,
    dry_run: bool,
    report: str | None,
    values: bool,
    stop_on_error: bool,
    progress: Progress,
    say: Say,
) -> Outcome:
    connection = server.open_server(to)
    whole = not dry_run and options.artifacts != "keep"  # they are sent as well
    try:
        with (
            point_of_no_return() as committing,
            fetched(sources, options, progress, whole=whole) as places,
        ):
            stores = open_stores(places, progress)
            outcome = _outcome(stores, options, target=connection.shown)
            outcome.dry_run = dry_run
            if report is not None:
                check_outside(outcome.sources, "--report", report)
            to_server(
                stores, connection, options, outcome, dry_run=dry_run,
                check_rejects=_check_rejects if stop_on_error else lambda issues: None,
                say=say, progress=progress,
            )  # fmt: skip
            committing()
            name_sources(stores, outcome)
            if report is not None or not dry_run:
                path = Path(report) if report else free_report_path(report_base(to))
                _report(outcome, path, values)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"Interrupted. {connection.written_so_far()}") from interrupt
    return outcome


def _report_path(target: Path, outcome: Outcome) -> Path:
    """Return a free name beside the target; shards that run at once have one each."""
    number, parts = outcome.shard
    part = f".shard-{number}-of-{parts}" if parts > 1 else ""
    return free_report_path(Path(f"{target}{part}"))


def check_outside(sources: Sequence[str], option: str, path: str) -> None:
    """Raise OptionError where a file that is to be written lies inside a source."""
    for root in sources:
        if is_below(path, root):
            raise OptionError(
                f"{option} {path} lies inside the source {root}, which is only read.",
                todo="Choose a place outside of it.",
            )


def check_apart(sources: Sequence[str], to: str) -> None:
    """Raise OptionError where the database that is to be written is one of the sources."""
    for source in sources:
        if extractor.is_same_database(source, to):
            raise OptionError(
                f"--to {masked(to)} is the source itself, which is only read.",
                todo="Name another database: --to sqlite:///migrated.db",
            )


def _report(outcome: Outcome, path: Path, values: bool, like: Path | None = None) -> None:
    """Write the report. When that fails, all else is done, and the outcome says both.

    It is as private as the database ``like``, and as its first report.
    """
    outcome.report_path = str(path)
    try:
        write_report(outcome, path, values, [] if like is None else [like, first_report_path(like)])
    except OSError as error:
        outcome.report_path = None
        outcome.report_problem = (
            f"{outcome.done}, but the report could not be written to {path}: "
            f"{error.strerror or error}. Convert again, which changes nothing, with --report and "
            "another file."
        )


@dataclass(frozen=True, slots=True)
class Exported:
    """What ``export`` sent; ``outcome`` says what was found, as that of ``scan``."""

    outcome: Outcome
    traces: int
    spans: int
    without_spans: int  # native traces whose spans are lost: OTLP can't say them


def export(
    sources: Sequence[str],
    to: str,
    options: Options,
    *,
    headers: Sequence[tuple[str, str]] = (),
    progress: Progress = no_progress,
) -> Exported:
    """Send the traces of the sources, native and rebuilt, to a file or a receiver as OTLP.

    A file appears only when it is complete. Raises SourceError, OptionError, TargetError, and
    LedgerError (a defect).
    """
    from migrator import otlp  # its protobuf classes take a while to load

    began = time.monotonic()
    otlp.check_receiver(to, headers)
    if options.artifacts.startswith("copy:"):
        raise OptionError(
            f"--artifacts {options.artifacts}: export sends traces, and copies no files.",
            todo="Leave it out, or convert with it.",
        )
    with fetched(sources, options, progress) as places:
        stores = open_stores(places, progress)
        outcome = _outcome(stores, options, target=masked(to))
        if "://" not in to:
            check_outside(outcome.sources, "--otlp", to)
        receiver = otlp.open_receiver(to, headers)
        try:
            sink = otlp.OtlpSink(receiver)
            migration = Migration(stores, options, sink, outcome, progress=progress)
            migration.run()
            migration.check_handed()
            sink.flush()
            receiver.close()
        except KeyboardInterrupt as interrupt:
            receiver.discard()
            raise KeyboardInterrupt(f"Interrupted. {receiver.kept()}") from interrupt
        except BaseException:
            receiver.discard()
            raise
        name_sources(stores, outcome)
    outcome.ledger.add_outcome(migration.handed, {})
    outcome.seconds = time.monotonic() - began
    return Exported(outcome, sink.traces, sink.spans, sink.empty)


def _files_of(copy: ArtifactCopy) -> Iterator[extractor.StoredFile]:
    return extractor.artifact_files(copy.source, copy.bound)


def _copy_artifacts(migration: Migration, progress: Progress) -> None:
    """Make the copies that were decided, before anything refers to them. Raises TargetError."""
    locations = migration.locations
    if locations.choice.directory is None:
        return
    result = loader.copy_artifacts(
        locations.copies,
        locations.choice.directory,
        _files_of,
        protected=[folder for store in migration.stores for folder in store.source.folders[1:]],
        on_progress=lambda done, total: progress("copying artifacts, bytes", done, total),
    )
    summary = locations.summary
    summary.files_copied, summary.bytes_copied = result.files, result.bytes
    summary.files_there, summary.files_failed = result.already_there, result.failed
    migration.ledger.add_issues(result.issues)


def upgrade(uri: str) -> loader.UpgradeResult:
    """Carry a converted database to the schema of the installed MLflow, after a backup.

    Raises TargetError; the database is then as it was.
    """
    return loader.upgrade_database(uri)


def show(run_id: str, sources: Sequence[str], options: Options) -> PlannedTree:
    """Return the tree that holds a run, and what it becomes.

    ``run_id`` may be shortened as long as it is unambiguous. Raises OptionError otherwise.
    """
    with fetched(sources, options) as places:
        stores = open_stores(places)
        ids = {entry.entity_id for store in stores for entry in store.index.runs}
        matches = sorted(each for each in ids if each.startswith(run_id))
        if run_id in ids:
            matches = [run_id]
        if len(matches) != 1:
            found = ", ".join(matches[:5]) or "none"
            where = ", ".join(map(masked, sources))
            raise OptionError(
                f"{len(matches)} runs begin with {run_id!r} in {where} ({found}).",
                todo="Give the whole run id; 'mlflow-migrate scan --tree EXPERIMENT' lists them.",
            )
        wanted: list[PlannedTree] = []

        def keep(planned: PlannedTree) -> None:
            if matches[0] in planned.tree.runs:
                wanted.append(planned)

        outcome = _outcome(stores, options, target=None)
        Migration(stores, options, Discard(), outcome, on_tree=keep).run()
        if not wanted and options.experiments:
            raise OptionError(
                f"Run {matches[0]} could not be read in {', '.join(options.experiments)}.",
                todo="Leave --experiment out: it hides the runs of all others.",
            )
        if not wanted:
            raise SourceError(
                f"Run {matches[0]} could not be read.", todo="'mlflow-migrate scan' says why."
            )
        return wanted[0]


def _outcome(stores: Sequence[Store], options: Options, target: str | None) -> Outcome:
    names = tuple(store.name for store in stores)
    return Outcome(__version__, names, target, shard=options.shard)
