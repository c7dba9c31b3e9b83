"""The one place where the stages meet: read, decide, hand every decided item to a sink.

``scan``, ``convert``, ``convert --dry-run`` and ``verify`` are the same walk with another sink:
one that discards, the loader's writer, the comparer. So ``scan`` says what ``convert`` does.
"""

from migrator.pipeline.commands import (
    Exported,
    check_outside,
    convert,
    export,
    scan,
    show,
    upgrade,
)
from migrator.pipeline.options import Options
from migrator.pipeline.stores import Progress, Store, fetched, no_progress, open_stores
from migrator.pipeline.trees import PlannedTree
from migrator.pipeline.walk import Migration

__all__ = [
    "Exported",
    "Migration",
    "Options",
    "PlannedTree",
    "Progress",
    "Store",
    "check_outside",
    "convert",
    "export",
    "fetched",
    "no_progress",
    "open_stores",
    "scan",
    "show",
    "upgrade",
]
