"""Fixture stores for tests: where they are, and copies with the folders that git leaves out."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent.parent / "fixtures"


def names() -> list[str]:
    """Return the names of all fixtures that are file stores, sorted."""
    return sorted(path.parent.name for path in FIXTURES.glob("*/empty-folders.txt"))


def databases() -> list[str]:
    """The names of all fixtures that are databases, sorted."""
    return sorted(path.parent.name for path in FIXTURES.glob("*/mlflow.sql"))


def database(name: str, tmp_path: Path) -> Path:
    """Make the SQLite file of a fixture, with the artifacts beside it, below ``tmp_path``."""
    target = tmp_path / name
    shutil.copytree(FIXTURES / name, target)
    script = target / "mlflow.sql"
    path = target / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(script.read_bytes().decode())  # with its CRLF
    script.unlink()
    return path


def store(name: str) -> Path:
    """Return the ``mlruns`` of a fixture as git holds it: without the folders that are empty.

    For reading only; a test that lets MLflow open a store takes a copy (``materialise``).
    """
    path = FIXTURES / name / "mlruns"
    if not path.is_dir():
        raise FileNotFoundError(f"no fixture {name!r}; there are {', '.join(names())}")
    return path


def materialise(name: str, tmp_path: Path, *, restore_empty: bool = True) -> Path:
    """Copy a fixture to ``tmp_path / name`` and return its ``mlruns``.

    With ``restore_empty`` the folders that were empty when MLflow had written the store, which git
    drops, are made again (``metrics/``, ``params/`` and ``artifacts/`` of runs, mostly): without
    them MLflow's own FileStore doesn't find such runs. Recorded locations stay as they were
    recorded, so they name a place that isn't there. A ``mlartifacts`` beside the store comes along.
    """
    store(name)
    target = tmp_path / name
    shutil.copytree(FIXTURES / name, target)
    listing = target / "empty-folders.txt"
    if restore_empty:
        for folder in listing.read_text(encoding="utf-8").splitlines():
            (target / folder).mkdir(parents=True, exist_ok=True)
    listing.unlink()
    return target / "mlruns"
