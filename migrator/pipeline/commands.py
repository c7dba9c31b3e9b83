"""The commands that only read, and the upgrade: each opens its stores and walks them once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from migrator import DEFAULT_SOURCE, DEFAULT_TARGET, extractor, loader
from migrator.credentials import masked
from migrator.empty_database import has_workspaces
from migrator.errors import OptionError, SourceError
from migrator.loader.schema import wanted_revision
from migrator.outcome.summary import Outcome
from migrator.pipeline.options import Options, Paths, as_texts
from migrator.pipeline.sinks import Discard, Sink, checked_sink
from migrator.pipeline.stores import (
    Progress,
    Say,
    Store,
    fetched,
    name_sources,
    new_outcome,
    no_progress,
    open_stores,
    run_ids_of,
    say_nothing,
)
from migrator.pipeline.trees import PlannedTree
from migrator.pipeline.walk import walk_sources
from migrator.pipeline.walk_context import Observer


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
    keeps_workspaces = _keeps_workspaces(sources)
    with fetched(sources, options, progress, keeps_workspaces=keeps_workspaces) as places:
        stores = open_stores(places, say)
        outcome = new_outcome(stores, options, None)
        observer = Observer(on_tree, progress)
        walked = walk_sources(stores, options, sink, outcome, observer=observer)
        walked.check_handed()
        name_sources(stores, outcome)
    outcome.ledger.add_outcome(walked.handed, {})
    outcome.seconds = time.monotonic() - began
    return outcome


def _keeps_workspaces(sources: Paths) -> bool:
    """Whether what is in a workspace of a source stays there in a new target."""
    is_any_database = any(map(extractor.is_database, as_texts(sources)))
    return is_any_database and has_workspaces(wanted_revision(None))


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
    with fetched(sources, options, keeps_workspaces=_keeps_workspaces(sources)) as places:
        stores = open_stores(places, say)
        run_id = _complete_id(run_id, stores, as_texts(sources))
        wanted: list[PlannedTree] = []

        def keep(planned: PlannedTree) -> None:
            if run_id in planned.tree.runs:
                wanted.append(planned)

        outcome = new_outcome(stores, options, None)
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
