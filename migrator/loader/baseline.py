"""Writes ``mlflow_3_9.sql`` anew: the empty database of MLflow 3.9.0, made by its own chain.

    python -m migrator.loader.baseline

Runs the installed MLflow's Alembic chain (3.9 or newer) up to the revision of 3.9.0 and keeps the
definitions and rows of what it made, word for word. It is never run by a conversion;
``tests/unit/loader/test_schema.py`` compares the file with the chain of the installed MLflow.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from pathlib import Path

from migrator import empty_database
from migrator.loader import schema

HEAD = """\
-- The empty database of MLflow 3.9.0: what its own Alembic chain makes, word for word.
-- Written by: python -m migrator.loader.baseline
"""


def script_of(path: str) -> str:
    """Return the statements that make the content of the SQLite file ``path``, in its order."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        made = db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY rowid").fetchall()
        lines = [f"{sql};\n" for _, _, sql in made if sql is not None]  # a key's own index has none
        for name in (name for kind, name, _ in made if kind == "table"):
            for row in db.execute(f'SELECT * FROM "{name}" ORDER BY rowid'):
                literals = db.execute(f"SELECT {', '.join(['quote(?)'] * len(row))}", row)
                lines.append(f"INSERT INTO {name} VALUES ({', '.join(literals.fetchone())});\n")
    return HEAD + "".join(lines)


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "empty.db"))
        schema.create_by_chain(path)
        empty_database.BASELINE.write_text(script_of(path), encoding="utf-8")


if __name__ == "__main__":
    main()
