"""Databases on a PostgreSQL or MySQL server: their URIs, opening them, and explaining errors.

Nothing here writes. SQLAlchemy and the drivers are imported where they are used. A password is
never part of a message: ``credentials.masked`` leaves it out.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from migrator.addresses import database_backend
from migrator.credentials import has_secret_parameter, masked, without_secrets
from migrator.errors import TargetError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection, Engine

LARGEST_EXPERIMENT_ID = 2**31 - 1  # column experiments.experiment_id: INTEGER, of 64 bits in SQLite
CONNECT_SECONDS = 10

# Backend -> its drivers as SQLAlchemy calls them, and the modules that must be there. Where none is
# named, SQLAlchemy 2.1 takes psycopg 3; MLflow 3.9 can't look up a model version through that
# ("operator does not exist: integer = character varying"), so psycopg2 comes first.
DRIVERS = {
    "postgresql": {"psycopg2": "psycopg2", "psycopg": "psycopg"},
    "mysql": {"pymysql": "pymysql", "mysqldb": "MySQLdb"},
}
_NAMES = {"postgresql": "PostgreSQL", "mysql": "MySQL"}


def new_targets(sources: Sequence[str]) -> Iterator[str]:
    """``sqlite:///migrated.db``, ``sqlite:///migrated-2.db``, …: none is named like a source."""
    taken = {re.split(r"[/\\]", source)[-1] for source in sources}
    for number in itertools.count(1):
        name = "migrated.db" if number == 1 else f"migrated-{number}.db"
        if name not in taken:
            yield f"sqlite:///{name}"


def server_url(uri: str) -> URL:
    """Parse a server's URI, and choose a driver that is installed.

    A URI that names no driver gets the first of ``DRIVERS`` that is installed. Raises TargetError
    when the URI names no database, or no driver is installed.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    backend = database_backend(uri)
    if backend is None:
        raise TargetError(f"{masked(uri)} names no PostgreSQL or MySQL server.")
    example = f"{backend}://user:password@host/database"
    if uri.count("@") > 1:  # a part of the password would be taken for the host, and be printed
        raise TargetError(
            f"{masked(uri)}: its address holds more than one @.",
            todo="Write %40 for each @ in the user and the password.",
        )
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):
        raise TargetError(
            f"{masked(uri)} is not a database URI.",
            todo=f"Write {example}, with %40 for @, %2F for / and %3A for : in the password.",
        ) from None
    if url.get_backend_name() != backend:
        raise TargetError(
            f"{masked(str(url))}: MLflow calls this kind of server {backend}.",
            todo=f"Write {example}",
        )
    if not url.database:
        raise TargetError(f"{masked(str(url))} names no database.", todo=f"Write {example}")
    drivers = DRIVERS[backend]
    named = url.drivername.partition("+")[2]
    if named and named not in drivers:
        raise TargetError(
            f"{masked(str(url))}: driver {named} can't be used by this tool.",
            todo=f"Write {backend}+{' or '.join(drivers)}://…, or name none.",
        )
    wanted = [named] if named else list(drivers)
    for driver in wanted:
        if importlib.util.find_spec(drivers[driver]) is not None:
            return url.set(drivername=f"{backend}+{driver}")
    raise TargetError(
        f"{masked(str(url))} needs a driver for {_NAMES[backend]}, and {' and '.join(wanted)} "
        f"{'is' if len(wanted) == 1 else 'are'} not installed.",
        todo=f"Install one: pip install 'mlflow-migrate[{backend}]'",
    )


def engine_of(url: URL, *, read_only: bool = False) -> Engine:
    """Return an engine that keeps no connection open after its use."""
    import sqlalchemy

    return sqlalchemy.create_engine(
        read_only_url(url) if read_only else patient_url(url),
        poolclass=sqlalchemy.pool.NullPool,
    )


def patient_url(url: URL) -> URL:
    """Return the URL with a connection timeout (10 s) and a charset for all of Unicode."""
    wanted = {"connect_timeout": str(CONNECT_SECONDS)}
    if url.get_backend_name() == "mysql":
        wanted["charset"] = "utf8mb4"
    return url.update_query_dict({k: v for k, v in wanted.items() if k not in url.query})


def read_only_url(url: URL) -> URL:
    """Return the URL so that its sessions can't write."""
    url = patient_url(url)
    if url.get_backend_name() == "mysql":
        return url.update_query_dict({"init_command": "SET SESSION TRANSACTION READ ONLY"})
    given = url.query.get("options", ())
    options = [given] if isinstance(given, str) else list(given)
    options.append("-c default_transaction_read_only=on")
    return url.update_query_dict({"options": " ".join(options)})


# ------------------------------------------------------------------------- which texts are equal


def collation(db: Connection) -> tuple[str, str] | None:
    """Return the charset and collation of MLflow's texts on a MySQL server, None on PostgreSQL.

    They are those of the column ``experiments.name``, or of the database if that has no tables.
    """
    if db.dialect.name == "postgresql":
        return None
    for query in (
        "SELECT character_set_name, collation_name FROM information_schema.columns WHERE "
        "table_schema = DATABASE() AND table_name = 'experiments' AND column_name = 'name'",
        "SELECT @@character_set_database, @@collation_database",
    ):
        found = db.exec_driver_sql(query).fetchone()
        if found is not None:
            return str(found[0]), str(found[1])
    raise AssertionError("MySQL knows no database of this session")


