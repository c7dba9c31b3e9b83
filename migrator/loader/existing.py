"""Inspects an existing database: MLflow's tables at some revision, unfinished or foreign ones.

MLflow makes five tables first and changes them in some fifty migrations. MySQL and SQLite commit
each change at once, so a process that is killed meanwhile leaves tables with which no migration can
continue ("table already exists"). Such a database is made anew as long as it holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from migrator import conventions, empty_database
from migrator.errors import TargetError
from migrator.loader import schema as schemas
from migrator.model import ExistingExperiment

_EXPERIMENTS = (
    "SELECT e.experiment_id, e.name, e.creation_time, e.lifecycle_stage, i.value, n.value, "
    "EXISTS (SELECT 1 FROM runs AS r WHERE r.experiment_id = e.experiment_id), {workspace} "
    "FROM experiments AS e "
    "LEFT JOIN experiment_tags AS i ON i.experiment_id = e.experiment_id "
    f"AND i.key = '{conventions.MIGRATOR_SOURCE_EXPERIMENT}' "
    "LEFT JOIN experiment_tags AS n ON n.experiment_id = e.experiment_id "
    f"AND n.key = '{conventions.MIGRATOR_SOURCE_NAME}' ORDER BY e.experiment_id"
)


def experiments_query(revision: str | None) -> str:
    """SQL for ``existing_experiment``: all experiments of MLflow's tables at a revision."""
    has_any = revision is not None and empty_database.has_workspaces(revision)
    workspace = "e.workspace" if has_any else f"'{conventions.DEFAULT_WORKSPACE}'"
    return _EXPERIMENTS.format(workspace=workspace)


FIRST_TABLES = frozenset({"experiments", "runs", "tags", "params", "metrics"})
_HOLDING = ("experiments", "registered_models")  # if these are empty, all tables are


@dataclass(frozen=True, slots=True)
class Place:
    """How messages speak of a database."""

    name: str
    foreign: TargetError  # for tables that are not MLflow's
    recreate: str  # how to make it anew
    upgrade: str  # how to carry it to a newer schema

    def unfinished(self) -> TargetError:
        """Return the error for tables that MLflow has not finished making."""
        return TargetError(
            f"{self.name} holds MLflow's tables, unfinished or of an older release, and no "
            "experiment or model in them. Most likely the process that made them was stopped; "
            "MLflow can't go on from there.",
            todo=f"Nothing is lost when it is made anew. {self.recreate}",
        )


def existing_experiment(row: Sequence[Any]) -> ExistingExperiment:
    """An experiment of the target, from a row of ``experiments_query``."""
    number, name, creation_ms, stage, source_id, source_name, has_runs, workspace = row
    if not isinstance(number, int):
        raise TargetError(
            f"The target's table experiments has the id {number!r:.60}, which is not a number; "
            "nothing was changed.",
            todo="Correct that row, or choose another target.",
        )
    return ExistingExperiment(
        int(number),
        str(name),  # a damaged SQLite file may have bytes or a number there
        creation_ms,
        stage == "deleted",
        source_id,
        source_name,
        bool(has_runs),
        str(workspace or conventions.DEFAULT_WORKSPACE),
    )


def revision_of(
    place: Place, tables: set[str], ask: Callable[[str], Sequence[Any]], wanted: str | None = None
) -> str | None:
    """Return the revision of MLflow's tables, None if they are still to be made.

    ``tables`` are the names of the database's tables; ``ask`` returns a query's rows. Raises
    TargetError for tables that are not MLflow's, are unfinished, or (if ``wanted`` is given) are at
    an older revision although they hold nothing.
    """
    if not tables:
        return None
    if not _are_of_mlflow(tables):
        raise place.foreign
    is_empty = True
    for table in _HOLDING:
        if table in tables and ask(f"SELECT 1 FROM {table} LIMIT 1"):
            is_empty = False
    if "alembic_version" not in tables and tables <= FIRST_TABLES:
        if is_empty:
            return None
        raise TargetError(
            f"{place.name} was made by MLflow before 1.0, or its table alembic_version is missing.",
            todo=place.upgrade,
        )
    revisions: list[str] = []
    if "alembic_version" in tables:
        revisions = [str(row[0]) for row in ask("SELECT version_num FROM alembic_version")]
    if len(revisions) == 1:
        if wanted is not None and is_empty and _is_older(revisions[0], wanted):
            raise place.unfinished()
        return revisions[0]
    if is_empty:
        raise place.unfinished()
    raise TargetError(
        f"{place.name} holds MLflow's tables, but not which schema they have: alembic_version has "
        f"{len(revisions)} rows instead of one.",
        todo="Restore that row or the database from a backup, or choose another target.",
    )


def _are_of_mlflow(tables: set[str]) -> bool:
    """Return True for all of MLflow's tables, or a part of those that it makes first."""
    if {"experiments", "runs"} <= tables:
        return True
    return "experiments" in tables and tables <= FIRST_TABLES


def _is_older(revision: str, wanted: str) -> bool:
    chain = schemas.chain()
    return revision in chain and chain.index(revision) < chain.index(wanted)
