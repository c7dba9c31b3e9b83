"""Finds the entity that a table's rows belong to, from the schema's foreign keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from migrator.conventions import DEFAULT_WORKSPACE
from migrator.errors import LedgerError
from migrator.loader.sqlite.audit import columns, quoted

# The entities to which all other rows belong -> the column of their id; the nearest first.
ROOTS: Mapping[str, str] = {
    "trace_info": "request_id",
    "logged_models": "model_id",
    "runs": "run_uuid",
    "registered_models": "name",
    "evaluation_datasets": "dataset_id",
    "scorers": "scorer_id",
    "webhooks": "webhook_id",
    "experiments": "experiment_id",
    "workspaces": "name",
}
# Of these, the ones that belong to no experiment.
SHARED_ROOTS = frozenset({"registered_models", "evaluation_datasets", "webhooks", "workspaces"})
_RUN_OF_INPUT = (
    "CASE WHEN {0}.source_type = 'DATASET' THEN {0}.destination_id ELSE {0}.source_id END"
)
WITHOUT_KEYS = {  # tables whose references MLflow has not declared as foreign keys
    "inputs": ("runs", _RUN_OF_INPUT.format("s")),
    "input_tags": (
        "runs",
        f"(SELECT {_RUN_OF_INPUT.format('i')} FROM {{database}}.inputs AS i "
        "WHERE i.input_uuid = s.input_uuid LIMIT 1)",
    ),
    "entity_associations": ("trace_info", "s.source_id"),
}


class Owner(NamedTuple):
    """The kind of entity that a table's rows belong to, and how they name it."""

    root: str  # a table of ``ROOTS``
    sql: str  # the entity's id, of a row ``s``
    column: str | None  # if ``sql`` is just a column


def owner_of(db: sqlite3.Connection, table: str, database: str = "main") -> Owner:
    """Return the owner of a table's rows; ``database`` is the one that holds a row ``s``.

    Raises LedgerError for a table of a newer MLflow that refers to none of ``ROOTS``.
    """
    if table in WITHOUT_KEYS:
        root, sql = WITHOUT_KEYS[table]
        return Owner(root, sql.format(database=database), None)
    if table in ROOTS:
        return Owner(table, _id_in(db, table, table, ROOTS[table]), ROOTS[table])
    found: dict[str, str] = {}
    for _, _, parent, column, referred, *_ in db.execute(
        f"PRAGMA main.foreign_key_list({quoted(table)})"
    ):
        if parent in ROOTS:
            if referred in (ROOTS[parent], None):  # of a key of several columns, the id
                found[parent] = column
        elif parent != table:
            root, _, of_parent = owner_of(db, parent, database)
            if of_parent == referred:
                found.setdefault(root, column)
    for root in ROOTS:
        if root in found:
            return Owner(root, _id_in(db, table, root, found[root]), found[root])
    raise LedgerError(
        f"Table {table} refers to no table that this version knows; nothing was published.",
        todo="Convert into a SQLite file (sqlite:///mlflow.db), and report this.",
    )


def _id_in(db: sqlite3.Connection, table: str, root: str, column: str) -> str:
    """SQL for an entity's id; a registered model's name is unique in a workspace only."""
    name = f"s.{quoted(column)}"
    if root == "registered_models" and "workspace" in columns(db, table):
        is_default = f"s.workspace = '{DEFAULT_WORKSPACE}'"
        return f"CASE WHEN {is_default} THEN {name} ELSE s.workspace || '/' || {name} END"
    return name


def is_shared(db: sqlite3.Connection, table: str) -> bool:
    """Return True for a table whose rows MLflow's migrations make, which belong to no entity."""
    return not any(
        row[2] != table for row in db.execute(f"PRAGMA foreign_key_list({quoted(table)})")
    )
