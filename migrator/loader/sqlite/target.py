"""A SQLite file as the target: what it is, whether it can be written, and publishing to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from migrator import conventions, databases
from migrator.errors import TargetError
from migrator.issues import Issue
from migrator.loader import schema as schemas
from migrator.loader.existing import existing_experiment, experiments_query
from migrator.loader.publication import PublishOptions, SourceState, Staged
from migrator.loader.sqlite import merge, seen, staging
from migrator.loader.sqlite.files import (
    DatabaseFile,
    connect,
    exists,
    path_of,
    read_revision,
    reporting,
)
from migrator.model import ConvertedExperiment, ExistingExperiment
from migrator.outcome.written import Written
from migrator.paths import sqlite_uri


@dataclass(frozen=True, slots=True)
class SqliteTarget:
    """A SQLite file that can be written: a new one, or an MLflow database of the wanted schema."""

    uri: str  # sqlite:///…, for MLflow and for messages
    path: str  # absolute, symbolic links resolved
    exists: bool  # False also for an empty file: SQLite takes that for a new database
    revision: str | None  # Alembic revision of an existing database
    wanted: str  # the revision to be written

    @property
    def largest_id(self) -> int:
        """The largest experiment id that the database can hold."""
        return conventions.INT64_MAX

    @property
    def collation_key(self) -> Callable[[str], str]:
        """Key function: names that the target treats as equal get equal keys."""
        return databases.collation_key(None)

    @property
    def report_base(self) -> Path:
        """The path to which a report's own ending is appended."""
        return Path(self.path)

    def experiments(self) -> tuple[ExistingExperiment, ...]:
        """Return every experiment of an existing target, deleted ones too."""
        if not self.exists:
            return ()
        with reporting(self.path), contextlib.closing(connect(self.path)) as db:
            return tuple(map(existing_experiment, db.execute(experiments_query(self.revision))))

    def experiments_of_runs(self, run_ids: Sequence[str]) -> frozenset[int]:
        """Return the ids of the experiments that have one of these runs."""
        if not self.exists:
            return frozenset()
        with reporting(self.path), contextlib.closing(connect(self.path)) as db:
            db.execute("CREATE TEMP TABLE wanted (id TEXT)")
            db.executemany("INSERT INTO temp.wanted VALUES (?)", zip(run_ids))
            rows = db.execute(
                "SELECT DISTINCT experiment_id FROM main.runs "
                "WHERE run_uuid IN (SELECT id FROM temp.wanted)"
            )
            return frozenset(int(number) for (number,) in rows)

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
        if not self.exists:
            return ()
        with reporting(self.path), contextlib.closing(connect(self.path)) as db:
            is_there = "SELECT 1 FROM main.sqlite_master WHERE name = ?"
            if db.execute(is_there, (seen.TABLE,)).fetchone() is None:
                return ()
            return db.execute(seen.query_of(items)).fetchall()

    def apply_limits(self, db: sqlite3.Connection) -> tuple[Counter[str], list[Issue]]:
        """Change nothing: a SQLite column holds any text and any number of 64 bits."""
        return Counter(), []

    def publish(self, staged: Staged, options: PublishOptions) -> Written:
        """Give the staging file the target's name, or add its rows to the database that is there.

        A new target appears complete and synced to disk. An existing one gets the rows that it
        lacks in one transaction, after a backup; one that lacks nothing stays byte for byte what
        it was. Returns what the target had already. Raises TargetError and LedgerError.
        """
        if self.revision is not None:
            return merge.merge(staged, DatabaseFile(self.path, self.revision), options)
        staged.db.execute("BEGIN")
        seen.remember(staged.db, options.source)
        seen.keep_state(staged.db, "main", options.state, ())
        staged.db.execute("COMMIT")
        staged.db.close()
        options.committing()
        if not staging.publish_new(staged.path, self.path):
            raise TargetError(
                f"{self.path} appeared while the conversion ran; it was left as it is.",
                todo="Convert again: what it lacks will be added to it.",
            )
        return Written()


def open_sqlite(uri: str, wanted: str) -> SqliteTarget:
    """Check that a SQLite file can be written, before any work is done.

    ``wanted`` is the schema revision. Nothing is created or changed. Raises TargetError.
    """
    path = path_of(uri)
    uri = sqlite_uri(path)
    directory = Path(path).parent
    if not directory.is_dir():
        problem = "is not a directory" if directory.exists() else "does not exist"
        raise TargetError(
            f"{uri} can't be written: {directory} {problem}.",
            todo=f"Make it first: mkdir -p {directory}" if problem == "does not exist" else "",
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise TargetError(
            f"{uri} can't be written: no permission to write in {directory}.",
            todo="The new database is made beside it; give write permission, or choose another "
            "directory.",
        )
    if not exists(path):
        for suffix in ("-wal", "-journal"):
            # SQLite would take it for the new database's own and roll its content into it.
            if Path(path + suffix).exists():
                raise TargetError(
                    f"{path + suffix} is left over from a database that is gone, and SQLite "
                    "would mix it into the new one.",
                    todo="Move that file away.",
                )
        return SqliteTarget(uri, path, False, None, wanted)
    return SqliteTarget(uri, path, True, _check_database(uri, path, wanted), wanted)


def _check_database(uri: str, path: str, wanted: str) -> str:
    revision = read_revision(path, wanted)
    if revision == wanted:
        return revision
    chain = schemas.chain()
    version = schemas.installed_mlflow()
    want, found = schemas.maker(wanted), schemas.maker(revision)
    if revision not in chain:
        raise TargetError(
            f"{path} was written by a newer MLflow ({found}) than the installed {version} "
            f"({schemas.maker(chain[-1])}).",
            todo="Install the MLflow that made it, or choose another target; MLflow has no way "
            "back to an older schema.",
        )
    if chain.index(revision) < chain.index(wanted):
        stay = (
            ", or keep it as it is and convert with --schema 3.9"
            if revision == schemas.MLFLOW_39
            else ""
        )
        raise TargetError(
            f"{path} is at an older schema ({found}) than the one wanted ({want}).",
            todo=f"Upgrade it first: mlflow-migrate upgrade {uri} (makes a backup), or "
            f"mlflow db upgrade {uri}{stay}.",
        )
    raise TargetError(
        f"{path} is at a newer schema ({found}) than the one wanted ({want}).",
        todo="Convert with --schema latest, or choose another target; MLflow has no way back to "
        "an older schema.",
    )
