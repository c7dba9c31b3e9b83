"""The databases that staged rows are written to: what they have in common, and opening one.

A SQLite file and a database on a PostgreSQL or MySQL server get the same rows. A ``Writer`` stages
them and hands them to the target, which publishes them. An MLflow server is written through its API
instead (``migrator.loader.rest``): it gets no rows, and draws ids of its own.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from migrator import addresses
from migrator.issues import Issue
from migrator.loader import schema as schemas
from migrator.loader.publication import PublishOptions, SourceState, Staged
from migrator.loader.sqlite.target import open_sqlite
from migrator.model import ConvertedExperiment, ExistingExperiment
from migrator.outcome.written import Written


class Target(Protocol):
    """A database that can be written to: a new one, or MLflow's at the wanted schema."""

    @property
    def uri(self) -> str:
        """The URI for messages, without a password."""

    @property
    def path(self) -> str:
        """The path beside which the staging file is made; the database itself if it is a file."""

    @property
    def exists(self) -> bool:
        """False for a database that has no tables yet."""

    @property
    def wanted(self) -> str:
        """The Alembic revision to be written."""

    @property
    def largest_id(self) -> int:
        """The largest experiment id that the database can hold."""

    @property
    def collation_key(self) -> Callable[[str], str]:
        """Key function: names that the target treats as equal get equal keys."""

    @property
    def report_base(self) -> Path:
        """The path to which a report's own ending is appended."""

    def experiments(self) -> tuple[ExistingExperiment, ...]:
        """Return every experiment of an existing target, deleted ones too."""

    def experiments_of_runs(self, run_ids: Sequence[str]) -> frozenset[int]:
        """Return the ids of the experiments that have one of these runs."""

    def converted_experiments(
        self, some: Sequence[ConvertedExperiment]
    ) -> frozenset[ConvertedExperiment]:
        """Return those of some experiments that an earlier conversion wrote, deleted or not."""

    def has_state(self, state: SourceState) -> bool:
        """Whether the last conversion of a source found it in this state."""

    def apply_limits(self, db: sqlite3.Connection) -> tuple[Counter[str], list[Issue]]:
        """Make all staged rows fit the target's columns.

        ``db`` is the staging file. Returns how many rows of each table were refused, and an issue
        for each change. Raises TargetError.
        """

    def publish(self, staged: Staged, options: PublishOptions) -> Written:
        """Add every staged row that the target lacks. Returns what it had already.

        Raises TargetError and LedgerError.
        """


def open_target(uri: str, schema: str | None = None) -> Target:
    """Check that the database at ``uri`` can be written to, before any work is done.

    ``schema`` is ``3.9``, or ``latest`` or None for that of the installed MLflow. Nothing is
    created or changed. Raises TargetError (what is wrong, where, and what to do) and OptionError.
    """
    wanted = schemas.wanted_revision(schema)
    if addresses.is_database_server(uri):
        from migrator.loader.networked.target import open_networked  # most targets are files

        return open_networked(uri, wanted)
    return open_sqlite(uri, wanted)
