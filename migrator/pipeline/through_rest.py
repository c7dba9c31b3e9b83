"""``convert --to http://…``: the walk twice, once to say what the server can't keep, once to write.

A server's API has no transaction over a conversion, so all that can be known before is known
before: whether the counts close, what would be rejected, what the API has no field for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from migrator import extractor, transformer
from migrator.errors import OptionError
from migrator.issues import Issue, Kind
from migrator.loader import rest as server
from migrator.outcome.summary import Outcome, ServerLimit, ServerSummary
from migrator.paths import shown
from migrator.pipeline.options import Options
from migrator.pipeline.stores import Progress, Store
from migrator.pipeline.walk import Migration
from migrator.report.text import limits_text

Say = Callable[[str], None]


def check_options(options: Options, schema: str | None, backup: bool) -> None:
    """Raise OptionError for what makes no sense where a server is the target."""
    for given, name, why in (
        (schema is not None, "--schema", "the server's database has a schema of its own"),
        (not backup, "--no-backup", "no backup can be made through a server's API"),
        (options.shard != (1, 1), "--shard", "new ids of runs are known to the job that made them"),
        (options.executor is not None, "--dask", "it waits for the server, not for the reading"),
        (
            options.artifacts.startswith("copy:"),
            f"--artifacts {options.artifacts}",
            "a server decides itself where artifacts lie",
        ),
    ):
        if given:
            raise OptionError(
                f"{name} does not go with a server as the target: {why}.", todo="Leave it out."
            )
    if options.redact and options.artifacts != "keep":
        raise OptionError(
            "--redact and a server as the target: the artifacts would be sent as they are, with "
            "what is to be masked.",
            todo="Add --artifacts keep, which sends none.",
        )


def to_server(
    stores: Sequence[Store],
    connection: server.Connection,
    options: Options,
    outcome: Outcome,
    *,
    dry_run: bool,
    check_rejects: Callable[[Sequence[Issue]], None],
    say: Say,
    progress: Progress,
) -> None:
    """Write the sources through a server's API, or only say what that would do; fills ``outcome``.

    Raises TargetError, OptionError, RejectedError, and LedgerError (a defect).
    """
    began = time.monotonic()
    there = {_handle(each): each for each in server.existing_experiments(connection)}
    existing = [(handle, each.name) for handle, each in there.items()]
    survey = server.Survey()
    first = Outcome(outcome.version, outcome.sources, outcome.target)
    trial = outcome if dry_run else first
    trial.server = summary = ServerSummary(connection.version)
    migration = Migration(
        stores, options, survey, trial, existing=existing, largest_id=None, progress=progress
    )
    migration.run()
    migration.check_handed()
    check_rejects(trial.ledger.issues)
    summary.limits = tuple(
        ServerLimit(limit.name, limit.what, n, limit.why, limit.instead)
        for limit, n in survey.found(connection.release)
    )
    if dry_run:
        outcome.ledger.add_outcome(migration.handed, {})
    else:
        if summary.limits:
            say(limits_text(summary))
        outcome.server = summary
        publisher = server.Publisher(
            connection,
            there,
            files_of=None if options.artifacts == "keep" else _files_of(stores),
            progress=progress,
            runs_in_all=trial.ledger.found[Kind.RUN],
        )
        _write(stores, publisher, options, outcome, existing, progress)
    outcome.seconds = time.monotonic() - began


def _write(
    stores: Sequence[Store],
    publisher: server.Publisher,
    options: Options,
    outcome: Outcome,
    existing: Sequence[tuple[int, str]],
    progress: Progress,
) -> None:
    migration = Migration(
        stores, options, publisher, outcome, existing=existing, largest_id=None, progress=progress
    )
    migration.run()
    migration.check_handed()
    result = publisher.finish()
    migration.add_result(result)
    summary = outcome.server
    assert summary is not None
    summary.files_sent, summary.bytes_sent = result.files_sent, result.bytes_sent
    summary.ids = {kind.value: dict(ids) for kind, ids in result.ids.items() if ids}
    for experiment in outcome.experiments:
        experiment.target_id = int(publisher.experiment_id(experiment.target_id))


def _handle(there: server.ExistingExperiment) -> int:
    """Return the id by which plans know an experiment of the server."""
    if there.source is not None:
        return transformer.experiment_handle(*there.source)
    return -1 - int(there.experiment_id)  # no plan has such a one


def _files_of(stores: Sequence[Store]) -> Callable[[str], Iterable[tuple[str, str, int]]]:
    def files(directory: str) -> Iterable[tuple[str, str, int]]:
        bounds = [store.source.artifact_bound(directory) for store in stores]
        bound = next((bound for bound in bounds if bound != directory), directory)
        for name, path, size in extractor.artifact_files(directory, bound):
            yield shown(name), path, size

    return files


def report_base(uri: str) -> Path:
    """Return what the report of a conversion is called after: the server's name, right here."""
    parts = urlsplit(uri)
    return Path(f"{parts.hostname}-{parts.port}" if parts.port else str(parts.hostname))
