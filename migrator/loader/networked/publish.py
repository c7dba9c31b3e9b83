"""Publishing to a server: its rows are fetched, merged with ours here, and the difference is sent.

What the server already has of the staged entities goes into a *mirror*, an SQLite file with the
staging file's schema. There ``merge`` does what it does with any database in use, so that its
rules stand in one place. What it changed in the mirror is then sent, one transaction for each
experiment: a process that is killed leaves whole experiments, and converting again adds the rest.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from migrator import conventions
from migrator.errors import TargetError
from migrator.issues import Issue
from migrator.loader import owners
from migrator.loader.networked import target as server
from migrator.loader.networked.dialects import Dialect, dialect_of
from migrator.loader.networked.target import ServerTarget, connecting
from migrator.loader.owners import ROOTS
from migrator.loader.rows import COLUMNS, Row, Value
from migrator.loader.sqlite import audit, merge, staging
from migrator.loader.sqlite.audit import quoted
from migrator.loader.sqlite.target import Target
from migrator.paths import shown

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

Progress = Callable[[int, int], None]

SHARED = -1  # rows that belong to no single experiment: the registry, metrics of other's runs

_IDS_PER_QUERY = 1000
_ROWS_PER_FETCH = 10_000
_KEYS_PER_QUERY = 300
_ATTEMPTS = 6


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of the mirror: ``owner`` is SQL for the id of the entity that a row ``s`` is of."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    booleans: frozenset[str]
    root: str
    owner: str
    own_column: str | None  # where ``owner`` is no more than a column

    @property
    def experiment(self) -> str:
        """SQL for the experiment that a row ``s`` of the attached mirror belongs to."""
        if self.root == "registered_models":
            return str(SHARED)
        if self.root == "experiments":
            return self.owner
        if self.name == "logged_model_metrics":  # may be of a run of another experiment
            found = "SELECT r.experiment_id FROM target.runs AS r WHERE r.run_uuid = s.run_id"
            return f"CASE WHEN s.experiment_id = ({found}) THEN s.experiment_id ELSE {SHARED} END"
        id_column = ROOTS[self.root]
        found = f"SELECT r.experiment_id FROM target.{self.root} AS r WHERE r.{id_column} = "
        return f"coalesce(({found}{self.owner}), {SHARED})"


def publish(
    db: sqlite3.Connection,
    target: ServerTarget,
    joined: Iterable[int],
    progress: Progress = lambda done, total: None,
    checking: Callable[[Sequence[Issue]], None] = lambda issues: None,
) -> merge.Merged:
    """Add to the server's database every row of ``db``'s main database that it lacks.

    An empty database gets MLflow's tables first. Raises TargetError, and KeyboardInterrupt with
    words; both say how many experiments are whole in the target.
    """
    if not target.exists:
        server.initialise(target.url, target.wanted)
    file = staging.StagingFile(target.path)
    try:
        tables = _make_mirror(db, file.path, target.wanted)
        with connecting(target.url) as (_, source):
            _Pull(db, source, file.path, tables).run()
        _watch(file.path, tables)
        mirror = replace_path(target, file.path)
        merged = merge.merge(db, mirror, set(joined), backup=False, checking=checking)
        db.execute("ATTACH DATABASE ? AS target", (shown(file.path),))
        try:
            _Push(db, target, tables, merged, progress).run()
        finally:
            db.execute("DETACH DATABASE target")
    finally:
        file.remove()
    return merged


def replace_path(target: ServerTarget, path: str) -> Target:
    """Return the mirror in ``path`` as a target of the same schema."""
    return Target(target.uri, path, True, target.wanted, target.wanted)


# ------------------------------------------------------------------------------- the mirror


def _make_mirror(db: sqlite3.Connection, path: str, revision: str) -> list[_Table]:
    """Make an empty database with the staging file's schema; return the tables that count."""
    made = db.execute(
        "SELECT sql FROM main.sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' "
        "ORDER BY rowid"
    ).fetchall()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as mirror:
        mirror.execute("PRAGMA synchronous=OFF")
        mirror.execute("BEGIN")
        for (statement,) in made:
            mirror.execute(statement)
        mirror.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        names = audit.tables(db)
        # Rows that MLflow's migrations made (3.10 and later: the default workspace) are the
        # server's already.
        for name in [n for n in names if n not in COLUMNS and owners.is_shared(db, n)]:
            rows = db.execute(f"SELECT * FROM main.{quoted(name)}").fetchall()
            places = ", ".join("?" * len(rows[0]))
            mirror.executemany(f"INSERT INTO {quoted(name)} VALUES ({places})", rows)
            names.remove(name)
        mirror.execute("COMMIT")
    of_traces = [name for name in merge.TRACE_PARTS if name not in names]
    return [_table(db, name) for name in [*names, *of_traces] if audit.columns(db, name)]


