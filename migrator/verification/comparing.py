"""``verify``: reads the sources again, with a comparer in place of what writes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from migrator import DEFAULT_SOURCE, DEFAULT_TARGET, __version__, addresses, extractor, pipeline
from migrator.credentials import masked
from migrator.errors import OptionError
from migrator.loader.rest import open_server
from migrator.outcome.summary import Outcome
from migrator.pipeline.options import as_texts
from migrator.verification.database import DatabaseComparer
from migrator.verification.findings import VerifyResult
from migrator.verification.garbage import rare_collections
from migrator.verification.rest import RestComparer


def verify(
    sources: pipeline.Paths = DEFAULT_SOURCE,
    against: str | Path = DEFAULT_TARGET,
    options: pipeline.Options | None = None,
    progress: pipeline.Progress = pipeline.no_progress,
    say: pipeline.Say = pipeline.say_nothing,
) -> VerifyResult:
    """Read the sources again, and compare what they should have become with the target.

    ``against`` is a database or the address of an MLflow server. ``options`` must be those of the
    conversion: with another choice for artifacts, every location would differ. Copied artifacts are
    compared byte for byte. What a server as the source does not give is passed to ``say`` before it
    is read. Raises SourceError, OptionError and TargetError.

        result = verify(["mlruns"], "sqlite:///mlflow.db", pipeline.Options())
        assert result.same, result.as_text()
    """
    options = options or pipeline.Options()
    against = pipeline.as_text("The target", against)
    if not options.shard.is_whole:
        raise OptionError(
            "verify compares complete sources, and a shard is only a part of one.",
            todo="Verify when all shards are converted, without a shard.",
        )
    if addresses.is_http(against):
        return _verify_server(sources, against, options, progress, say)
    copies = options.artifacts.mode == "copy"
    comparer = DatabaseComparer(against, joined=options.on_conflict == "merge")
    with pipeline.fetched(
        sources, options, progress, whole=copies, keeps_workspaces=comparer.has_workspaces
    ) as places:
        stores = pipeline.open_stores(places, say)
        options = replace(options, executor=None)  # another machine may not have the database
        outcome = Outcome(__version__, tuple(store.name for store in stores), against)
        facts = pipeline.TargetFacts(
            comparer.experiments(),
            comparer.largest_id,
            comparer.collation_key,
            comparer.experiments_of_runs,
        )
        observer = pipeline.Observer(progress=progress)
        with rare_collections():
            walked = pipeline.walk_sources(stores, options, comparer, outcome, facts, observer)
            comparer.compare_copies(walked.locations.copies)
            result = replace(comparer.finish(), hollow=outcome.artifacts.hollow)
        return walked.redactor.value(result)


def _verify_server(
    sources: pipeline.Paths,
    against: str,
    options: pipeline.Options,
    progress: pipeline.Progress,
    say: pipeline.Say,
) -> VerifyResult:
    for source in as_texts(sources):
        if extractor.is_same_server(source, against):
            raise OptionError(
                f"--against {masked(against)} is the source itself.",
                todo="Give what it was converted into.",
            )
    # MLflow's client would retry for minutes at a server that is gone.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    open_server(against, to_read=True)
    whole = options.artifacts.mode != "keep"  # then they were sent, and are compared
    with pipeline.fetched(sources, options, progress, whole=whole) as places:
        stores = pipeline.open_stores(places, say)
        comparer = RestComparer(against, files=whole)
        outcome = Outcome(__version__, tuple(store.name for store in stores), against)
        walked = pipeline.walk_sources(
            stores,
            options,
            comparer,
            outcome,
            pipeline.TargetFacts(
                comparer.experiments(),
                largest_id=None,
                experiments_of_runs=comparer.experiments_of_runs,
            ),
            pipeline.Observer(progress=progress),
        )
        result = replace(comparer.finish(), hollow=outcome.artifacts.hollow)
        return walked.redactor.value(result)
