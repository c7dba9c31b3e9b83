"""The only room where the stages meet: read, decide, hand every decided item to a sink.

``scan``, ``convert``, ``convert --dry-run`` and ``verify`` are the same walk with another sink: one
that discards, the loader's writer, the comparer. So ``scan`` reports what ``convert`` does.
"""

from migrator.pipeline.commands import scan, show, upgrade
from migrator.pipeline.conversion import check_outside, convert
from migrator.pipeline.exporting import Exported, export
from migrator.pipeline.learning import Learned, learn
from migrator.pipeline.options import Options, Paths, as_text
from migrator.pipeline.pushing import Pushed, push
from migrator.pipeline.sinks import BaseSink, Sink
from migrator.pipeline.stores import (
    Opened,
    Progress,
    Say,
    Store,
    checked_progress,
    fetched,
    no_progress,
    open_stores,
    say_nothing,
)
from migrator.pipeline.trees import PlannedTree
from migrator.pipeline.walk import walk_sources
from migrator.pipeline.walk_context import Observer, TargetFacts

__all__ = [
    "BaseSink",
    "Exported",
    "Learned",
    "Observer",
    "Opened",
    "Options",
    "Paths",
    "PlannedTree",
    "Progress",
    "Pushed",
    "Say",
    "Sink",
    "Store",
    "TargetFacts",
    "as_text",
    "check_outside",
    "checked_progress",
    "convert",
    "export",
    "fetched",
    "learn",
    "no_progress",
    "open_stores",
    "push",
    "say_nothing",
    "scan",
    "show",
    "upgrade",
    "walk_sources",
]
