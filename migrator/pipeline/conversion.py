"""``convert``: from the sources to a database that is published whole, or to a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from migrator import DEFAULT_SOURCE, DEFAULT_TARGET, __version__, addresses, extractor, loader
from migrator.credentials import masked
from migrator.databases import new_targets
from migrator.empty_database import has_workspaces
from migrator.errors import OptionError, RejectedError
from migrator.issues import Issue, Severity
from migrator.loader.schema import release_of
from migrator.model import ArtifactCopy
from migrator.outcome.summary import Outcome
from migrator.pipeline.closing import Walked
from migrator.pipeline.in_place import (
    SharedNewTraces,
    check_experiments,
    check_whole,
    count_as_there,
    in_place_options,
    in_place_target,
    without_own_traces,
)
from migrator.pipeline.locations import is_below
from migrator.pipeline.options import Options, Paths, as_text, as_texts
from migrator.pipeline.sinks import Discard
from migrator.pipeline.stores import (
    Opened,
    Progress,
    Say,
    Store,
    fetched,
    name_sources,
    new_outcome,
    no_progress,
    open_stores,
    say_nothing,
)
from migrator.pipeline.unchanged import state_of, state_to_keep
from migrator.pipeline.walk import walk_sources
from migrator.pipeline.walk_context import Observer, TargetFacts
from migrator.report.files import (
    check_report_path,
    first_report_path,
    free_report_path,
    write_report,
)
from migrator.signals import point_of_no_return


@dataclass(frozen=True, slots=True)
class _TargetSettings:
    """Where a conversion writes, and how."""

    uri: str
    schema: str | None  # 3.9 or latest; None for that of the installed MLflow
    dry_run: bool
    backup: bool
    stop_on_error: bool
    in_place: bool = False  # the source is the target, and only traces are added

    def check_rejects(self, issues: Sequence[Issue]) -> None:
        """Raise RejectedError for the first rejection, if that is to end the conversion."""
        if self.stop_on_error:
            _refuse_rejects(issues)


@dataclass(frozen=True, slots=True)
class _ReportSettings:
    """Where the report of a conversion goes, and what it shows."""

    path: str | None  # None for a new file beside the target
    has_values: bool  # shows the source's own words

    def write(self, outcome: Outcome, default: Path, like: Path | None = None) -> None:
        """Write the report. When that fails, all else is done, and the outcome says both.

        It is as private as the database ``like``, and as the first report of that.
        """
        path = default if self.path is None else Path(self.path)
        outcome.report_path = str(path)
        private_as = [] if like is None else [like, first_report_path(like)]
        try:
            write_report(outcome, path, self.has_values, private_as)
        except OSError as error:
            outcome.report_path = None
            outcome.report_problem = (
                f"{outcome.done}, but the report could not be written to {path}: "
                f"{error.strerror or error}. Convert again, which changes nothing, with --report "
                "and another file."
            )


def _refuse_rejects(issues: Sequence[Issue]) -> None:
    for issue in issues:
        if issue.severity is Severity.REJECTED:
            where = f"{issue.path}: " if issue.path else ""
            raise RejectedError(
                f"{issue.code.value}: {where}{issue.message} Nothing was written (--on-error "
                "stop).",
                todo=f"{issue.code.action} Or convert the rest with --on-error skip.",
            )


@dataclass(frozen=True, slots=True)
class _Request:
    """What the user asked ``convert`` for."""

    sources: Paths
    options: Options
    target: _TargetSettings
    report: _ReportSettings
    progress: Progress
    say: Say

    @property
    def may_skip_reading(self) -> bool:
        """Whether sources that have not changed need not be read."""
        options = self.options
        is_report_asked = self.target.dry_run or self.report.path is not None
        return not (is_report_asked or options.restore or options.check_all)


def convert(
    sources: Paths = DEFAULT_SOURCE,
    to: str | Path = DEFAULT_TARGET,
    options: Options | None = None,
    *,
    schema: str | None = None,
    dry_run: bool = False,
    report: str | Path | None = None,
    values: bool = False,
    backup: bool = True,
    stop_on_error: bool = False,
    in_place: bool = False,
    progress: Progress = no_progress,
    say: Say = say_nothing,
) -> Outcome:
    """Write the sources into the database at ``to``, completely or not at all.

    The report goes to ``report``, or to a new file beside the target, which is not written if
    nothing is new and nothing is rejected; ``values`` shows the
    source's own words in it. With ``stop_on_error`` the first thing that is rejected ends the
    conversion. With ``in_place`` the source is a database or a server, which gets the traces made
    of its runs, and ``to`` is ignored. Raises SourceError, OptionError, TargetError,
    RejectedError, and LedgerError (a defect); the target is untouched then.

    A server (``http://…``) is written through its API. What that can't keep is passed to ``say``
    before anything is written, and what an error leaves half done the next conversion completes.
    What a server as the source does not give is passed to ``say`` before it is read.
    """
    options = options or Options()
    if in_place:
        uri = in_place_target(as_texts(sources))
        options = in_place_options(options, uri)
    else:
        uri = as_text("The target", to)
    target = _TargetSettings(uri, schema, dry_run, backup, stop_on_error, in_place)
    reporting = _ReportSettings(None if report is None else str(report), values)
    if reporting.path is not None:
        check_report_path(reporting.path)
    request = _Request(sources, options, target, reporting, progress, say)
    if addresses.is_http(uri):
        from migrator.pipeline.through_rest import check_rest_options

        check_rest_options(options, schema, backup)
        return _convert_into_server(request)
    return _convert_into_database(request)


def _convert_into_database(request: _Request) -> Outcome:
    began = time.monotonic()
    options, settings = request.options, request.target
    if not settings.in_place:
        _check_apart(request.sources, settings.uri)
    target = loader.open_target(settings.uri, settings.schema)
    whole = not settings.dry_run and options.artifacts.mode == "copy"
    with (
        point_of_no_return() as committing,  # outermost: the mirrors' removal comes after, too
        fetched(
            request.sources,
            options,
            request.progress,
            whole=whole,
            keeps_workspaces=has_workspaces(target.wanted),
        ) as places,
    ):
        state = None if settings.in_place else state_of(places, options, target)
        if state is not None and request.may_skip_reading and target.has_state(state):
            outcome = _unread(places, options, target)
            outcome.seconds = time.monotonic() - began
            return outcome
        stores = open_stores(places, request.say)
        outcome = new_outcome(stores, options, target.uri)
        outcome.dry_run = settings.dry_run
        _check_places(request, stores, outcome, target)
        if settings.dry_run:
            _try_out(request, stores, outcome, target)
        else:
            publishing = _publishing(request, places, state, committing)
            _write(request, stores, outcome, target, publishing)
        name_sources(stores, outcome)
        outcome.seconds = time.monotonic() - began
        _report(request, outcome, target)
        return outcome


def _unread(places: Opened, options: Options, target: loader.Target) -> Outcome:
    """The result of a conversion that did not have to read the sources."""
    names = tuple(source.name for source in places.sources)
    outcome = Outcome(__version__, names, target.uri, shard=options.shard)
    outcome.unchanged, outcome.is_read = True, False
    outcome.schema = target.wanted
    return outcome


def _check_places(
    request: _Request, stores: Sequence[Store], outcome: Outcome, target: loader.Target
) -> None:
    """Check that nothing will be written into a source, or the whole source in place."""
    if request.target.in_place:
        check_whole(stores)
        check_experiments(target.experiments())
        return
    check_outside(outcome.sources, "--to", target.path)
    check_outside(outcome.sources, "--report", request.report.path or str(target.report_base))


def _facts_of(target: loader.Target) -> TargetFacts:
    return TargetFacts(
        target.experiments(),
        target.largest_id,
        target.collation_key,
        target.experiments_of_runs,
        target.converted_experiments,
    )


def _try_out(
    request: _Request, stores: Sequence[Store], outcome: Outcome, target: loader.Target
) -> None:
    """Find out what a conversion would write; fills ``outcome``."""
    observer = Observer(progress=request.progress)
    facts = _facts_of(target)
    walked = walk_sources(stores, request.options, Discard(), outcome, facts, observer)
    walked.check_handed()
    request.target.check_rejects(outcome.ledger.issues)
    if request.target.in_place:
        outcome.ledger.add_outcome({}, walked.handed)
        count_as_there(outcome)
    else:
        outcome.ledger.add_outcome(walked.handed, {})


def _publishing(
    request: _Request,
    places: Opened,
    state: loader.SourceState | None,
    committing: Callable[[], None],
) -> loader.PublishOptions:
    progress = request.progress
    return loader.PublishOptions(
        backup=request.target.backup,
        restore=request.options.restore,
        is_alone=request.options.shard.is_whole,
        source="" if request.target.in_place else places.place,
        state=state,
        check_rejects=request.target.check_rejects,
        committing=committing,
        on_progress=lambda done, total: progress("publishing experiments", done, total),
    )


def _write(
    request: _Request,
    stores: Sequence[Store],
    outcome: Outcome,
    target: loader.Target,
    publishing: loader.PublishOptions,
) -> None:
    """Write the sources into a staging database, check it, and publish it; fills ``outcome``."""
    is_in_place = request.target.in_place
    observer = Observer(progress=request.progress)
    facts = _facts_of(target)
    with loader.Writer(target) as writer:
        new = SharedNewTraces(writer)
        sink = new if is_in_place else writer
        walked = walk_sources(stores, request.options, sink, outcome, facts, observer)
        walked.check_handed()
        _copy_artifacts(walked, request.progress)
        request.progress("checking", 0, 0)
        written = writer.finish()
        written.already_there.update(new.stayed)
        walked.check_written(written)
        issues = [*outcome.ledger.issues, *walked.redactor.issues(written.issues)]
        request.target.check_rejects(issues)
        request.progress("publishing", 0, 0)
        if publishing.state is not None:
            state = state_to_keep(publishing.state, stores, outcome.artifacts, issues)
            publishing = replace(publishing, state=state)
        result = writer.publish(publishing)
    result.already_there.update(new.stayed)
    walked.add_result(result)
    if is_in_place:
        count_as_there(outcome)
    outcome.backup = result.backup_path
    outcome.unchanged = result.unchanged and not outcome.artifacts.files_copied
    outcome.schema = target.wanted
    outcome.schema_release = release_of(target.wanted)


def _report(request: _Request, outcome: Outcome, target: loader.Target) -> None:
    """Write the report, unless there is nothing to report and nobody asked for it."""
    is_asked = request.report.path is not None
    if outcome.dry_run:
        if is_asked:
            request.report.write(outcome, target.report_base)
    elif is_asked or not outcome.unchanged or outcome.ledger.has_rejects:
        default = _report_path(target.report_base, outcome)
        request.report.write(outcome, default, like=target.report_base)


def _convert_into_server(request: _Request) -> Outcome:
    # Most targets are files, and what writes to a server takes a while to load.
    from migrator.loader import rest as server
    from migrator.pipeline.through_rest import RestConversion, convert_through_rest, report_base

    options, settings, reporting = request.options, request.target, request.report
    progress, say = request.progress, request.say
    if not settings.in_place:
        _check_apart(request.sources, settings.uri)
    connection = server.open_server(settings.uri)
    whole = not settings.dry_run and options.artifacts.mode != "keep"  # they are sent as well
    try:
        with (
            point_of_no_return() as committing,
            fetched(request.sources, options, progress, whole=whole) as places,
        ):
            stores = open_stores(places, say)
            outcome = new_outcome(stores, options, connection.shown)
            outcome.dry_run = settings.dry_run
            if reporting.path is not None:
                check_outside(outcome.sources, "--report", reporting.path)
            if settings.in_place:
                stores = [without_own_traces(store) for store in stores]
            conversion = RestConversion(stores, connection, options, progress, settings.in_place)
            with nullcontext() if settings.dry_run else server.alone(connection, say):
                convert_through_rest(conversion, outcome, settings.check_rejects, say)
            committing()
            name_sources(stores, outcome)
            if reporting.path is not None or not settings.dry_run:
                reporting.write(outcome, free_report_path(report_base(settings.uri)))
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"Interrupted. {connection.written_so_far()}") from interrupt
    return outcome


def _report_path(target: Path, outcome: Outcome) -> Path:
    """A free name beside the target; shards that run at once have one each."""
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


def _check_apart(sources: Paths, to: str) -> None:
    """Raise OptionError where the database or server to be written is one of the sources."""
    for source in as_texts(sources):
        if extractor.is_same_database(source, to) or extractor.is_same_server(source, to):
            raise OptionError(
                f"--to {masked(to)} is the source itself, which is only read.",
                todo=f"Name another database (--to {next(new_targets(as_texts(sources)))}), or add "
                "the traces to it: --in-place",
            )


def _files_of(copy: ArtifactCopy) -> Iterator[extractor.StoredFile]:
    return extractor.artifact_files(copy.source, copy.bound)


def _copy_artifacts(walked: Walked, progress: Progress) -> None:
    """Make the copies that were decided, before anything refers to them. Raises TargetError."""
    locations = walked.locations
    directory = locations.choice.directory
    if directory is None:
        return

    def on_progress(done: int, total: int) -> None:
        progress("copying artifacts, bytes", done, total)

    if locations.choice.is_remote:
        result = loader.copy_to_object_store(
            locations.copies, directory, _files_of, on_progress=on_progress
        )
    else:
        result = loader.copy_artifacts(
            locations.copies,
            directory,
            _files_of,
            protected=[folder for store in walked.stores for folder in store.source.folders[1:]],
            on_progress=on_progress,
        )
    summary = locations.summary
    summary.files_copied, summary.bytes_copied = result.files, result.bytes
    summary.files_there, summary.files_failed = result.already_there, result.failed
    walked.ledger.add_issues(result.issues)
