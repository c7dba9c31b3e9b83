"""mlflow-migrate: MLflow file stores to MLflow 3.9, nested runs as traces.

The commands as functions, with the options and defaults of the command line::

    import migrator

    found = migrator.scan("./mlruns")
    done = migrator.convert("./mlruns", to="sqlite:///mlflow.db", on_conflict="merge")

The options are those of ``migrator.pipeline.Options``. Importing this module is cheap: the code
behind a function is imported when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from migrator.outcome.summary import Outcome
    from migrator.pipeline import Exported, PlannedTree
    from migrator.pipeline.options import Paths

__version__ = "0.1.0"

DEFAULT_SOURCE = "./mlruns"
DEFAULT_TARGET = "sqlite:///mlflow.db"


def scan(sources: Paths = DEFAULT_SOURCE, **options: Any) -> Outcome:
    """Find out what ``convert`` would do with the sources. Nothing is written.

    Raises SourceError and OptionError.
    """
    from migrator import pipeline

    return pipeline.scan(sources, pipeline.Options(**options))


def convert(
    sources: Paths = DEFAULT_SOURCE,
    to: str = DEFAULT_TARGET,
    *,
    schema: str | None = None,
    dry_run: bool = False,
    report: str | Path | None = None,
    **options: Any,
) -> Outcome:
    """Write the sources into the database at ``to``, completely or not at all.

    ``schema``, ``dry_run`` and ``report`` are the command line's; ``pipeline.convert`` has more
    settings. Raises SourceError, OptionError, TargetError, and LedgerError (a defect); the target
    is untouched then.
    """
    from migrator import pipeline

    chosen = pipeline.Options(**options)
    return pipeline.convert(sources, to, chosen, schema=schema, dry_run=dry_run, report=report)


def show(run_id: str, sources: Paths = DEFAULT_SOURCE, **options: Any) -> PlannedTree:
    """Read the tree that holds a run, and decide what it becomes; ``run_id`` may be shortened.

    Raises SourceError and OptionError.
    """
    from migrator import pipeline

    return pipeline.show(run_id, sources, pipeline.Options(**options))


def export(sources: Paths, to: str, **options: Any) -> Exported:
    """Send the traces of the sources to a file or an OTLP receiver.

    Raises SourceError, OptionError, TargetError, and LedgerError (a defect).
    """
    from migrator import pipeline

    return pipeline.export(sources, to, pipeline.Options(**options))
