"""Upgrades a database that was converted earlier to the schema of a newer MLflow."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from migrator import addresses
from migrator.credentials import masked
from migrator.databases import new_targets
from migrator.errors import TargetError
from migrator.loader import schema
from migrator.loader.sqlite import audit, files, merge, newer_columns, staging


@dataclass(frozen=True, slots=True)
class UpgradeResult:
    """The result of an upgrade. Nothing was changed if ``backup_path`` is None."""

    path: str
    from_revision: str
    to_revision: str
    spans_filled: int  # spans that got model, provider or cost in columns of their own
    backup_path: str | None


def upgrade_database(uri: str) -> UpgradeResult:
    """Bring an MLflow SQLite database to the installed MLflow's schema.

    It also fills the columns of spans that MLflow's migrations leave empty. Everything is done on a
    copy; when that is complete, the original is overwritten in one SQLite transaction, after a
    backup. It stays locked meanwhile, so that no other process's rows are lost. Raises TargetError;
    the database is then as it was.
    """
    if addresses.is_database_server(uri):
        shown = masked(uri)
        raise TargetError(
            f"{shown} is on a server, and this command upgrades only SQLite files.",
            todo=f"Make a backup (pg_dump, mysqldump), then: mlflow db upgrade {shown}",
        )
    if addresses.is_server_url(uri):
        raise TargetError(
            f"{masked(uri)} is an MLflow server, and its database can't be reached from here.",
            todo="Where the server runs, upgrade its database: mlflow-migrate upgrade for a SQLite "
            "file, mlflow db upgrade for others.",
        )
    path = files.path_of(uri)
    if not files.exists(path):
        raise TargetError(
            f"There is no database in {path}: the file is missing or empty.", todo="Check the path."
        )
    before = files.read_revision(path)
    chain = schema.chain()
    if before not in chain:
        raise TargetError(
            f"{path} was written by a newer MLflow ({schema.maker(before)}) than the installed "
            f"{schema.installed_mlflow()}.",
            todo="Install the MLflow that made it.",
        )
    file = staging.StagingFile(path)
    try:
        with files.reporting(path), contextlib.closing(files.connect(path)) as original:
            # In this mode the lock stays after the transaction, until the connection is closed.
            original.execute("PRAGMA locking_mode=EXCLUSIVE")
            original.execute("BEGIN EXCLUSIVE")
            original.execute("COMMIT")
            with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as copy:
                schema.tune(copy)
                original.backup(copy)
            if before != chain[-1]:
                _upgrade_copy(path, file.path, chain[-1])
            with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as copy:
                schema.tune(copy)
                copy.execute("BEGIN")
                filled = newer_columns.finish(copy)
                copy.execute("COMMIT")
                if before == chain[-1] and not filled:
                    return UpgradeResult(path, before, before, 0, None)
                audit.check_sound(copy)
                backup = merge.back_up(original, path, before)
                try:
                    copy.backup(original)
                except BaseException:
                    Path(backup).unlink(missing_ok=True)  # nothing has changed
                    raise
    finally:
        file.remove()
    return UpgradeResult(path, before, chain[-1], filled, backup)


def _upgrade_copy(path: str, copy: str, revision: str) -> None:
    """Upgrade the copy of a database. Raises TargetError where MLflow's migrations can't."""
    try:
        schema.upgrade(copy, revision)
    except (sqlite3.Error, TargetError) as error:
        said = error.what if isinstance(error, TargetError) else str(error)
        if "disk" in said:
            raise
        raise TargetError(
            f"{path}: MLflow's own migrations fail on its tables or rows, so nothing was changed. "
            f"They say: {said.rstrip('.')}.",
            todo="Convert it into a new database instead, which needs no upgrade: mlflow-migrate "
            f"convert {path} --to {next(new_targets([path]))}",
        ) from error
