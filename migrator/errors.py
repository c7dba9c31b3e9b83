"""Errors that a user can cause or meet. Each message says what, where, why, and what to do.

MigrateError
├── SourceError        the file store can't be opened
├── TargetError        the database can't be written
├── OptionError        an invalid option or profile, or options that exclude each other
├── WorkerError        a worker process or cluster failed
├── RejectedError      an item was rejected, with --on-error stop
└── LedgerError        the ledger does not balance: a defect of this program
"""

from __future__ import annotations

from migrator.credentials import without_credentials


class MigrateError(Exception):
    """Base of all errors that the command line prints as one message, with exit code 1.

    ``what`` is the problem and ``todo`` the advice. Passwords in addresses are masked in both.
    """

    def __init__(self, what: str, *, todo: str = "") -> None:
        what, todo = without_credentials(what), without_credentials(todo)
        super().__init__(f"{what} {todo}".strip())
        self.what = what
        self.todo = todo


class SourceError(MigrateError):
    """The source is missing, unreadable, not of MLflow, or holds nothing for the command."""


class TargetError(MigrateError):
    """The target is missing, unreachable, or not a database that can be written."""


class OptionError(MigrateError):
    """An option is invalid; the exit code is 2."""


class WorkerError(MigrateError):
    """A worker process or cluster failed. Nothing was published."""


class RejectedError(MigrateError):
    """An item can't be converted, with ``--on-error stop``. Nothing was published."""


class LedgerError(MigrateError):
    """The ledger does not balance: an item was found and lost. Nothing was published."""
