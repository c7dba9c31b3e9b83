"""MLflow's databases near a directory that is not a store: what the user probably means."""

from __future__ import annotations

import os
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from migrator.paths import SQLITE_ENDINGS, readable_path


class _Database(NamedTuple):
    path: str
    runs: int


def database_advice(path: str) -> str:
    """What to do where a database lies in a directory or beside it; empty if there is none.

    MLflow 3.7 and later write a database, and its artifacts into ``mlruns`` beside it, unless
    they are told otherwise.
    """
    for folder, where in ((path, "in"), (os.path.dirname(path), "beside")):
        found = _databases_in(folder)
        if found:
            return _advice(found, where)
    return ""


def _advice(found: list[_Database], where: str) -> str:
    first, *others = [shlex.quote(readable_path(_shortest(each.path))) for each in found[:6]]
    also = f" Others there: {', '.join(others)}." if others else ""
    return (
        f"There is a database {where} it: mlflow-migrate scan {first} shows what it holds, and "
        f"mlflow-migrate convert {first} --to sqlite:///migrated.db makes traces of its nested "
        f"runs (or --in-place, in the database itself).{also}"
    )


def _shortest(path: str) -> str:
    relative = os.path.relpath(path)
    return relative if len(relative) < len(path) else path


def _databases_in(folder: str) -> list[_Database]:
    """MLflow's SQLite files in a folder, the one with most runs first."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(SQLITE_ENDINGS)]
    except OSError:
        return []
    found = []
    for name in names:
        path = os.path.join(folder, name)
        if not os.path.isfile(path):  # a pipe would block
            continue
        runs = _runs_in(path)
        if runs is not None:
            found.append(_Database(path, runs))
    return sorted(found, key=lambda each: (-each.runs, each.path))


def _runs_in(path: str) -> int | None:
    """How many runs a database of MLflow's tracking store holds; None for any other file."""
    # Immutable: nothing is written beside the file, not even for a moment.
    address = f"{Path(path).as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            database.execute("SELECT experiment_id FROM experiments LIMIT 1")
            return int(database.execute("SELECT COUNT(*) FROM runs").fetchone()[0])
    except sqlite3.Error:
        return None
