"""Counts and checks the content of a staging file, in SQL of its own."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from migrator import conventions
from migrator.errors import LedgerError
from migrator.issues import Code, Issue, Kind
from migrator.loader.rows import COLUMNS, KINDS
from migrator.loader.sqlite.newer_columns import PROMOTED
from migrator.paths import openable_path

_EXAMPLES = 5
_LOOKERS = 2
_TABLES = "SELECT name FROM main.sqlite_master WHERE type = 'table'"

# Only the writer knows which traces are native, and which experiment tags are ours.
SIDE_TABLES = (
    "CREATE TEMP TABLE native (trace_id TEXT PRIMARY KEY)",
    "CREATE TEMP TABLE own_tags (key TEXT, experiment_id INTEGER, "
    "PRIMARY KEY (key, experiment_id))",
    # Rows that MLflow 3.17's migration turns into columns, by trace.
    "CREATE TEMP TABLE promoted (trace_id TEXT, tbl TEXT, n INTEGER)",
)


class Slice(NamedTuple):
    """The rows of one kind: a table and a condition on its rows ``s``."""

    kind: Kind
    table: str
    condition: str
    rebuilt: bool = False


TRACE_COLUMNS = {  # tables of traces, native and rebuilt -> the column that names the trace
    "trace_info": "request_id",
    "trace_tags": "request_id",
    "trace_request_metadata": "request_id",
    "spans": "trace_id",
    "assessments": "trace_id",
    "entity_associations": "source_id",  # those of source_type trace
}
_OF_TRACE = "s.source_type = 'trace'"


def kind_of(table: str, values: Mapping[str, object]) -> Kind | None:
    """The kind of entity that a row is; None for a table whose rows are not counted."""
    if table == "inputs" and values["source_type"] == "RUN_OUTPUT":
        return Kind.OUTPUT
    if table == "entity_associations" and values["source_type"] != "trace":
        return Kind.EVALUATION_DATASET_LINK
    return KINDS.get(table)


def trace_of(table: str, values: Mapping[str, object]) -> object:
    """The id of the trace that a row belongs to; None for other rows."""
    column = TRACE_COLUMNS.get(table)
    if column is None or kind_of(table, values) is Kind.EVALUATION_DATASET_LINK:
        return None
    return values[column]


def _slices() -> list[Slice]:
    slices = []
    for table, kind in KINDS.items():
        if table in TRACE_COLUMNS:
            native = f"s.{TRACE_COLUMNS[table]} IN (SELECT trace_id FROM temp.native)"
            of_trace = ""
            if table == "entity_associations":
                of_trace = f" AND {_OF_TRACE}"
                slices.append(Slice(Kind.EVALUATION_DATASET_LINK, table, f"NOT {_OF_TRACE}"))
            slices.append(Slice(kind, table, f"{native}{of_trace}"))
            slices.append(Slice(kind, table, f"NOT {native}{of_trace}", rebuilt=True))
        elif table == "inputs":
            slices.append(Slice(Kind.INPUT, table, "s.source_type <> 'RUN_OUTPUT'"))
            slices.append(Slice(Kind.OUTPUT, table, "s.source_type = 'RUN_OUTPUT'"))
        elif table == "workspaces":
            slices.append(Slice(kind, table, f"s.name <> '{conventions.DEFAULT_WORKSPACE}'"))
        elif table == "experiment_tags":
            own = "(s.key, s.experiment_id) IN (SELECT key, experiment_id FROM temp.own_tags)"
            slices.append(Slice(kind, table, f"NOT {own}"))
        else:
            slices.append(Slice(kind, table, "1"))
    return slices


SLICES = _slices()


def slices_of(table: str) -> list[Slice]:
    """The slices of one table's rows."""
    return [each for each in SLICES if each.table == table]


def key_columns(db: sqlite3.Connection, table: str, database: str = "main") -> tuple[str, ...]:
    """Return the columns of a table's primary key, in key order."""
    info = db.execute(f"PRAGMA {database}.table_info({quoted(table)})").fetchall()
    return tuple(row[1] for row in sorted((row for row in info if row[5]), key=lambda r: r[5]))


