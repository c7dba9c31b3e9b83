"""A local copy of what a server's API gives: a SQLite file with MLflow's tables, and artifacts.

The file is read by ``extractor.database`` like any other tracking database, so that a server is
counted, checked and converted by the same rules. Its columns have no types: every value stays as
the server sent it, and what is wrong with it is found and named there.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from migrator.conventions import INT64_MAX
from migrator.extractor.database.schema import CHILDREN, KNOWN, OF_EXPERIMENT, REVISIONS

Row = Mapping[str, Any]

# A row of one of these is an entity, which is added once.
_KEYS = {
    "experiments": ("experiment_id",),
    "runs": ("run_uuid",),
    "datasets": ("dataset_uuid",),
    "logged_models": ("model_id",),
    "registered_models": ("name",),
    "model_versions": ("name", "version"),
    "trace_info": ("request_id",),
    "evaluation_datasets": ("dataset_id",),
    "scorers": ("scorer_id",),
    "webhooks": ("webhook_id",),
}


def database_in(folder: str) -> str:
    """The path of a mirror's database."""
    return os.path.join(folder, "mlflow.db")


def artifact_root_in(folder: str) -> str:
    """The path of a mirror's artifacts."""
    return os.path.join(folder, "artifacts")


class Mirror:
    """The files of one mirror, in a folder that is there and empty."""

    def __init__(self, folder: str) -> None:
        """Make the tables. Raises sqlite3.Error and OSError."""
        os.mkdir(artifact_root_in(folder))
        self._db = sqlite3.connect(database_in(folder))
        self._db.execute("PRAGMA journal_mode = OFF")  # nobody needs half a mirror
        self._db.execute("PRAGMA synchronous = OFF")
        for table, columns in KNOWN.items():
            self._db.execute(f"CREATE TABLE {table} ({', '.join(sorted(columns))})")
        self._db.execute("CREATE TABLE latest_metrics (run_uuid)")  # of the revision, and empty
        self._db.execute("CREATE TABLE alembic_version (version_num)")
        self._db.execute("INSERT INTO alembic_version VALUES (?)", (REVISIONS[-1],))
        indexes = {(child.table, child.column) for child in CHILDREN}
        indexes |= {("input_tags", "input_uuid"), ("model_version_tags", "name")}
        indexes |= {(table, "experiment_id") for table in OF_EXPERIMENT}
        for table, column in sorted(indexes):
            self._db.execute(f"CREATE INDEX {table}_{column} ON {table} ({column})")
        for table, key in _KEYS.items():
            self._db.execute(f"CREATE UNIQUE INDEX {table}_key ON {table} ({', '.join(key)})")

    def add_entity(self, table: str, row: Row) -> bool:
        """Add a row with a key of its own; False if it is there already.

        An entity comes twice when others are written while pages are read.
        """
        marks = ", ".join("?" * len(row))
        sql = f"INSERT OR IGNORE INTO {table} ({', '.join(row)}) VALUES ({marks})"
        return self._db.execute(sql, [_stored(value) for value in row.values()]).rowcount == 1

    def add(self, table: str, rows: Iterable[Row]) -> None:
        """Add rows that have the same columns."""
        listed = list(rows)
        if not listed:
            return
        columns = list(listed[0])
        marks = ", ".join("?" * len(columns))
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        values = []
        for row in listed:
            values.append([_stored(row[column]) for column in columns])
        self._db.executemany(sql, values)

    def close(self) -> None:
        """Finish the file."""
        self._db.commit()
        self._db.close()


def _stored(value: Any) -> Any:
    """A value of JSON as SQLite can hold it: what it can't hold becomes text, or bytes."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:  # half a pair of surrogates; the reader names bytes
            return value.encode("utf-8", "surrogatepass")
        return value
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, int) and abs(value) <= INT64_MAX:
        return value
    return json.dumps(value)