def _table(db: sqlite3.Connection, name: str) -> _Table:
    info = db.execute(f"PRAGMA main.table_xinfo({quoted(name)})").fetchall()
    root, owner, column = owners.owner_of(db, name, "target")
    return _Table(
        name,
        audit.columns(db, name),
        audit.key_columns(db, name),
        frozenset(row[1] for row in info if row[2].upper() == "BOOLEAN"),
        root,
        owner,
        column,
    )


def _watch(path: str, tables: Sequence[_Table]) -> None:
    """Let the mirror note what is changed in it from now on."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as mirror:
        mirror.execute("BEGIN")
        for table in tables:
            name = quoted(table.name)
            keys = ", ".join(map(quoted, table.key))
            old = ", ".join(f"old.{quoted(column)}" for column in table.key)
            mirror.execute(f"CREATE TABLE {_log('added', table)} (id INTEGER PRIMARY KEY)")
            mirror.execute(f"CREATE TABLE {_log('changed', table)} (id INTEGER PRIMARY KEY)")
            mirror.execute(f"CREATE TABLE {_log('gone', table)} ({keys})")
            is_new = f"EXISTS (SELECT 1 FROM {_log('added', table)} WHERE id = old.rowid)"
            mirror.execute(
                f"CREATE TRIGGER {_log('i', table)} AFTER INSERT ON {name} BEGIN "
                f"INSERT INTO {_log('added', table)} VALUES (new.rowid); END"
            )
            mirror.execute(
                f"CREATE TRIGGER {_log('u', table)} AFTER UPDATE ON {name} WHEN NOT {is_new} AND "
                f"NOT EXISTS (SELECT 1 FROM {_log('changed', table)} WHERE id = old.rowid) BEGIN "
                f"INSERT INTO {_log('changed', table)} VALUES (new.rowid); END"
            )
            mirror.execute(
                f"CREATE TRIGGER {_log('d', table)} AFTER DELETE ON {name} BEGIN "
                f"INSERT INTO {_log('gone', table)} SELECT {old} WHERE NOT {is_new}; "
                f"DELETE FROM {_log('changed', table)} WHERE id = old.rowid; "
                f"DELETE FROM {_log('added', table)} WHERE id = old.rowid; END"
            )
        mirror.execute("COMMIT")


def _log(what: str, table: _Table) -> str:
    return quoted(f"migrate_{what}_{table.name}")


# --------------------------------------------------------------------------------- fetching


class _Pull:
    """Fetches into the mirror what the server has of the staged entities."""

    def __init__(
        self, db: sqlite3.Connection, source: Connection, path: str, tables: Sequence[_Table]
    ) -> None:
        self.db = db
        self.source = source
        self.path = path
        self.tables = tables
        self.ids: dict[str, set[Value]] = {}  # of each kind of root, those that the server has

    def run(self) -> None:
        """Fetch, in one consistent view of the server's database."""
        source = self.source.execution_options(isolation_level="REPEATABLE READ")
        with (
            contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as mirror,
            source.begin(),
        ):
            mirror.execute("PRAGMA synchronous=OFF")
            mirror.execute("BEGIN")
            self.mirror = mirror
            of_experiments = {t.name for t in self.tables if t.name in ROOTS} - {"experiments"}
            for name in sorted(of_experiments):
                self._roots(name, self._staged(name))
            experiments = self._staged("experiments")
            for name in of_experiments - {"registered_models"}:
                experiments |= {
                    row[0] for row in mirror.execute(f"SELECT experiment_id FROM {name}")
                }
            self._roots("experiments", experiments)
            names = {row[0] for row in self.db.execute("SELECT name FROM main.experiments")}
            self._fetch(self._by_name("experiments"), "name", names)
            # What is found by rows of another table comes after it.
            for table in sorted(self.tables, key=lambda each: each.name == "input_tags"):
                self._parts(table)
            mirror.execute("COMMIT")

    def _by_name(self, name: str) -> _Table:
        return next(table for table in self.tables if table.name == name)

    def _staged(self, name: str) -> set[Value]:
        return {row[0] for row in self.db.execute(f"SELECT {ROOTS[name]} FROM main.{name}")}

    def _roots(self, name: str, ids: set[Value]) -> None:
        self._fetch(self._by_name(name), ROOTS[name], ids)
        found = self.mirror.execute(f"SELECT {ROOTS[name]} FROM {name}")
        self.ids[name] = {row[0] for row in found}

    def _parts(self, table: _Table) -> None:
        if table.name in ROOTS:
            return
        ids = self.ids.get(table.root, set())
        if table.own_column is not None:
            self._fetch(table, table.own_column, ids)
        elif table.name == "inputs":
            self._fetch(table, "destination_id", ids)
            self._fetch(table, "source_id", ids)
        elif table.name == "input_tags":
            found = self.mirror.execute("SELECT input_uuid FROM inputs")
            self._fetch(table, "input_uuid", {row[0] for row in found})
        else:
            self._fetch(table, "source_id", ids)

    def _fetch(self, table: _Table, column: str, ids: set[Value]) -> None:
        """Fetch the rows that have any of these values in a column."""
        import sqlalchemy

        wanted = sqlalchemy.table(table.name, *(sqlalchemy.column(name) for name in table.columns))
        places = ", ".join("?" * len(table.columns))
        insert = (
            f"INSERT OR IGNORE INTO {quoted(table.name)} "
            f"({', '.join(map(quoted, table.columns))}) VALUES ({places})"
        )
        for some in _chunks(sorted(ids, key=str), _IDS_PER_QUERY):
            query = sqlalchemy.select(wanted).where(wanted.c[column].in_(some))
            streaming = self.source.execution_options(stream_results=True)
            with streaming.execute(query) as result:
                for rows in result.partitions(_ROWS_PER_FETCH):
                    self.mirror.executemany(insert, [tuple(row) for row in rows])


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


