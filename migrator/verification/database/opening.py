"""Opens a database with MLflow's own stores, read-only."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from migrator import addresses, conventions, databases
from migrator.credentials import masked
from migrator.empty_database import has_workspaces
from migrator.errors import TargetError
from migrator.verification.reading import broken, reporting_broken
from migrator.verification.traces import ReadOnce

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

REVISION_39 = "d3e4f5a6b7c8"  # Alembic head of MLflow 3.9.0


@dataclass(frozen=True, slots=True)
class Database:
    """MLflow's stores on one database."""

    shown: str  # its name in messages
    uri: str  # as MLflow opens it; may hold a password
    largest_id: int  # of an experiment
    collation_key: Callable[[str], str]  # names that are equal there get equal keys
    tracking: Any
    registry: Any  # what it reads is in its ``workspace``
    has_workspaces: bool

    def close(self) -> None:
        """Close all connections."""
        self.tracking.engine.dispose()
        self.registry.engine.dispose()


def open_database(uri: str) -> Database:
    """Open a database read-only, so that MLflow can't create, upgrade or add to it.

    Raises ``TargetError`` when ``uri`` (``sqlite:///path``, ``postgresql://…``, ``mysql://…``)
    names no MLflow database, or one of a schema revision that the installed MLflow does not read.
    """
    largest_id = conventions.INT64_MAX
    collation_key = databases.collation_key(None)
    if addresses.is_database_server(uri):
        largest_id = databases.LARGEST_EXPERIMENT_ID
        url = databases.server_url(uri)
        shown, upgrade = masked(str(url)), "mlflow db upgrade"
        revision, collation = _server_state(url)
        collation_key = databases.collation_key(collation)
        opened = databases.read_only_url(url).render_as_string(hide_password=False)
    else:
        path = _database_path(uri)
        shown, upgrade = str(path), "mlflow-migrate upgrade"
        revision = _revision(path)
        opened = _read_only(path)
    import mlflow  # noqa: F401  # sets up its loggers, before they are turned down

    # Alembic, which MLflow asks for the schema's revision, reports its own plugins. What MLflow
    # logs of a database that breaks under it, with a traceback, we report in a sentence.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store").setLevel(logging.CRITICAL)
    _check_revision(shown, revision, f"{upgrade} {masked(uri)}")
    with reporting_broken(shown):
        tracking, registry = _open_stores(opened)
    return Database(
        shown,
        opened,
        largest_id,
        collation_key,
        ReadOnce(tracking),
        registry,
        has_workspaces(revision),
    )


def _open_stores(uri: str) -> tuple[Any, Any]:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

    try:
        from mlflow.store.model_registry.sqlalchemy_workspace_store import (
            WorkspaceAwareSqlAlchemyStore as Registry,
        )
    except ImportError:  # MLflow 3.9
        from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry

    class ReadOnlyTracking(Tracking):  # type: ignore[misc]
        def _create_default_experiment(self, session: Any) -> None:
            """Leave the database as it is; MLflow would add experiment 0 on opening."""

        def _initialize_store_state(self) -> None:
            """Take a database with several workspaces (3.10 and later); all are read."""

    class ReadOnlyRegistry(Registry):  # type: ignore[misc]
        workspace = conventions.DEFAULT_WORKSPACE

        def _get_active_workspace(self) -> str:
            return self.workspace

    return ReadOnlyTracking(uri, "mlruns"), ReadOnlyRegistry(uri)


def _database_path(uri: str) -> Path:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    todo = "Give the database that was converted to, as sqlite:///path/to/mlflow.db."
    addresses.refuse_mistaken(uri, TargetError, todo)
    if "://" not in uri and uri.endswith((".db", ".sqlite", ".sqlite3")):  # as convert takes it
        return _existing(Path(uri), todo)
    try:
        url = make_url(uri)
    except ArgumentError:
        shown = masked(uri)
        raise TargetError(f"{shown} is not a database URI.", todo=todo) from None
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        shown = masked(uri)
        raise TargetError(
            f"{shown} is not a SQLite file or a database of PostgreSQL or MySQL.", todo=todo
        )
    return _existing(Path(url.database), todo)


def _existing(path: Path, todo: str) -> Path:
    if not path.is_file():
        raise TargetError(f"There is no database {path.absolute()}.", todo=todo)
    return path.absolute()


def _read_only(path: Path) -> str:
    """Return the URI under which MLflow opens a SQLite file without writing to it."""
    from sqlalchemy.engine import URL

    # SQLite decodes the path. MLflow makes the parent directories of what it takes for one: with
    # its slashes encoded that is the current directory.
    file = f"file:{quote(os.fsencode(path), safe='')}"
    return str(URL.create("sqlite", database=file, query={"mode": "ro", "uri": "true"}))


def _check_revision(shown: str, revision: str, upgrade: str) -> None:
    """Raise ``TargetError`` unless the installed MLflow can open a database without changing it.

    A newer MLflow upgrades an older SQLite file as it opens it, without asking and without a
    backup.
    """
    from mlflow.store.db.utils import _get_latest_schema_revision
    from mlflow.version import VERSION

    wanted = _get_latest_schema_revision()
    if revision == wanted:
        return
    if revision == REVISION_39:
        raise TargetError(
            f"{shown} is a database of MLflow 3.9, and MLflow {VERSION} is installed, which would"
            " upgrade it in place and without a backup.",
            todo=f"Verify it with 'mlflow==3.9.*' installed, or upgrade it first: {upgrade}",
        )
    if not _knows(revision):
        raise TargetError(
            f"{shown} was written by a newer MLflow than the installed {VERSION}: it has the "
            f"schema revision {revision}.",
            todo="Verify it beside that MLflow or a newer one: pip install --upgrade 'mlflow<4'",
        )
    raise TargetError(
        f"{shown} has the schema revision {revision}, and MLflow {VERSION} reads {wanted}.",
        todo="Verify it beside the MLflow that it was converted with, or upgrade it first: "
        f"{upgrade}",
    )


def _knows(revision: str) -> bool:
    """Whether the installed MLflow has a schema revision among its migrations."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    script = ScriptDirectory.from_config(_get_alembic_config(db_url=""))
    return any(each.revision == revision for each in script.walk_revisions())


def _server_state(url: URL) -> tuple[str, tuple[str, str] | None]:
    """Return the schema revision of MLflow's database on a server, and how it compares text.

    Raises TargetError.
    """
    import sqlalchemy

    with databases.reporting(url):
        engine = databases.engine_of(url, read_only=True)
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                raise TargetError(
                    f"{masked(str(url))} holds no tables of MLflow.",
                    todo="Give the database that was converted to.",
                )
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
            return str(found.scalar()), databases.collation(connection)


def _revision(path: Path) -> str:
    try:
        connection = sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True)
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        if "no such table" not in str(error) and "not a database" not in str(error):
            raise broken(str(path), error) from error
        raise TargetError(
            f"{path} is not an MLflow database that can be read ({error}).",
            todo="Give the database that was converted to, as sqlite:///path/to/mlflow.db.",
        ) from error
    return str(row[0]) if row else "none"
