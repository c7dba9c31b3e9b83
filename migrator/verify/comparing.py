"""``verify``: reads the sources again, with a comparer in place of what writes."""

from __future__ import annotations

import os

from migrator import DEFAULT_SOURCE, DEFAULT_TARGET, __version__, addresses, pipeline
from migrator.errors import OptionError
from migrator.loader.rest import open_server
from migrator.outcome.summary import Outcome
from migrator.verify.database import DatabaseComparer
from migrator.verify.findings import VerifyResult
from migrator.verify.rest import RestComparer


def verify(
    sources: pipeline.Paths = DEFAULT_SOURCE,
    against: str = DEFAULT_TARGET,
    options: pipeline.Options | None = None,
    progress: pipeline.Progress = pipeline.no_progress,
) -> VerifyResult:
    """Read the sources again, and compare what they should have become with the target.

    ``against`` is a database or the address of an MLflow server. ``options`` must be those of the
    conversion: with another choice for artifacts, every location would differ. Copied artifacts are
    compared byte for byte. Raises SourceError, OptionError and TargetError.

        result = verify(["mlruns"], "sqlite:///mlflow.db", pipeline.Options())
        assert result.same, result.as_text()
    """
    options = options or pipeline.Options()
    if not options.shard.is_whole:
        raise OptionError(
            "verify compares complete sources, and a shard is only a part of one.",
            todo="Verify when all shards are converted, without a shard.",
        )
    if addresses.is_http(against):
        return _verify_server(sources, against, options, progress)
    copies = options.artifacts.mode == "copy"
    with pipeline.fetched(sources, options, progress, whole=copies) as places:
        stores = pipeline.open_stores(places, progress)
        comparer = DatabaseComparer(against, joined=options.on_conflict == "merge")
        walked = pipeline.walk_sources(
            stores,
            options,
            comparer,
            Outcome(__version__, tuple(store.name for store in stores), against),
            pipeline.TargetFacts(
                comparer.experiments(), comparer.largest_id, comparer.collation_key
            ),
            pipeline.Observer(progress=progress),
        )
        comparer.compare_copies(walked.locations.copies)
        return walked.redactor.value(comparer.finish())


def _verify_server(
    sources: pipeline.Paths, against: str, options: pipeline.Options, progress: pipeline.Progress
) -> VerifyResult:
    # MLflow's client would retry for minutes at a server that is gone.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    open_server(against, to_read=True)
    whole = options.artifacts.mode != "keep"  # then they were sent, and are compared
    with pipeline.fetched(sources, options, progress, whole=whole) as places:
        stores = pipeline.open_stores(places, progress)
        comparer = RestComparer(against, files=whole)
        walked = pipeline.walk_sources(
            stores,
            options,
            comparer,
            Outcome(__version__, tuple(store.name for store in stores), against),
            pipeline.TargetFacts(comparer.experiments(), largest_id=None),
            pipeline.Observer(progress=progress),
        )
        return walked.redactor.value(comparer.finish())
