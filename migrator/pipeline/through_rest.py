"""``convert --to http://…``: the walk twice, once to say what the server can't keep, once to write.

A server's API has no transaction over a conversion. So all that can be known before is found out
before: whether the counts close, what would be rejected, what the API has no field for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from migrator import conventions, extractor, transformer
from migrator.errors import OptionError
from migrator.issues import Issue, Kind
from migrator.loader import rest as server
from migrator.outcome.summary import Outcome, ServerLimit, ServerSummary
from migrator.paths import readable_path
from migrator.pipeline.closing import Walked
from migrator.pipeline.in_place import NewTraces, TracesOnly, count_as_there
from migrator.pipeline.options import Options
from migrator.pipeline.sinks import Sink
from migrator.pipeline.stores import Progress, Say, Store
from migrator.pipeline.walk import walk_sources
from migrator.pipeline.walk_context import Observer, TargetFacts
from migrator.report.text import limits_text


def check_rest_options(options: Options, schema: str | None, backup: bool) -> None:
    """Raise OptionError for what makes no sense where a server is the target."""
    for is_given, name, why in (
        (schema is not None, "--schema", "the server's database has a schema of its own"),
        (not backup, "--no-backup", "no backup can be made through a server's API"),
        (
            not options.shard.is_whole,
            "--shard",
            "new ids of runs are known to the job that made them",
        ),
        (options.executor is not None, "--dask", "it waits for the server, not for the reading"),
        (
            options.artifacts.mode == "copy",
            f"--artifacts {options.artifacts}",
            "a server decides itself where artifacts lie",
        ),
    ):
        if is_given:
            raise OptionError(
                f"{name} does not go with a server as the target: {why}.", todo="Leave it out."
            )
    if options.redact and options.artifacts.mode != "keep":
        raise OptionError(
            "--redact and a server as the target: the artifacts would be sent as they are, with "
            "what is to be masked.",
            todo="Add --artifacts keep, which sends none.",
        )


@dataclass(frozen=True, slots=True)
class RestConversion:
    """What is converted through a server's API, and how."""

    stores: Sequence[Store]
    connection: server.Connection
    options: Options
    progress: Progress
    in_place: bool = False  # the server is the source, and only traces are added

    def existing(self) -> dict[int, server.ServedExperiment]:
        """The experiments of the server by the ids of plans: in place these are its own."""
        found = server.existing_experiments(self.connection)
        if self.in_place:
            return {int(each.experiment_id): each for each in found}
        return {_handle(each): each for each in found}

    def walk(
        self, sink: Sink, outcome: Outcome, there: Mapping[int, server.ServedExperiment]
    ) -> Walked:
        """Walk the sources once, and check that all that was found is accounted for."""
        existing = [each.as_existing(handle) for handle, each in there.items()]
        facts = TargetFacts(
            existing,
            largest_id=conventions.INT64_MAX if self.in_place else None,
            experiments_of_runs=server.RunLocations(self.connection, there).experiments_of,
        )
        observer = Observer(progress=self.progress)
        walked = walk_sources(self.stores, self.options, sink, outcome, facts, observer)
        walked.check_handed()
        return walked


def convert_through_rest(
    conversion: RestConversion,
    outcome: Outcome,
    check_rejects: Callable[[Sequence[Issue]], None],
    say: Say,
) -> None:
    """Write the sources through a server's API; in a dry run only report what that would do.

    Fills ``outcome``. Raises TargetError, OptionError, RejectedError, and LedgerError (a defect).
    """
    began = time.monotonic()
    connection, options = conversion.connection, conversion.options
    there = conversion.existing()
    survey = server.Survey()
    is_dry = outcome.dry_run
    trial = outcome if is_dry else Outcome(outcome.version, outcome.sources, outcome.target)
    trial.server = summary = ServerSummary(connection.version)
    walked = conversion.walk(TracesOnly(survey) if conversion.in_place else survey, trial, there)
    check_rejects(trial.ledger.issues)
    summary.limits = tuple(
        ServerLimit(limit.name, limit.what, n, limit.why, limit.instead)
        for limit, n in survey.found(connection.release)
    )
    if is_dry and conversion.in_place:
        outcome.ledger.add_outcome({}, walked.handed)
    elif is_dry:
        outcome.ledger.add_outcome(walked.handed, {})
    else:
        if summary.limits:
            say(limits_text(summary))
        outcome.server = summary
        sends_files = options.artifacts.mode != "keep"
        settings = server.PublishSettings(
            files_of=_files_of(conversion.stores) if sends_files else None,
            in_place=conversion.in_place,
            restore=options.restore,
        )
        runs_in_all = trial.ledger.found[Kind.RUN]
        publisher = server.Publisher(
            connection,
            there,
            settings,
            on_runs=lambda done: conversion.progress("runs sent", done, runs_in_all),
        )
        _write(conversion, publisher, outcome, there, summary)
    if conversion.in_place:
        count_as_there(outcome)
    outcome.seconds = time.monotonic() - began


def _write(
    conversion: RestConversion,
    publisher: server.Publisher,
    outcome: Outcome,
    there: Mapping[int, server.ServedExperiment],
    summary: ServerSummary,
) -> None:
    new = NewTraces(publisher)
    with conversion.connection.needed():
        walked = conversion.walk(new if conversion.in_place else publisher, outcome, there)
        result = publisher.finish()
    result.already_there.update(new.stayed)
    walked.add_result(result)
    summary.files_sent, summary.bytes_sent = result.files_sent, result.bytes_sent
    summary.ids = {kind.value: dict(ids) for kind, ids in result.ids.items() if ids}
    outcome.experiments = [
        replace(each, target_id=int(publisher.experiment_id(each.target_id)))
        for each in outcome.experiments
    ]


def _handle(there: server.ServedExperiment) -> int:
    """The id by which plans know an experiment of the server."""
    if there.source is not None:
        return transformer.experiment_handle(*there.source)
    return -1 - int(there.experiment_id)  # no plan has such a one


def _files_of(stores: Sequence[Store]) -> Callable[[str], Iterable[tuple[str, str, int]]]:
    def files(directory: str) -> Iterable[tuple[str, str, int]]:
        bounds = [store.source.artifact_bound(directory) for store in stores]
        bound = next((bound for bound in bounds if bound != directory), directory)
        for name, path, size in extractor.artifact_files(directory, bound):
            yield readable_path(name), path, size

    return files


def report_base(uri: str) -> Path:
    """The path that a report's name begins with: the server's name, in the current directory."""
    parts = urlsplit(uri)
    return Path(f"{parts.hostname}-{parts.port}" if parts.port else str(parts.hostname))
