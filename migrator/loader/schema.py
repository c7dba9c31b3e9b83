"""The schema revisions of MLflow's database: listing them, creating one, upgrading to one.

MLflow's Alembic chain (``mlflow/store/db_migrations``) does all the work. This module chooses the
revision. The empty databases of known releases are kept as SQL (``migrator.empty_database``),
because the chain takes seconds to make one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import re
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from migrator.empty_database import MLFLOW_39 as MLFLOW_39
from migrator.errors import OptionError, TargetError

# Heads of released versions, read from each release's own migrations; to name a database's maker.
RELEASES = {
    "97727af70f4d": "1.30",
    "7f2a7d5fae7d": "2.4",
    "acf3f17fdcc7": "2.9",
    "5b0e9adcef9c": "2.14",
    "f5a4f2784254": "2.17",
    "0584bdc529eb": "2.22",
    "bda7b8c39065": "3.1",
    "bf29a5ff90ea": "3.5",
    MLFLOW_39: "3.9",
    "1b5f0d9ad7c1": "3.10",
    "c3d6457b6d8a": "3.11",
    "7d34483879f0": "3.12",
    "da6fb0208061": "3.13",
    "b7e4c1a90f23": "3.14",
    "6f8d9c3b2a1e": "3.15",
    "b7e2c1a4d9f3": "3.16",
    "dc11669786a5": "3.17",
    "f4a9b2c7d1e6": "3.18",
}

_REVISION = re.compile(
    r"^(down_revision|revision)(?:\s*:[^=\n]*)?\s*=\s*(?:[\"'](\w+)[\"']|None)", re.MULTILINE
)


def installed_mlflow() -> str:
    """Return the version of the installed MLflow, without importing it."""
    from importlib import metadata  # takes longer than all the rest of this module

    for name in ("mlflow", "mlflow-skinny"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    raise TargetError(
        "MLflow is not installed, and its own migrations make the database.",
        todo="Install it: pip install 'mlflow==3.9.*'",
    )


def chain() -> tuple[str, ...]:
    """Return the installed MLflow's schema revisions, oldest first.

    Reads the ``revision`` lines of ``mlflow/store/db_migrations/versions/*.py`` instead of
    importing them: several import all of MLflow, which takes seconds.
    """
    version = installed_mlflow()
    spec = importlib.util.find_spec("mlflow")
    places = list(spec.submodule_search_locations or ()) if spec else []
    after: dict[str | None, str] = {}
    for place in places:
        for path in Path(place, "store", "db_migrations", "versions").glob("*.py"):
            found = dict(_REVISION.findall(path.read_text(encoding="utf-8")))
            if "revision" in found:
                after[found.get("down_revision") or None] = found["revision"]
    revisions: list[str] = []
    at: str | None = None
    while at in after:
        at = after.pop(at)
        revisions.append(at)
    if MLFLOW_39 not in revisions:
        raise TargetError(
            f"The installed MLflow {version} doesn't know the schema of MLflow 3.9, "
            "which the rows are written for.",
            todo="Install MLflow 3.9 or a newer 3.x: pip install 'mlflow==3.9.*'",
        )
    return tuple(revisions)


def wanted_revision(schema: str | None) -> str:
    """Return the revision for ``--schema``: ``3.9``, or ``latest`` (also None).

    Raises OptionError for any other word.
    """
    if schema == "3.9":
        return MLFLOW_39
    if schema in (None, "latest"):
        return chain()[-1]
    raise OptionError(
        f"There is no schema '{schema}'.",
        todo="Allowed are 3.9 and latest (that of the installed MLflow, which is the default).",
    )


def release_of(wanted: str) -> str:
    """Return the MLflow release of a revision that ``wanted_revision`` chose, such as ``3.9``."""
    return RELEASES[MLFLOW_39] if wanted == MLFLOW_39 else installed_mlflow()


def maker(revision: str) -> str:
    """Return a text that names a revision, and the MLflow release that makes it if known."""
    known = RELEASES.get(revision)
    return f"schema {revision}, MLflow {known}" if known else f"schema {revision}"


# ------------------------------------------------------------------------ MLflow's own chain


def create_by_chain(path: str) -> None:
    """Make the same by the installed MLflow's chain (2 to 6 s), for tests of ``empty_database``."""
    with _alembic(path) as (engine, run):
        from mlflow.store.tracking.dbmodels.initial_models import Base

        Base.metadata.create_all(engine)
        run(MLFLOW_39)


def create_on(engine: Any, revision: str) -> None:
    """Make MLflow's tables at ``revision`` in an empty database on a server, as MLflow does.

    Raises TargetError when a migration fails, and SQLAlchemy's errors for the server's own.
    """
    import alembic.util
    from mlflow.exceptions import MlflowException

    try:
        with _quiet():
            from mlflow.store.tracking.dbmodels.initial_models import Base

            Base.metadata.create_all(engine)
            _run(engine, revision)
    except (RuntimeError, ValueError, MlflowException, alembic.util.CommandError) as error:
        raise TargetError(
            f"MLflow's own migrations to {maker(revision)} failed. They say: {error}",
            todo="Make the database anew (DROP DATABASE, CREATE DATABASE), then convert again.",
        ) from error


def prepare() -> None:
    """Import everything that ``upgrade`` needs, which takes most of its time."""
    from alembic.script import ScriptDirectory

    with _quiet():
        from mlflow.store.db import utils

        ScriptDirectory.from_config(utils._get_alembic_config("sqlite://")).get_current_head()


def upgrade(path: str, revision: str) -> None:
    """Upgrade the database in ``path`` to ``revision`` by MLflow's own migrations.

    Raises TargetError when a migration fails on the rows; the file is of no use then.
    """
    import alembic.util
    import sqlalchemy
    from mlflow.exceptions import MlflowException

    try:
        with _alembic(path) as (_engine, run):
            run(revision)
    except (
        RuntimeError,
        ValueError,
        MlflowException,
        alembic.util.CommandError,
        sqlalchemy.exc.SQLAlchemyError,
    ) as error:
        raise TargetError(
            f"MLflow's own upgrade to {maker(revision)} failed; nothing was changed. "
            f"It says: {error}",
            todo="The schema of MLflow 3.9 (--schema 3.9) needs no upgrade.",
        ) from error


@contextlib.contextmanager
def _alembic(path: str) -> Iterator[tuple[Any, Any]]:
    """Yield an engine on ``path``, and a function that upgrades it to a revision."""
    import sqlalchemy

    with _quiet():
        engine = sqlalchemy.create_engine(
            sqlalchemy.URL.create("sqlite", database=path), poolclass=sqlalchemy.pool.NullPool
        )
        sqlalchemy.event.listen(engine, "connect", lambda raw, _: tune(raw))

        try:
            yield engine, functools.partial(_run, engine)
        except sqlalchemy.exc.DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise error.orig from error
            raise
        finally:
            engine.dispose()


def _run(engine: Any, revision: str) -> None:
    from alembic import command
    from mlflow.store.db import utils

    # The URL is not used: env.py takes the engine of the connection that we hand over.
    config = utils._get_alembic_config("sqlite://")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow and Alembic from printing their progress."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the migrations have loggers of their own
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def tune(connection: sqlite3.Connection) -> None:
    """Make a staging file's connection fast.

    A staging file is thrown away after any failure, so that it needs no journal on disk and no
    sync before it is published. The journal is kept in memory all the same: a savepoint needs it.
    """
    for pragma in ("journal_mode=MEMORY", "synchronous=OFF", "cache_size=-32768"):
        connection.execute(f"PRAGMA {pragma}").close()
    connection.execute("PRAGMA temp_store=MEMORY").close()
