"""Errors that a user can cause or meet. Each reads: what, where, why, what to do.

MigrateError
├── SourceError        the file store can't be opened
├── TargetError        the database can't be written
├── OptionError        options that don't fit together, an unreadable profile
├── WorkerError        a process of ours died
├── RejectedError      something was rejected, and the user wants to stop then (--on-error stop)
└── LedgerError        the counts don't close: a defect of ours; nothing was published
"""

from __future__ import annotations

from migrator.credentials import without_credentials


class MigrateError(Exception):
    """Base of all errors that the command line prints as one message and exit code 1.

    Addresses in the message are shown without passwords, whoever wrote it.
    """

    def __init__(self, what: str, *, todo: str = "") -> None:
        what, todo = without_credentials(what), without_credentials(todo)
        super().__init__(f"{what} {todo}".strip())
        self.what = what
        self.todo = todo


class SourceError(MigrateError):
    """The source is missing, unreadable, or not a file store."""


class TargetError(MigrateError):
    """The target is not a database that can be written."""


class OptionError(MigrateError):
    """An option's value is unusable; exit code 2."""


class WorkerError(MigrateError):
    """A process that did a part of the work died. Nothing has been published."""


class RejectedError(MigrateError):
    """Something can't be converted, and ``--on-error stop`` was given. Nothing was published."""


class LedgerError(MigrateError):
    """What was found is not what was accounted for. Nothing has been published."""
