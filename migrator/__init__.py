"""mlflow-migrate: MLflow's stores, databases and servers to MLflow 3.9, nested runs as traces.

The commands as functions, with the options and defaults of the command line::

    import migrator

    found = migrator.scan("./mlruns")
    done = migrator.convert("./mlruns", to="sqlite:///mlflow.db", on_conflict="merge")
    assert migrator.verify("./mlruns", "sqlite:///mlflow.db").same
    found.runs(), found.traces(), found.issues()  # pandas data frames

The options are those of ``migrator.pipeline.Options``. Importing this module is cheap: the code
behind a function is imported when it is called. Every error that a user can cause is a
``MigrateError``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from migrator.errors import MigrateError
    from migrator.pipeline import BaseSink, Exported, PlannedTree, Progress, Sink
    from migrator.pipeline.options import Paths
    from migrator.results import Result
    from migrator.verification import VerifyResult

__all__ = [
    "BaseSink",
    "MigrateError",
    "__version__",
    "convert",
    "export",
    "scan",
    "show",
    "verify",
]  # fmt: skip

__version__ = "0.1.0"

DEFAULT_SOURCE = "./mlruns"
DEFAULT_TARGET = "sqlite:///mlflow.db"


def scan(
    sources: Paths = DEFAULT_SOURCE,
    *,
    sink: Sink | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Find out what ``convert`` would do with the sources. Nothing is written.

    ``sink`` gets every item that ``convert`` would write; derive it from ``BaseSink``.
    ``progress(stage, done, total)`` is called while it works. Raises SourceError and OptionError.
    """
    from migrator import pipeline
    from migrator.results import Result

    chosen = pipeline.Options.of(options)
    outcome = pipeline.scan(
        sources, chosen, sink=sink, progress=pipeline.checked_progress(progress)
    )
    return Result(outcome, sources, chosen)


def convert(
    sources: Paths = DEFAULT_SOURCE,
    to: str | Path = DEFAULT_TARGET,
    *,
    schema: str | None = None,
    dry_run: bool = False,
    in_place: bool = False,
    report: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Write the sources into the database at ``to``, completely or not at all.

    ``schema``, ``dry_run``, ``in_place`` and ``report`` are the command line's;
    ``pipeline.convert`` has more settings. ``progress(stage, done, total)`` is called while it
    works. Raises SourceError, OptionError, TargetError, and LedgerError (a defect); the target is
    untouched then.
    """
    from migrator import pipeline
    from migrator.results import Result

    chosen = pipeline.Options.of(options)
    outcome = pipeline.convert(
        sources, to, chosen, schema=schema, dry_run=dry_run, in_place=in_place, report=report,
        progress=pipeline.checked_progress(progress),
    )  # fmt: skip
    return Result(outcome, sources, chosen)


def verify(
    sources: Paths = DEFAULT_SOURCE,
    against: str | Path = DEFAULT_TARGET,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> VerifyResult:
    """Read the sources again, and compare what they should have become with the target.

    The options must be those of the conversion. Raises SourceError, OptionError and TargetError.
    """
    from migrator import pipeline, verification

    chosen = pipeline.Options.of(options)
    return verification.verify(sources, against, chosen, pipeline.checked_progress(progress))


def show(run_id: str, sources: Paths = DEFAULT_SOURCE, **options: Any) -> PlannedTree:
    """Read the tree that holds a run, and decide what it becomes; ``run_id`` may be shortened.

    Raises SourceError and OptionError.
    """
    from migrator import pipeline

    return pipeline.show(run_id, sources, pipeline.Options.of(options))


def export(sources: Paths, to: str | Path, **options: Any) -> Exported:
    """Send the traces of the sources to a file or an OTLP receiver.

    Raises SourceError, OptionError, TargetError, and LedgerError (a defect).
    """
    from migrator import pipeline

    return pipeline.export(sources, to, pipeline.Options.of(options))


_HOME = {"BaseSink": "migrator.pipeline", "MigrateError": "migrator.errors"}


def __getattr__(name: str) -> Any:
    """Import a class when it is asked for: ``BaseSink`` brings the whole pipeline with it."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The names that a notebook completes."""
    return sorted(__all__)
