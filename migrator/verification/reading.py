"""Reading a target through MLflow: what is missing, what is unreadable, and what breaks midway."""

from __future__ import annotations

import functools
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from migrator import conventions, databases, encoding
from migrator.errors import TargetError
from migrator.model import ExistingExperiment

_Method = TypeVar("_Method", bound=Callable[..., Any])

# For a word in the message of a target that breaks while it is read: what is wrong, what to do.
_DAMAGED = ("is damaged", "Restore a backup, or convert into a new database, and verify again.")
_SILENT = ("doesn't answer any more", "See that it runs, and verify again.")
_BROKEN: tuple[tuple[str, tuple[str, str]], ...] = (
    ("malformed", _DAMAGED),
    ("not a database", _DAMAGED),
    ("utf-8", _DAMAGED),
    ("disk i/o error", ("can't be read from its disk", "See that the disk is sound.")),
    ("locked", ("is locked by another process", "Stop what is writing into it, and try again.")),
    (" 500", ("answers with an error", "See its log, and verify again.")),
    ("internal_error", ("answers with an error", "See its log, and verify again.")),
    ("connection", _SILENT),
    ("max retries", _SILENT),
    ("timed out", _SILENT),
)
_CAUSE = re.compile(r".*\(Caused by (.*)\)$")  # of an error of requests, after all that was asked


@contextmanager
def reporting_broken(shown: str) -> Iterator[None]:
    """Raise TargetError where a target breaks while it is read; ``shown`` is its name.

    MLflow and its libraries raise their own errors for a target that is gone, and any of Python's
    for rows that are damaged.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (
        *(MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ValueError, TypeError),
        *(LookupError, AttributeError, ArithmeticError),
    ) as error:
        raise broken(shown, error) from None  # its text may hold values of rows


def existing_experiment(target_id: int, found: Any) -> ExistingExperiment:
    """An experiment that MLflow returned, for planning; ``target_id`` is its id in plans."""
    fields = source_fields(found.tags)
    return ExistingExperiment(
        target_id,
        str(found.name),
        fields.get("creation_ms", found.creation_time),
        found.lifecycle_stage == "deleted",
        found.tags.get(conventions.MIGRATOR_SOURCE_EXPERIMENT),
        found.tags.get(conventions.MIGRATOR_SOURCE_NAME),
        workspace=getattr(found, "workspace", conventions.DEFAULT_WORKSPACE),
    )


def source_fields(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the source's fields that the conversion kept in a tag; empty if it is unreadable."""
    try:
        fields = json.loads(tags.get(conventions.MIGRATOR_SOURCE_FIELDS, "{}"))
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def reading(method: _Method) -> _Method:
    """Run a method of a comparer in ``reporting_broken``, with the comparer's ``shown``."""

    @functools.wraps(method)
    def guarded(comparer: Any, *arguments: Any, **named: Any) -> Any:
        with reporting_broken(comparer.shown):
            return method(comparer, *arguments, **named)

    return guarded  # type: ignore[return-value]  # the same signature


def broken(shown: str, error: BaseException) -> TargetError:
    """Return the error for a target that can't be read any more, with the reason."""
    from mlflow.exceptions import MlflowException

    cause = database_error(error) or error
    said = encoding.cut(_CAUSE.sub(r"\1", databases.first_line(cause)), 200)
    if cause is error and not isinstance(error, (MlflowException, OSError)):
        said = f"{type(error).__name__}: {said}"
    why, todo = next(
        (found for word, found in _BROKEN if word in said.lower()),
        ("can't be read", "It may be damaged: convert into a new database, and verify again."),
    )
    return TargetError(f"{shown} {why}: {said}.", todo=f"Nothing was changed. {todo}")


def database_error(error: BaseException) -> BaseException | None:
    """Return the driver's error that is the cause of another, if there is one."""
    from sqlalchemy.exc import DBAPIError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DBAPIError):
            return cause.orig or cause
        if isinstance(cause, sqlite3.Error):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Takes the place of an entity that is there, but that MLflow can't read."""

    why: str


def read_entity(read: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return the entity that MLflow reads, None if there is none, or ``Unreadable``.

    Raises TargetError when the database itself can't be read.
    """
    from mlflow.exceptions import MlflowException

    try:
        return read(*args, **options)
    except MlflowException as error:
        if database_error(error) is not None:
            raise broken("The database", error) from None
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        return Unreadable(str(error.message))
