"""``verify``: reads the sources again, with a comparer in place of what writes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from migrator import __version__, addresses, pipeline
from migrator.errors import OptionError
from migrator.loader.rest import open_server
from migrator.outcome.summary import Outcome
from migrator.verify.database import DatabaseComparer
from migrator.verify.findings import VerifyResult
from migrator.verify.rest import RestComparer


def verify(
    sources: Sequence[str],
    against: str,
    options: pipeline.Options,
    progress: pipeline.Progress = pipeline.no_progress,
) -> VerifyResult:
    """Read the sources again, and compare what they should have become with the target.

    ``against`` is a database or the address of an MLflow server. ``options`` must be those of the
    conversion: with another choice for artifacts, every location would differ. Copied artifacts are
    compared byte for byte. Raises SourceError, OptionError and TargetError.

        result = verify(["mlruns"], "sqlite:///mlflow.db", pipeline.Options())
        assert result.same, result.as_text()
    """
    if options.shard != (1, 1):
        raise OptionError(
            "verify compares complete sources, and a shard is only a part of one.",
            todo="Verify when all shards are converted, without a shard.",
        )
    if addresses.is_server(against):
        return _verify_server(sources, against, options, progress)
    copies = options.artifacts.startswith("copy:")
    with pipeline.fetched(sources, options, progress, whole=copies) as places:
        stores = pipeline.open_stores(places, progress)
        comparer = DatabaseComparer(against, joined=options.on_conflict == "merge")
        migration = pipeline.Migration(
            stores,
            options,
            comparer,
            Outcome(__version__, tuple(store.name for store in stores), against),
            existing=comparer.experiments(),
            largest_id=comparer.largest_id,
            name_key=comparer.collation_key,
            progress=progress,
        )
        migration.run()
        comparer.compare_copies(migration.locations.copies)
        return migration.redactor.value(comparer.finish())


def _verify_server(
    sources: Sequence[str], against: str, options: pipeline.Options, progress: pipeline.Progress
) -> VerifyResult:
    # MLflow's client would retry for minutes at a server that is gone.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    open_server(against, to_read=True)
    whole = options.artifacts != "keep"  # then they were sent, and are compared
    with pipeline.fetched(sources, options, progress, whole=whole) as places:
        stores = pipeline.open_stores(places, progress)
        comparer = RestComparer(against, files=whole)
        migration = pipeline.Migration(
            stores,
            options,
            comparer,
            Outcome(__version__, tuple(store.name for store in stores), against),
            existing=comparer.experiments(),
            largest_id=None,
            progress=progress,
        )
        migration.run()
        return migration.redactor.value(comparer.finish())