def own_key(db: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """Return the columns of a table's primary key by which people know a row."""
    return tuple(column for column in key_columns(db, table) if column != "workspace")


def columns(db: sqlite3.Connection, table: str, database: str = "main") -> tuple[str, ...]:
    """Return the columns of a table that are written: all but the computed ones."""
    info = db.execute(f"PRAGMA {database}.table_xinfo({quoted(table)})")
    return tuple(row[1] for row in info if row[6] == 0)  # 2 and 3 are computed columns


def written_columns(db: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """Return the columns of a table that we fill, without those that its schema lacks."""
    there = set(columns(db, table))
    return tuple(column for column in COLUMNS[table] if column in there)


def written_tables(db: sqlite3.Connection) -> list[str]:
    """Return the tables that we fill, without those that the schema lacks."""
    there = {name for (name,) in db.execute(_TABLES)}
    return [table for table in COLUMNS if table in there]


def tables(db: sqlite3.Connection) -> list[str]:
    """Return the tables that hold rows, each after those that its foreign keys refer to."""
    names = [
        name
        for (name,) in db.execute("SELECT name FROM main.sqlite_master WHERE type='table'")
        if not name.startswith("sqlite_")
        and name not in ("alembic_version", conventions.MIGRATOR_SEEN_TABLE)
    ]
    parents = {
        name: {row[2] for row in db.execute(f"PRAGMA main.foreign_key_list({quoted(name)})")}
        & set(names) - {name}
        for name in names
    }
    ordered: list[str] = []
    while len(ordered) < len(names):
        free = [n for n in names if n not in ordered and parents[n] <= set(ordered)]
        if not free:
            raise LedgerError(f"The tables {sorted(set(names) - set(ordered))} refer in a circle.")
        ordered += sorted(free)
    return [name for name in ordered if count(db, name)]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def count(db: sqlite3.Connection, table: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM main.{quoted(table)}").fetchone()[0])


def is_native(db: sqlite3.Connection, trace_id: object) -> bool:
    """Return True for a trace that the source has, False for one rebuilt from runs."""
    found = db.execute("SELECT 1 FROM temp.native WHERE trace_id = ?", (trace_id,))
    return found.fetchone() is not None


def by_kind(db: sqlite3.Connection) -> tuple[Counter[Kind], Counter[Kind]]:
    """Return how many of each kind came from the source, and how many were rebuilt from runs."""
    source: Counter[Kind] = Counter()
    rebuilt: Counter[Kind] = Counter()
    there = written_tables(db)
    for kind, table, condition, is_rebuilt in SLICES:
        if table not in there:
            continue
        found = db.execute(f"SELECT count(*) FROM main.{table} AS s WHERE {condition}").fetchone()
        (rebuilt if is_rebuilt else source)[kind] += found[0]
    return source, rebuilt


def remember_promoted(db: sqlite3.Connection) -> None:
    """Count, by trace, the rows that a newer schema keeps in columns of ``trace_info``."""
    for table in ("trace_tags", "trace_request_metadata"):
        keys = PROMOTED[table]
        db.execute(
            "INSERT INTO temp.promoted SELECT request_id, ?, count(*) FROM main."
            f"{table} WHERE key IN ({', '.join('?' * len(keys))}) GROUP BY request_id",
            (table, *keys),
        )


def add_latest(db: sqlite3.Connection) -> int:
    """Add the latest metrics that are missing because the latest point was refused."""
    return db.execute(
        "INSERT INTO main.latest_metrics (key, value, timestamp, step, is_nan, run_uuid) "
        "SELECT key, value, timestamp, step, is_nan, run_uuid FROM ("
        "SELECT *, row_number() OVER (PARTITION BY key, run_uuid "
        "ORDER BY step DESC, timestamp DESC, value DESC, rowid) AS place FROM main.metrics) AS m "
        "WHERE place = 1 AND NOT EXISTS (SELECT 1 FROM main.latest_metrics AS l "
        "WHERE l.key = m.key AND l.run_uuid = m.run_uuid)"
    ).rowcount


def drop_orphans(db: sqlite3.Connection) -> tuple[Counter[str], list[Issue]]:
    """Delete rows whose parent is missing; MLflow's migrations would abort on some of them."""
    dropped: Counter[str] = Counter()
    issues: list[Issue] = []
    while found := db.execute("PRAGMA main.foreign_key_check").fetchall():
        by_table: dict[tuple[str, str], list[int]] = {}
        for table, rowid, parent, _ in found:
            by_table.setdefault((table, parent), []).append(rowid)
        gone: set[tuple[str, int]] = set()
        for (table, parent), rowids in by_table.items():
            fresh = [rowid for rowid in rowids if (table, rowid) not in gone]
            gone.update((table, rowid) for rowid in fresh)
            key = ", ".join(own_key(db, table))
            named = [
                "/".join(
                    map(
                        str, db.execute(f"SELECT {key} FROM {table} WHERE rowid=?", (r,)).fetchone()
                    )
                )
                for r in fresh[:_EXAMPLES]
            ]
            rebuilt = _count_rebuilt(db, table, fresh)
            db.executemany(f"DELETE FROM {table} WHERE rowid=?", [(r,) for r in fresh])
            dropped[table] += len(fresh)
            kind = KINDS.get(table)
            if fresh and kind is not None:
                issue = Issue(
                    Code.LOAD_WITHOUT_PARENT,
                    "",
                    f"{len(fresh):,} of kind {kind.value} refer to missing rows of {parent}: "
                    f"{', '.join(named)}{', …' if len(fresh) > len(named) else ''}.",
                    kind=kind,
                    entity_id=named[0],
                    count=len(fresh),
                )
                # What we made ourselves was not found, so it is named, but not counted as lost.
                parts = ((kind, len(fresh) - rebuilt), (None, rebuilt))
                issues += [replace(issue, kind=k, count=n) for k, n in parts if n]
    return dropped, issues


def _count_rebuilt(db: sqlite3.Connection, table: str, rowids: Sequence[int]) -> int:
    column = TRACE_COLUMNS.get(table)
    if column is None:
        return 0
    sql = f"SELECT {column} NOT IN (SELECT trace_id FROM temp.native) FROM {table} WHERE rowid=?"
    return sum(db.execute(sql, (rowid,)).fetchone()[0] for rowid in rowids)


def check(db: sqlite3.Connection, written: Mapping[str, int], promoted: Mapping[str, int]) -> None:
    """Check that the finished file is sound, and that every row that was written is there.

    ``written`` and ``promoted`` are counts by table; the second are rows that may have become
    columns. Raises LedgerError.
    """
    for table in written_tables(db):
        there, wanted = count(db, table), written.get(table, 0)
        if table == "workspaces":
            there -= 1  # the default one, which MLflow's migrations make
        if there not in (wanted, wanted - promoted.get(table, 0)):
            raise LedgerError(
                f"Table {table} holds {there} rows where {wanted} were written; nothing was "
                "published.",
                todo="This is a defect of mlflow-migrate: please report it.",
            )
    check_sound(db)


def check_sound(db: sqlite3.Connection) -> None:
    """Check that the main database is not damaged and no reference dangles. Raises LedgerError.

    It runs ``quick_check``, and checks that each index has the rows of its table.
    ``integrity_check`` would compare their values too, by looking up each row in each index: in a
    large file that takes several times as long, and finds wrong values only in indexes, never in
    tables.

    No transaction may be open. Two connections read the file at once, which halves the time: SQLite
    releases Python's lock while it works.
    """
    databases = db.execute("PRAGMA database_list")
    path = openable_path(next(file for _, name, file in databases if name == "main"))
    db.execute("PRAGMA shrink_memory").close()  # its cache's memory is for the other connections
    names = sorted((name for (name,) in db.execute(_TABLES)), key=lambda name: -count(db, name))
    todo: deque[Callable[[sqlite3.Connection], Iterable[str]]] = deque([_dangling])
    todo += [partial(_faults, table=name) for name in (*names, "sqlite_schema")]
    found: list[str] = []
    failed: list[Exception] = []
    threads = [
        threading.Thread(target=_look, args=(path, todo, found, failed)) for _ in range(_LOOKERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    if found:
        raise LedgerError(
            f"The database made is not sound ({'; '.join(found[:5])}); nothing was published.",
            todo="Check the disk and try again.",
        )


def _look(
    path: str,
    todo: deque[Callable[[sqlite3.Connection], Iterable[str]]],
    found: list[str],
    failed: list[Exception],
) -> None:
    """Run one check after the other, and keep the faults that it finds."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            while todo and not failed:
                with contextlib.suppress(IndexError):  # the other one was faster
                    found += todo.popleft()(db)
    except (sqlite3.Error, LedgerError) as error:
        failed.append(error)


def _dangling(db: sqlite3.Connection) -> Iterable[str]:
    for table, _, parent, _ in db.execute("PRAGMA main.foreign_key_check"):
        raise LedgerError(
            f"A row of {table} refers to a row of {parent} that is not there; nothing was "
            "published.",
            todo="This is a defect of mlflow-migrate: please report it.",
        )
    return ()


def _faults(db: sqlite3.Connection, table: str) -> Iterable[str]:
    """Return the faults of a table and its indexes."""
    name = quoted(table)
    faults = [row[0] for row in db.execute(f"PRAGMA main.quick_check({name})") if row[0] != "ok"]
    # Row numbers may have 63 bits, and their sum must not have more.
    held = f"SELECT count(*), sum(rowid & 4294967295) FROM main.{name}"
    rows = None
    for _, index, _, _, is_partial in db.execute(f"PRAGMA main.index_list({name})").fetchall():
        if is_partial:
            continue
        rows = rows or db.execute(f"{held} NOT INDEXED").fetchone()
        if db.execute(f"{held} INDEXED BY {quoted(index)}").fetchone() != rows:
            faults.append(f"index {index} does not hold the rows of table {table}")
    return faults


def promoted_rows(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many rows a newer schema keeps in columns of ``trace_info``, by table."""
    return {
        table: db.execute(
            f"SELECT count(*) FROM main.{table} WHERE key IN ({', '.join('?' * len(keys))})", keys
        ).fetchone()[0]
        for table, keys in PROMOTED.items()
    }
