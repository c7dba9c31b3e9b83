"""The commands: which stores are opened, where the items go, what is reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from migrator import DEFAULT_SOURCE, DEFAULT_TARGET, __version__, addresses, extractor, loader
from migrator.counting import counted
from migrator.credentials import masked
from migrator.databases import new_targets
from migrator.errors import OptionError, RejectedError, SourceError
from migrator.issues import Issue, Severity
from migrator.loader.schema import release_of
from migrator.model import ArtifactCopy
from migrator.outcome.summary import Outcome
from migrator.pipeline.closing import Walked
from migrator.pipeline.in_place import (
    SharedNewTraces,
    check_whole,
    count_as_there,
    in_place_options,
    in_place_target,
    without_own_traces,
)
from migrator.pipeline.locations import is_below
from migrator.pipeline.options import Options, Paths, as_text, as_texts
from migrator.pipeline.sinks import Discard, Sink, checked_sink
from migrator.pipeline.stores import (
    Progress,
    Say,
    Store,
    fetched,
    name_sources,
    no_progress,
    open_stores,
    run_ids_of,
    say_nothing,
)
from migrator.pipeline.trees import PlannedTree
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


def scan(
    sources: Paths = DEFAULT_SOURCE,
    options: Options | None = None,
    *,
    on_tree: Callable[[PlannedTree], None] | None = None,
    sink: Sink | None = None,
    progress: Progress = no_progress,
    say: Say = say_nothing,
) -> Outcome:
    """Find out what ``convert`` would do with the sources, without a target.

    ``on_tree`` is called with each tree of runs and what becomes of it. ``sink`` gets every item
    that ``convert`` would write. What a server does not give is passed to ``say`` before it is
    read. Raises SourceError and OptionError.
    """
    began = time.monotonic()
    options = options or Options()
    sink = Discard() if sink is None else checked_sink(sink)
    with fetched(sources, options, progress) as places:
        stores = open_stores(places, say)
        outcome = _outcome(stores, options, target=None)
        observer = Observer(on_tree, progress)
        walked = walk_sources(stores, options, sink, outcome, observer=observer)
        walked.check_handed()
        name_sources(stores, outcome)
    outcome.ledger.add_outcome(walked.handed, {})
    outcome.seconds = time.monotonic() - began
    return outcome


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
    to = as_text("The target", to)
    if in_place:
        to = in_place_target(as_texts(sources))
        options = in_place_options(options, to)
    target = _TargetSettings(to, schema, dry_run, backup, stop_on_error, in_place)
    reporting = _ReportSettings(None if report is None else str(report), values)
    if reporting.path is not None:
        check_report_path(reporting.path)
    if addresses.is_http(to):
        from migrator.pipeline.through_rest import check_rest_options

        check_rest_options(options, schema, backup)
        return _convert_into_server(sources, options, target, reporting, progress, say)
    return _convert_into_database(sources, options, target, reporting, progress, say)


def _convert_into_database(
    sources: Paths,
    options: Options,
    settings: _TargetSettings,
    reporting: _ReportSettings,
    progress: Progress,
    say: Say,
) -> Outcome:
    began = time.monotonic()
    if not settings.in_place:
        check_apart(sources, settings.uri)
    target = loader.open_target(settings.uri, settings.schema)
    whole = not settings.dry_run and options.artifacts.mode == "copy"
    with (
        point_of_no_return() as committing,  # outermost: the mirrors' removal comes after, too
        fetched(sources, options, progress, whole=whole) as places,
    ):
        state = None if settings.in_place else state_of(places, options, target)
        may_trust = not (settings.dry_run or reporting.path or options.restore or options.check_all)
        if state is not None and may_trust and target.has_state(state):
            return _unread(places.sources, options, target, began)
        stores = open_stores(places, say)
        outcome = _outcome(stores, options, target=target.uri)
        if settings.in_place:
            check_whole(stores)
        else:
            check_outside(outcome.sources, "--to", target.path)
            check_outside(outcome.sources, "--report", reporting.path or str(target.report_base))
        outcome.dry_run = settings.dry_run
        facts = TargetFacts(
            target.experiments(),
            target.largest_id,
            target.collation_key,
            target.experiments_of_runs,
            target.converted_experiments,
        )
        observer = Observer(progress=progress)
        if settings.dry_run:
            walked = walk_sources(stores, options, Discard(), outcome, facts, observer)
            _finish_dry_run(walked, outcome, settings)
            outcome.seconds = time.monotonic() - began
            if reporting.path is not None:
                reporting.write(outcome, Path(reporting.path))
            return outcome
        with loader.Writer(target) as writer:
            new = SharedNewTraces(writer)
            sink = new if settings.in_place else writer
            walked = walk_sources(stores, options, sink, outcome, facts, observer)
            walked.check_handed()
            _copy_artifacts(walked, progress)
            progress("checking", 0, 0)
            written = writer.finish()
            written.already_there.update(new.stayed)
            walked.check_written(written)
            rejected = walked.redactor.issues(written.issues)
            issues = [*outcome.ledger.issues, *rejected]
            settings.check_rejects(issues)
            progress("publishing", 0, 0)
            result = writer.publish(
                loader.PublishOptions(
                    backup=settings.backup,
                    restore=options.restore,
                    is_alone=options.shard.is_whole,
                    source="" if settings.in_place else places.place,
                    state=state and state_to_keep(state, stores, outcome.artifacts, issues),
                    check_rejects=settings.check_rejects,
                    committing=committing,
                    on_progress=lambda done, total: progress("publishing experiments", done, total),
                )
            )
        result.already_there.update(new.stayed)
        walked.add_result(result)
        if settings.in_place:
            count_as_there(outcome)
        name_sources(stores, outcome)
        outcome.backup = result.backup_path
        outcome.unchanged = result.unchanged and not outcome.artifacts.files_copied
        outcome.schema = target.wanted
        outcome.schema_release = release_of(target.wanted)
        outcome.seconds = time.monotonic() - began
        if not outcome.unchanged or outcome.ledger.has_rejects or reporting.path is not None:
            default = _report_path(target.report_base, outcome)
            reporting.write(outcome, default, like=target.report_base)
        return outcome


def _finish_dry_run(walked: Walked, outcome: Outcome, settings: _TargetSettings) -> None:
    walked.check_handed()
    settings.check_rejects(outcome.ledger.issues)
    name_sources(walked.stores, outcome)
    if settings.in_place:
        outcome.ledger.add_outcome({}, walked.handed)
        count_as_there(outcome)
    else:
        outcome.ledger.add_outcome(walked.handed, {})


def _unread(
    sources: Sequence[extractor.Source], options: Options, target: loader.Target, began: float
) -> Outcome:
    """The result of a conversion that did not have to read the sources."""
    names = tuple(source.name for source in sources)
    outcome = Outcome(__version__, names, target.uri, shard=options.shard)
    outcome.unchanged, outcome.is_read = True, False
    outcome.schema = target.wanted
    outcome.seconds = time.monotonic() - began
    return outcome


def _convert_into_server(
    sources: Paths,
    options: Options,
    settings: _TargetSettings,
    reporting: _ReportSettings,
    progress: Progress,
    say: Say,
) -> Outcome:
    # Most targets are files, and what writes to a server takes a while to load.
    from migrator.loader import rest as server
    from migrator.pipeline.through_rest import RestConversion, convert_through_rest, report_base

    if not settings.in_place:
        check_apart(sources, settings.uri)
    connection = server.open_server(settings.uri)
    whole = not settings.dry_run and options.artifacts.mode != "keep"  # they are sent as well
    try:
        with (
            point_of_no_return() as committing,
            fetched(sources, options, progress, whole=whole) as places,
        ):
            stores = open_stores(places, say)
            outcome = _outcome(stores, options, target=connection.shown)
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


def check_apart(sources: Paths, to: str) -> None:
    """Raise OptionError where the database or server to be written is one of the sources."""
    for source in as_texts(sources):
        if extractor.is_same_database(source, to) or extractor.is_same_server(source, to):
            raise OptionError(
                f"--to {masked(to)} is the source itself, which is only read.",
                todo=f"Name another database (--to {next(new_targets(as_texts(sources)))}), or add "
                "the traces to it: --in-place",
            )


@dataclass(frozen=True, slots=True)
class Exported:
    """What ``export`` sent; ``outcome`` says what was found, as that of ``scan``."""

    outcome: Outcome
    traces: int
    spans: int
    without_spans: int  # native traces whose spans are lost: OTLP can't say them

    def __str__(self) -> str:
        """The sentence that the command prints."""
        traces, spans = counted(self.traces, "trace"), counted(self.spans, "span")
        text = f"Sent {traces} with {spans} to {self.outcome.target}."
        if self.without_spans:
            text += f" Left out: {counted(self.without_spans, 'trace')} without spans."
        return text


def export(
    sources: Paths,
    to: str | Path,
    options: Options | None = None,
    *,
    headers: Sequence[tuple[str, str]] = (),
    progress: Progress = no_progress,
    say: Say = say_nothing,
) -> Exported:
    """Send the traces of the sources, native and rebuilt, to a file or a receiver as OTLP.

    A file appears only when it is complete. ``say`` is that of ``scan``. Raises SourceError,
    OptionError, TargetError, and LedgerError (a defect).
    """
    from migrator import otlp  # its protobuf classes take a while to load

    began = time.monotonic()
    options = options or Options()
    to = as_text("The receiver", to)
    otlp.check_receiver(to, headers)
    if options.artifacts.mode == "copy":
        raise OptionError(
            f"--artifacts {options.artifacts}: export sends traces, and copies no files.",
            todo="Leave it out, or convert with it.",
        )
    with fetched(sources, options, progress) as places:
        stores = open_stores(places, say)
        outcome = _outcome(stores, options, target=masked(to))
        if "://" not in to:
            check_outside(outcome.sources, "--otlp", to)
        receiver = otlp.open_receiver(to, headers)
        try:
            sink = otlp.OtlpSink(receiver)
            observer = Observer(progress=progress)
            walked = walk_sources(stores, options, sink, outcome, observer=observer)
            walked.check_handed()
            sink.flush()
            receiver.close()
        except KeyboardInterrupt as interrupt:
            receiver.discard()
            raise KeyboardInterrupt(f"Interrupted. {receiver.kept()}") from interrupt
        except BaseException:
            receiver.discard()
            raise
        name_sources(stores, outcome)
    outcome.ledger.add_outcome(walked.handed, {})
    outcome.seconds = time.monotonic() - began
    return Exported(outcome, sink.traces, sink.spans, sink.empty)


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


def upgrade(uri: str = DEFAULT_TARGET) -> loader.UpgradeResult:
    """Upgrade a converted database to the schema of the installed MLflow, after a backup.

    Raises TargetError; the database is then as it was.
    """
    return loader.upgrade_database(uri)


def show(
    run_id: str,
    sources: Paths = DEFAULT_SOURCE,
    options: Options | None = None,
    *,
    say: Say = say_nothing,
) -> PlannedTree:
    """Read the tree that holds a run, and decide what it becomes.

    ``run_id`` may be shortened as long as it is unambiguous. Raises OptionError otherwise. ``say``
    is that of ``scan``.
    """
    options = options or Options()
    with fetched(sources, options) as places:
        stores = open_stores(places, say)
        run_id = _complete_id(run_id, stores, as_texts(sources))
        wanted: list[PlannedTree] = []

        def keep(planned: PlannedTree) -> None:
            if run_id in planned.tree.runs:
                wanted.append(planned)

        outcome = _outcome(stores, options, target=None)
        walk_sources(stores, options, Discard(), outcome, observer=Observer(keep))
        if not wanted and options.experiments:
            raise OptionError(
                f"Run {run_id} could not be read in {', '.join(options.experiments)}.",
                todo="Leave --experiment out: it hides the runs of all others.",
            )
        if not wanted:
            raise SourceError(
                f"Run {run_id} could not be read.", todo="'mlflow-migrate scan' says why."
            )
        return wanted[0]


def _complete_id(run_id: str, stores: Sequence[Store], sources: Sequence[str]) -> str:
    """The id of the one run that begins so. Raises OptionError where there is none or several."""
    ids = run_ids_of(stores)
    if run_id in ids:
        return run_id
    matches = sorted(each for each in ids if each.startswith(run_id))
    if len(matches) == 1:
        return matches[0]
    where = ", ".join(map(masked, sources))
    what = f"No run begins with {run_id!r} in {where}."
    if matches:
        found = ", ".join(matches[:5]) + (", …" if len(matches) > 5 else "")
        what = f"{len(matches):,} runs begin with {run_id!r} in {where}: {found}."
    raise OptionError(
        what,
        todo="Give the whole run id; 'mlflow-migrate scan --tree EXPERIMENT' lists them.",
    )


def _outcome(stores: Sequence[Store], options: Options, target: str | None) -> Outcome:
    names = tuple(store.name for store in stores)
    return Outcome(__version__, names, target, shard=options.shard)
