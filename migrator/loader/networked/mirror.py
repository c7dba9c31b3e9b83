"""The mirror: a SQLite file with the staging file's schema, for the server's rows of our entities.

Triggers note what is changed in it once the server's rows are there: that is what is sent.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from migrator.loader import owners
from migrator.loader.owners import ROOTS, SHARED_ROOTS
from migrator.loader.rows import COLUMNS
from migrator.loader.sqlite import audit, merge, seen
from migrator.loader.sqlite.audit import quoted

SHARED = -1  # rows of no single experiment: the registry, model metrics of another's runs


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the mirror; ``owner`` is SQL for the id of the entity that has a row ``s``."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    booleans: frozenset[str]
    root: str
    owner: str
    own_column: str | None  # if ``owner`` is just a column

    @property
    def experiment(self) -> str:
        """SQL for the experiment that a row ``s`` of the attached mirror belongs to."""
        if self.root in SHARED_ROOTS or self.root == seen.TABLE:
            return str(SHARED)
        if self.root == "experiments":
            return self.owner
        if self.name == "logged_model_metrics":  # may be of a run of another experiment
            found = "SELECT r.experiment_id FROM target.runs AS r WHERE r.run_uuid = s.run_id"
            return f"CASE WHEN s.experiment_id = ({found}) THEN s.experiment_id ELSE {SHARED} END"
        id_column = ROOTS[self.root]
        found = f"SELECT r.experiment_id FROM target.{self.root} AS r WHERE r.{id_column} = "
        return f"coalesce(({found}{self.owner}), {SHARED})"


# Our own table. Its rows belong to no experiment, so they are sent last: what is remembered as
# converted is there.
SEEN = Table(
    seen.TABLE, ("item", "content", "source"), ("item",), frozenset(), seen.TABLE, str(SHARED), None
)


def make_mirror(db: sqlite3.Connection, path: str, revision: str) -> list[Table]:
    """Make an empty database with the staging file's schema; return the tables to be published."""
    made = db.execute(
        "SELECT sql FROM main.sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' "
        "ORDER BY rowid"
    ).fetchall()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as mirror:
        mirror.execute("PRAGMA synchronous=OFF")
        mirror.execute("BEGIN")
        for (statement,) in made:
            mirror.execute(statement)
        mirror.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        names = audit.tables(db)
        # The server has the rows that MLflow's migrations make (3.10 and later: the default
        # workspace).
        for name in [n for n in names if n not in COLUMNS and owners.is_shared(db, n)]:
            rows = db.execute(f"SELECT * FROM main.{quoted(name)}").fetchall()
            places = ", ".join("?" * len(rows[0]))
            mirror.executemany(f"INSERT INTO {quoted(name)} VALUES ({places})", rows)
            names.remove(name)
        mirror.execute("COMMIT")
        seen.create(mirror, "main")
    of_traces = [name for name in merge.TRACE_PARTS if name not in names]
    tables = [_table(db, name) for name in [*names, *of_traces] if audit.columns(db, name)]
    return [*tables, SEEN]


def _table(db: sqlite3.Connection, name: str) -> Table:
    info = db.execute(f"PRAGMA main.table_xinfo({quoted(name)})").fetchall()
    root, owner, column = owners.owner_of(db, name, "target")
    return Table(
        name,
        audit.columns(db, name),
        audit.key_columns(db, name),
        frozenset(row[1] for row in info if row[2].upper() == "BOOLEAN"),
        root,
        owner,
        column,
    )


def watch(path: str, tables: Sequence[Table]) -> None:
    """Add triggers that log every later change to the mirror, by table."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as mirror:
        mirror.execute("BEGIN")
        for table in tables:
            name = quoted(table.name)
            keys = ", ".join(map(quoted, table.key))
            old = ", ".join(f"old.{quoted(column)}" for column in table.key)
            mirror.execute(f"CREATE TABLE {log_of('added', table)} (id INTEGER PRIMARY KEY)")
            mirror.execute(f"CREATE TABLE {log_of('changed', table)} (id INTEGER PRIMARY KEY)")
            mirror.execute(f"CREATE TABLE {log_of('gone', table)} ({keys})")
            is_new = f"EXISTS (SELECT 1 FROM {log_of('added', table)} WHERE id = old.rowid)"
            mirror.execute(
                f"CREATE TRIGGER {log_of('i', table)} AFTER INSERT ON {name} BEGIN "
                f"INSERT INTO {log_of('added', table)} VALUES (new.rowid); END"
            )
            mirror.execute(
                f"CREATE TRIGGER {log_of('u', table)} AFTER UPDATE ON {name} WHEN NOT {is_new} AND "
                f"NOT EXISTS (SELECT 1 FROM {log_of('changed', table)} WHERE id = old.rowid) BEGIN "
                f"INSERT INTO {log_of('changed', table)} VALUES (new.rowid); END"
            )
            mirror.execute(
                f"CREATE TRIGGER {log_of('d', table)} AFTER DELETE ON {name} BEGIN "
                f"INSERT INTO {log_of('gone', table)} SELECT {old} WHERE NOT {is_new}; "
                f"DELETE FROM {log_of('changed', table)} WHERE id = old.rowid; "
                f"DELETE FROM {log_of('added', table)} WHERE id = old.rowid; END"
            )
        mirror.execute("COMMIT")


def log_of(what: str, table: Table) -> str:
    return quoted(f"migrate_{what}_{table.name}")
