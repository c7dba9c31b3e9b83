"""A database on a PostgreSQL or MySQL server as the target: whether it can be written to."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from migrator import databases
from migrator.credentials import masked
from migrator.errors import TargetError
from migrator.issues import Issue
from migrator.loader import schema as schemas
from migrator.loader.existing import existing_experiment, experiments_query
from migrator.loader.networked import column_limits, publish
from migrator.loader.networked.column_limits import BASIC_PLANE, ColumnLimits
from migrator.loader.networked.connection import connecting, schema_revision
from migrator.loader.publication import PublishOptions, SourceState, Staged
from migrator.loader.sqlite import seen
from migrator.model import ConvertedExperiment, ExistingExperiment
from migrator.outcome.written import Written

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection

_CHARSETS = {"latin1": "cp1252", "utf8mb3": BASIC_PLANE, "utf8": BASIC_PLANE, "ascii": "ascii"}
_IDS_PER_QUERY = 1000
_PROBE = "tags"  # a table in which all kinds of changes are tried, without changing a row


@dataclass(frozen=True, slots=True)
class NetworkedTarget:
    """A database on a server: an empty one, or MLflow's at the wanted schema."""

    uri: str  # without the password, for messages
    path: str  # where the staging file is made
    exists: bool  # False for a database without tables
    revision: str | None  # Alembic revision of MLflow's tables
    wanted: str  # the revision to be written
    url: URL = field(repr=False)
    collation: tuple[str, str] | None = None  # charset and collation, where they matter (MySQL)

    @property
    def largest_id(self) -> int:
        """The largest experiment id that the database can hold."""
        return databases.LARGEST_EXPERIMENT_ID

    @property
    def collation_key(self) -> Callable[[str], str]:
        """Key function: names that the server's collation may treat as equal get equal keys."""
        return databases.collation_key(self.collation)

    @property
    def report_base(self) -> Path:
        """The path to which a report's own ending is appended, in the current directory."""
        return Path.cwd() / f"mlflow-migrate-{Path(str(self.url.database)).name}"

    def experiments(self) -> tuple[ExistingExperiment, ...]:
        """Return every experiment that is there, deleted ones too."""
        if not self.exists:
            return ()
        with connecting(self.url) as (_, db):
            return tuple(
                map(existing_experiment, db.exec_driver_sql(experiments_query(self.revision)))
            )

    def experiments_of_runs(self, run_ids: Sequence[str]) -> frozenset[int]:
        """Return the ids of the experiments that have one of these runs."""
        if not self.exists:
            return frozenset()
        import sqlalchemy

        runs = sqlalchemy.table(
            "runs", sqlalchemy.column("experiment_id"), sqlalchemy.column("run_uuid")
        )
        found: set[int] = set()
        with connecting(self.url) as (_, db):
            for start in range(0, len(run_ids), _IDS_PER_QUERY):
                some = run_ids[start : start + _IDS_PER_QUERY]
                query = sqlalchemy.select(runs.c.experiment_id).distinct()
                rows = db.execute(query.where(runs.c.run_uuid.in_(some)))
                found.update(int(number) for (number,) in rows)
        return frozenset(found)

    def converted_experiments(
        self, some: Sequence[ConvertedExperiment]
    ) -> frozenset[ConvertedExperiment]:
        """Return those of some experiments that an earlier conversion wrote, deleted or not."""
        return seen.converted_experiments(some, self._remembered)

    def has_state(self, state: SourceState) -> bool:
        """Whether the last conversion of a source found it in this state."""
        return seen.has_state(state, self._remembered)

    def _remembered(self, items: Sequence[int]) -> Sequence[Sequence[int]]:
        """Return item and content of those of some items that are remembered."""
        import sqlalchemy

        if not self.exists:
            return ()
        with connecting(self.url) as (_, db):
            if not sqlalchemy.inspect(db).has_table(seen.TABLE):
                return ()
            return db.exec_driver_sql(seen.query_of(items)).fetchall()

    def apply_limits(self, db: sqlite3.Connection) -> tuple[Counter[str], list[Issue]]:
        """Make all staged rows fit the server's columns.

        ``db`` is the staging file. Returns how many rows of each table were refused, and an issue
        for each change. Raises TargetError.
        """
        if self.collation is None:
            return column_limits.apply_limits(db, ColumnLimits(takes_nul=False))
        charset, collation = self.collation
        with connecting(self.url) as (_, server_db):

            def is_same(one: str, other: str) -> bool:
                sides = f"CONVERT(%s USING {charset}) COLLATE {collation}"
                found = server_db.exec_driver_sql(f"SELECT {sides} = {sides}", (one, other))
                return bool(found.scalar())

            limits = ColumnLimits(True, _CHARSETS.get(charset), text_bytes=True, is_same=is_same)
            return column_limits.apply_limits(db, limits)

    def publish(self, staged: Staged, options: PublishOptions) -> Written:
        """Add every staged row that the server lacks, one transaction for each experiment.

        An empty database gets MLflow's tables first. There is no backup, and ``committing`` is not
        called. Returns what the server had already. Raises TargetError, and KeyboardInterrupt with
        a message; both say how many experiments are complete in the target.
        """
        database = publish.ServerDatabase(
            self.uri, self.path, self.url, self.wanted, is_empty=not self.exists
        )
        return publish.publish(staged, database, options)