def collation_key(found: tuple[str, str] | None) -> Callable[[str], str]:
    """Return a key function: names that the server's collation treats as equal get equal keys.

    ``found`` is a charset and a collation, or None for a database that compares text exactly.
    """
    if found is None or found[1].endswith("_bin"):
        return str
    return widest_collation_key


def widest_collation_key(text: str) -> str:
    """Return a key that is equal for all texts that any of MySQL's collations treats as equal.

    It ignores case, accents, width, spaces at the end and characters without weight, and takes all
    characters beyond the first 65,536 for one, as MySQL's older collations do. Texts with equal
    keys may still differ for a given collation.
    """
    if text.isascii() and text.isprintable():
        return text.casefold().rstrip()
    plain = unicodedata.normalize("NFKD", text.casefold())
    kept = [
        "\U00010000" if ord(c) > 0xFFFF else c
        for c in plain
        if unicodedata.category(c)[0] not in "MC"
    ]
    return "".join(kept).rstrip()


# --------------------------------------------------------------------------- what errors say

# Error codes (SQLSTATE, MySQL's numbers), words of messages that come without one, what is wrong,
# what to do.
_CASES: tuple[tuple[tuple[str, ...], tuple[str, ...], str, str], ...] = (
    (
        ("28P01", "28000", "1045", "1698"),
        ("password authentication failed", "no password supplied", "pg_hba.conf", "role "),
        "the server refuses this user or password",
        "Check user and password; in a URI write %40 for @, %2F for / and %3A for :.",
    ),
    (
        ("3D000", "1049"),
        ("database",),
        "there is no such database on the server",
        "Make an empty one first (CREATE DATABASE), for MySQL with CHARACTER SET utf8mb4 COLLATE "
        "utf8mb4_bin.",
    ),
    (
        ("1044", "1142", "1143", "1370", "42501"),
        (),
        "this user may not do what a conversion needs",
        "Let the user read and write all of MLflow's tables (the owner of the database may).",
    ),
    (
        ("25006", "1290", "1792", "1836"),
        (),
        "the database is read-only (a standby, or set so)",
        "Give the primary server's address, or a user who may write.",
    ),
    (
        ("53300", "1040", "1203", "1226"),
        ("too many connections", "too many clients"),
        "the server has no free connection",
        "Try again, or allow more connections on the server.",
    ),
    (
        ("23505", "1062"),
        (),
        "an id or name of the source was taken by something else while the conversion ran",
        "Convert again; --on-conflict says what to do with names that are taken.",
    ),
    (
        ("53100", "1021", "1114"),
        (),
        "the server's disk is full",
        "Make room there, then convert again: what was written stays.",
    ),
    (
        ("1153",),
        (),
        "a row is bigger than the server accepts",
        "Set max_allowed_packet on the server higher (it may be 1G), then convert again.",
    ),
    (
        ("08000", "08001", "08003", "08006", "57P01", "57P02", "57P03", "2002", "2003", "2005",
         "2006", "2013", "1053"),
        (
            "could not translate", "connection refused", "timeout", "timed out",
            "could not connect",
            "failed to resolve", "name or service", "server closed", "is the server running",
            "no route", "connection is bad", "failed:", "starting up", "shutting down", "ssl",
            "terminating connection",
        ),
        "the server can't be reached",
        "Check that it runs, its address and port, and that this machine may connect to it.",
    ),
)  # fmt: skip


@contextmanager
def reporting(url: URL) -> Iterator[None]:
    """Turn the errors of a server and its driver into a TargetError.

    Neither its message nor its traceback holds the password or values of rows: the driver's own
    error, which has both, is not chained.
    """
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        raise _explained(url, error.orig or error) from None


def error_code(error: BaseException) -> str:
    """Return a driver's error code: PostgreSQL's SQLSTATE, MySQL's number, or an empty text."""
    first = error.args[0] if error.args else ""
    if isinstance(first, int):
        return str(first)
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")


# Of a value that a column refuses, drivers quote the value: "Duplicate entry 'x' for key",
# "Incorrect integer value: 'x' for column", "invalid input syntax for type bigint: "x"".
_QUOTED_VALUE = re.compile(
    r"(entry |value:? |syntax[^\"']*: |type [\w ]+: )"
    r"(?:(['\"]).*\2(?= for | is )|(['\"]).*\3(?= at |\n|$))",
    re.IGNORECASE | re.DOTALL,
)


def _secret_parameters(url: URL) -> list[str]:
    secret = []
    for name, value in url.query.items():
        values = (value,) if isinstance(value, str) else value
        secret += [each for each in values if has_secret_parameter(f"?{name}={each}")]
    return secret


def first_line(error: BaseException) -> str:
    """Return the first line of a driver's message, without the value that it quotes."""
    said = str(error.args[-1] if error.args else error).strip()
    said = _QUOTED_VALUE.sub(r"\1…", said)
    return said.splitlines()[0].rstrip(".") if said else type(error).__name__


def _explained(url: URL, error: BaseException) -> TargetError:
    said = without_secrets(first_line(error), [str(url.password or ""), *_secret_parameters(url)])
    code = error_code(error)
    for codes, words, what, todo in _CASES:
        if code in codes or (not code and any(word in said.lower() for word in words)):
            return TargetError(f"{masked(str(url))}: {what}. It says: {said}.", todo=todo)
    return TargetError(
        f"{masked(str(url))} refused: {said}.", todo="See the server's log, then convert again."
    )
