"""Writes ``mlflow_schemas.sql`` anew: MLflow's empty databases, made by its own Alembic chain.

    python -m migrator.loader.baseline

Run it with the newest MLflow, whose chain contains those of older releases. It keeps the
definitions and rows that the chain makes, word for word: for MLflow 3.9 all of them, for each newer
release those that are new or different. It is never run by a conversion;
``tests/unit/loader/test_schema.py`` compares the file with the chain of the installed MLflow.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path

from migrator import empty_database
from migrator.loader import schema

HEAD = """\
-- MLflow's empty databases: what its own Alembic chain makes, word for word. Each part makes the
-- next revision of the one before.
-- Written by: python -m migrator.loader.baseline
"""


@dataclass(frozen=True, slots=True)
class Content:
    """What an empty database holds, in its order."""

    objects: dict[tuple[str, str], tuple[str, str]]  # (type, name) -> table, its SQL
    rows: dict[str, list[str]]  # table -> its rows as SQL literals


NOTHING = Content({}, {})


def content_of(path: str) -> Content:
    """Return the objects and rows of the SQLite file ``path``."""
    objects = {}
    rows: dict[str, list[str]] = {}
    with contextlib.closing(sqlite3.connect(path)) as db:
        made = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid"
        for kind, name, table, sql in db.execute(made).fetchall():
            if sql is not None:  # a key's own index has none
                objects[(kind, name)] = (table, sql)
        tables = [name for kind, name in objects if kind == "table"]
        for name in tables:
            rows[name] = []
            for row in db.execute(f'SELECT * FROM "{name}" ORDER BY rowid'):
                literals = db.execute(f"SELECT {', '.join(['quote(?)'] * len(row))}", row)
                rows[name].append(", ".join(literals.fetchone()))
    return Content(objects, rows)


def script_of(before: Content, after: Content) -> str:
    """Return the statements that make the database ``after`` of ``before``."""
    lines = []
    made_anew = set()
    for (kind, name), (table, sql) in before.objects.items():
        if after.objects.get((kind, name)) == (table, sql):
            continue
        if kind == "table":
            made_anew.add(name)
        if table not in made_anew or kind == "table":  # the others go with their table
            lines.append(f"DROP {kind.upper()} {name};\n")
    for key, (table, sql) in after.objects.items():
        if before.objects.get(key) != (table, sql) or table in made_anew:
            lines.append(f"{sql};\n")
    for table, rows in after.rows.items():
        there = before.rows.get(table, [])
        if table in made_anew or rows != there:
            if there and table not in made_anew:
                lines.append(f"DELETE FROM {table};\n")
            lines += [f"INSERT INTO {table} VALUES ({row});\n" for row in rows]
    return "".join(lines)


def script_by_chain() -> str:
    """Return the content of the file, up to the schema of the installed MLflow."""
    chain = schema.chain()
    releases = list(schema.RELEASES)
    script = HEAD
    before = NOTHING
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "empty.db"))
        schema.create_by_chain(path)
        for revision in releases[releases.index(schema.MLFLOW_39) :]:
            if revision not in chain:
                break
            schema.upgrade(path, revision)
            after = content_of(path)
            script += empty_database.head_of(revision, schema.RELEASES[revision])
            script += script_of(before, after)
            before = after
    return script


def main() -> None:
    """Write the file. Raises SystemExit if the installed MLflow is not the newest known one."""
    newest = list(schema.RELEASES)[-1]
    if schema.chain()[-1] != newest:
        raise SystemExit(
            f"The installed MLflow is at {schema.maker(schema.chain()[-1])}, and the newest of "
            f"schema.RELEASES at {schema.maker(newest)}: install that one, or add the newer one."
        )
    empty_database.SCHEMAS.write_text(script_by_chain(), encoding="utf-8")


if __name__ == "__main__":
    main()
