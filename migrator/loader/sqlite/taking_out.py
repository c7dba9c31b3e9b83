"""Takes entities out of the staging file, with everything that belongs to them.

Which ones, and why, is in temporary tables ``PREFIX_TABLE (id, why)``, one for each kind.
"""

from __future__ import annotations

import sqlite3
from typing import Protocol

from migrator.issues import Kind
from migrator.loader.owners import ROOTS, is_shared, owner_of
from migrator.loader.rows import COLUMNS, KINDS
from migrator.loader.sqlite import audit
from migrator.loader.sqlite.audit import quoted

MARKED = (*ROOTS, "model_versions")  # a version's id is its model's name, a slash, its number


class Count(Protocol):
    """Gets the number of rows of a kind that are taken out with an entity."""

    def __call__(
        self, owner: str, entity_id: object, kind: Kind, number: int, *, rebuilt: bool
    ) -> None: ...


def create_marks(db: sqlite3.Connection, prefix: str) -> None:
    """Make the temporary tables, or empty them."""
    for table in MARKED:
        db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {prefix}_{table} (id PRIMARY KEY, why TEXT)")
        db.execute(f"DELETE FROM temp.{prefix}_{table}")


def take_out(db: sqlite3.Connection, prefix: str, count: Count) -> None:
    """Delete the marked entities of the main database, and count what is deleted."""
    has_marks = [f"SELECT 1 FROM temp.{prefix}_{table}" for table in MARKED]
    if not any(db.execute(f"{query} LIMIT 1").fetchone() for query in has_marks):
        return
    # Children first; input_tags before the inputs that say whose they are.
    tables = [t for t in reversed(audit.tables(db)) if t in COLUMNS or not is_shared(db, t)]
    for table in sorted(tables, key=lambda table: table != "input_tags"):
        for owner, sql in _owners(db, table):
            marked = f"{sql} IN (SELECT id FROM temp.{prefix}_{owner})"
            for kind, _, condition, rebuilt in audit.slices_of(table):
                found = db.execute(
                    f"SELECT {sql}, count(*) FROM main.{quoted(table)} AS s "
                    f"WHERE ({condition}) AND {marked} GROUP BY 1 ORDER BY 1"
                ).fetchall()
                for entity_id, number in found:
                    count(owner, entity_id, kind, number, rebuilt=rebuilt)
            db.execute(f"DELETE FROM main.{quoted(table)} AS s WHERE {marked}")
    _take_out_promoted(db, prefix, count)


def _owners(db: sqlite3.Connection, table: str) -> list[tuple[str, str]]:
    """Return the entities to which a table's rows belong: their table, and SQL for their ids."""
    owner = owner_of(db, table)
    found = [(owner.root, owner.sql)]
    if table == "entity_associations":
        found.append(("evaluation_datasets", owner.sql))
    if table == "logged_model_metrics":
        found.append(("runs", "s.run_id"))
    if table in ("model_versions", "model_version_tags", "registered_model_aliases"):
        found.append(("model_versions", version_id(db, table)))
    return found


def version_id(db: sqlite3.Connection, table: str) -> str:
    """SQL for the id of the model version that a row ``s`` is of."""
    return f"{owner_of(db, table).sql} || '/' || s.version"


def _take_out_promoted(db: sqlite3.Connection, prefix: str, count: Count) -> None:
    """Count the rows of marked traces that a newer schema keeps in columns."""
    of_marked = f"trace_id IN (SELECT id FROM temp.{prefix}_trace_info)"
    found = db.execute(
        "SELECT trace_id, tbl, trace_id NOT IN (SELECT trace_id FROM temp.native), n "
        f"FROM temp.promoted WHERE {of_marked}"
    ).fetchall()
    for trace_id, table, rebuilt, number in found:
        count("trace_info", trace_id, KINDS[table], number, rebuilt=bool(rebuilt))
    db.execute(f"DELETE FROM temp.promoted WHERE {of_marked}")