def open_networked(uri: str, wanted: str) -> NetworkedTarget:
    """Check that a database on a server can be written to, before any work is done.

    ``wanted`` is the schema revision. Nothing is created or changed. Raises TargetError.
    """
    url = databases.server_url(uri)
    with connecting(url) as (_, db):
        revision = schema_revision(url, db, wanted)
        if revision is not None:
            _check_revision(url, revision, wanted)
        _try_to_write(url, db, empty=revision is None)
        collation = databases.collation(db)
    if collation is not None and collation[0] != "utf8mb4":
        if revision is None:
            raise TargetError(
                f"{masked(str(url))} has charset {collation[0]}, which can't hold all text.",
                todo=f"While it is empty: ALTER DATABASE {url.database} CHARACTER SET utf8mb4 "
                "COLLATE utf8mb4_bin",
            )
        if collation[0] not in _CHARSETS:
            raise TargetError(
                f"{masked(str(url))} has charset {collation[0]}, which this tool doesn't know.",
                todo="Convert into a database with charset utf8mb4.",
            )
    path = str(_private_directory() / f"{url.get_backend_name()}-{Path(str(url.database)).name}")
    return NetworkedTarget(
        masked(str(url)), path, revision is not None, revision, wanted, url, collation
    )


def _check_revision(url: URL, revision: str, wanted: str) -> None:
    if revision == wanted:
        return
    chain = schemas.chain()
    uri, version = masked(str(url)), schemas.installed_mlflow()
    found, want = schemas.maker(revision), schemas.maker(wanted)
    if revision not in chain:
        raise TargetError(
            f"{uri} was written by a newer MLflow ({found}) than the installed {version} "
            f"({schemas.maker(chain[-1])}).",
            todo="Install the MLflow that made it; MLflow has no way back to an older schema.",
        )
    if chain.index(revision) < chain.index(wanted):
        raise TargetError(
            f"{uri} is at an older schema ({found}) than the one wanted ({want}).",
            todo=f"Make a backup and upgrade it with MLflow: mlflow db upgrade {uri}. Or install "
            "the MLflow that made it.",
        )
    raise TargetError(
        f"{uri} is at a newer schema ({found}) than the one wanted ({want}).",
        todo="Convert with --schema latest, or choose another database.",
    )


def _try_to_write(url: URL, db: Connection, *, empty: bool) -> None:
    """Find out whether the user may write, with statements that leave nothing behind."""
    if not empty:
        for statement in (
            f"INSERT INTO {_PROBE} SELECT * FROM {_PROBE} WHERE 1 = 0",
            f"UPDATE {_PROBE} SET value = value WHERE 1 = 0",
            f"DELETE FROM {_PROBE} WHERE 1 = 0",
        ):
            db.exec_driver_sql(statement)
    elif url.get_backend_name() == "postgresql":  # MySQL can't take a new table back
        db.exec_driver_sql("CREATE TABLE mlflow_migrate_probe (id INTEGER)")
    db.rollback()


def _private_directory() -> Path:
    """Return a directory for staging files that nobody else may read; it is kept."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    path = Path(tempfile.gettempdir(), f"mlflow-migrate-{user}")
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise TargetError(
            f"{path} can't be made: {error.strerror}.", todo="Set TMPDIR to a directory of yours."
        ) from error
    if hasattr(os, "getuid") and (found.st_uid != user or found.st_mode & 0o077):
        raise TargetError(
            f"Others may write in {path}, where the new rows are to be prepared.",
            todo="Remove it, or set TMPDIR to a directory of yours.",
        )
    return path