# ---------------------------------------------------------------------------------- sending


class _Push:
    """Sends what has changed in the attached mirror, experiment by experiment."""

    def __init__(
        self,
        db: sqlite3.Connection,
        target: ServerTarget,
        tables: Sequence[_Table],
        merged: merge.Merged,
        progress: Progress,
    ) -> None:
        self.db = db
        self.target = target
        self.tables = tables
        self.merged = merged
        self.progress = progress
        self.dialect: Dialect = dialect_of(target.url)
        self.todo: defaultdict[int, dict[str, set[str]]] = defaultdict(dict)
        self.whole = 0

    def run(self) -> None:
        """Send everything; raises TargetError and KeyboardInterrupt, with what is whole."""
        for table in self.tables:
            self._order("changed", table)
            self._order("added", table)
            if table.name in merge.TRACE_PARTS:  # of nothing else ``merge`` takes rows away
                self._order("gone", table)
        # SHARED comes last: it may refer to runs of any experiment.
        experiments = sorted(self.todo, key=lambda each: (each == SHARED, each))
        if not experiments:
            return
        try:
            with connecting(self.target.url) as (_, server_db):
                self.dialect.prepare(server_db)
                self._reach(server_db)
                for experiment in experiments:
                    self.progress(self.whole, len(experiments))
                    self._send(server_db, experiment)
                    self.whole += 1
        except (TargetError, KeyboardInterrupt) as error:
            state = f"{self.whole:,} of {len(experiments):,} experiments were written whole"
            state += "; convert again to add the rest." if self.whole else ", so nothing changed."
            if isinstance(error, TargetError):
                raise TargetError(f"{error.what} {state}", todo=error.todo) from error
            raise KeyboardInterrupt(f"Interrupted. {state}") from error

    def _order(self, what: str, table: _Table) -> None:
        """Note which rows are to be sent with which experiment."""
        order = _order_of(what, table)
        self.db.execute(f"DROP TABLE IF EXISTS temp.{order}")
        self.db.execute(
            f"CREATE TEMP TABLE {order} (experiment INTEGER, id INTEGER, "
            "PRIMARY KEY (experiment, id)) WITHOUT ROWID"
        )
        log = f"target.{_log(what, table)}"
        if what == "gone":  # rows of the log itself, under the names of the key's columns
            source = f"{log} AS s"
            number = "s.rowid"
        else:
            source = f"{log} AS l JOIN target.{quoted(table.name)} AS s ON s.rowid = l.id"
            number = "l.id"
        self.db.execute(
            f"INSERT INTO temp.{order} SELECT {table.experiment}, {number} FROM {source}"
        )
        for (experiment,) in self.db.execute(f"SELECT DISTINCT experiment FROM temp.{order}"):
            self.todo[experiment].setdefault(table.name, set()).add(what)

    def _rows(self, what: str, table: _Table, experiment: int) -> Iterator[Row]:
        source = _log(what, table) if what == "gone" else quoted(table.name)
        columns = table.key if what == "gone" else table.columns
        names = ", ".join(f"s.{quoted(column)}" for column in columns)
        return self.db.execute(
            f"SELECT {names} FROM temp.{_order_of(what, table)} AS o CROSS JOIN target.{source} "
            "AS s ON s.rowid = o.id WHERE o.experiment = ? ORDER BY o.id",
            (experiment,),
        )

    def _reach(self, server_db: Connection) -> None:
        """Keep the ids of MLflow's next experiments clear of those that we give."""
        names = _order_of("added", self._experiments)
        greatest = self.db.execute(
            f"SELECT max(id) FROM temp.{names} WHERE id < ?", (conventions.LEAST_DERIVED_ID,)
        ).fetchone()[0]
        if greatest is not None:
            with server_db.begin():
                self.dialect.reach(server_db, greatest)

    @property
    def _experiments(self) -> _Table:
        return next(table for table in self.tables if table.name == "experiments")

    def _send(self, server_db: Connection, experiment: int) -> None:
        """Send one experiment in one transaction; what passes (a deadlock) is tried again."""
        from sqlalchemy.exc import DBAPIError

        for attempt in range(_ATTEMPTS):
            skipped: list[tuple[_Table, list[Row]]] = []
            try:
                with self.dialect.locked(server_db, f"experiment {experiment}"):
                    for table in self.tables:
                        changes = self.todo[experiment].get(table.name, ())
                        if "gone" in changes:
                            self._delete(server_db, table, experiment)
                        if "changed" in changes:
                            self._update(server_db, table, experiment)
                        if "added" in changes:
                            skipped.append((table, self._insert(server_db, table, experiment)))
            except DBAPIError as error:
                passing = error.orig is not None and (
                    self.dialect.is_passing(error.orig) or self.dialect.is_taken(error.orig)
                )
                if not passing or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.05 * 2**attempt)
            else:
                for table, rows in skipped:
                    self._count_skipped(table, rows)
                return

    def _insert(self, server_db: Connection, table: _Table, experiment: int) -> list[Row]:
        """Add rows; return the keys of those that another process has added since we fetched."""
        from sqlalchemy.exc import DBAPIError

        savepoint = server_db.begin_nested()
        try:
            rows = self._rows("added", table, experiment)
            self.dialect.insert(server_db, table.name, table.columns, rows)
            savepoint.commit()
            return []
        except DBAPIError as error:
            savepoint.rollback()
            if error.orig is None or not self.dialect.is_taken(error.orig):
                raise
        places = [table.columns.index(column) for column in table.key]
        there: list[Row] = []
        for rows_ in _chunks(list(self._rows("added", table, experiment)), _KEYS_PER_QUERY):
            by_key = {tuple(row[place] for place in places): row for row in rows_}
            found = self._existing(server_db, table, list(by_key))
            there += found
            rest = [row for key, row in by_key.items() if key not in set(found)]
            self.dialect.insert(server_db, table.name, table.columns, rest)
        return there

    def _existing(self, server_db: Connection, table: _Table, keys: list[Row]) -> list[Row]:
        """Return those of the keys that the server has."""
        import sqlalchemy

        columns: list[sqlalchemy.ColumnClause[Any]] = [sqlalchemy.column(c) for c in table.key]
        wanted = [self._typed(table, table.key, key) for key in keys]
        query = (
            sqlalchemy.select(*columns)
            .select_from(sqlalchemy.table(table.name))
            .where(sqlalchemy.tuple_(*columns).in_(wanted))
        )
        found = {tuple(row) for row in server_db.execute(query)}
        return [key for key in keys if key in found]

    def _typed(self, table: _Table, columns: Sequence[str], row: Row) -> Row:
        if not table.booleans:
            return row
        return tuple(
            bool(value) if column in table.booleans and value is not None else value
            for column, value in zip(columns, row, strict=True)
        )

    def _delete(self, server_db: Connection, table: _Table, experiment: int) -> None:
        import sqlalchemy

        of = sqlalchemy.table(table.name, *(sqlalchemy.column(c) for c in table.key))
        query = sqlalchemy.delete(of).where(
            sqlalchemy.and_(*(of.c[c] == sqlalchemy.bindparam(f"k_{c}") for c in table.key))
        )
        for row in self._rows("gone", table, experiment):
            typed = self._typed(table, table.key, row)
            server_db.execute(query, {f"k_{c}": v for c, v in zip(table.key, typed, strict=True)})

    def _update(self, server_db: Connection, table: _Table, experiment: int) -> None:
        import sqlalchemy

        of = sqlalchemy.table(table.name, *(sqlalchemy.column(c) for c in table.columns))
        values = [c for c in table.columns if c not in table.key]
        query = (
            sqlalchemy.update(of)
            .where(sqlalchemy.and_(*(of.c[c] == sqlalchemy.bindparam(f"k_{c}") for c in table.key)))
            .values({c: sqlalchemy.bindparam(f"v_{c}") for c in values})
        )
        for row in self._rows("changed", table, experiment):
            typed = dict(zip(table.columns, self._typed(table, table.columns, row), strict=True))
            server_db.execute(
                query,
                {f"k_{c}": typed[c] for c in table.key} | {f"v_{c}": typed[c] for c in values},
            )

    def _count_skipped(self, table: _Table, keys: Sequence[Row]) -> None:
        """Count what another process added before us as what was there already."""
        if not keys:
            return
        matches = " AND ".join(f"s.{quoted(c)} = ?" for c in table.key)
        for one in audit.SLICES:
            if one.table != table.name:
                continue
            counter = self.merged.rebuilt_already if one.rebuilt else self.merged.already
            for key in keys:
                counter[one.kind] += self.db.execute(
                    f"SELECT count(*) FROM main.{table.name} AS s "
                    f"WHERE {one.condition} AND {matches}",
                    key,
                ).fetchone()[0]


def _order_of(what: str, table: _Table) -> str:
    return quoted(f"order_{what}_{table.name}")
