"""Publishes to a server: fetches its rows, merges ours into them here, and sends the changes.

The rows that the server has of the staged entities go into a *mirror*, a SQLite file with the
staging file's schema. ``merge`` adds our rows there as to any database in use, so its rules are in
one place. The changes to the mirror are then sent, one transaction for each experiment: a process
that is killed leaves complete experiments, and converting again adds the rest.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from migrator import conventions
from migrator.errors import TargetError
from migrator.loader.networked.connection import connecting, initialise, make_seen_table
from migrator.loader.networked.dialects import Dialect, dialect_of
from migrator.loader.networked.mirror import SEEN, SHARED, Table, log_of, make_mirror, watch
from migrator.loader.owners import ROOTS, SHARED_ROOTS
from migrator.loader.publication import PublishOptions, Staged
from migrator.loader.rows import Row, Value
from migrator.loader.sqlite import audit, merge, staging
from migrator.loader.sqlite.audit import quoted
from migrator.loader.sqlite.files import DatabaseFile
from migrator.outcome.written import Written
from migrator.paths import readable_path

if TYPE_CHECKING:
    from sqlalchemy import Select, TableClause
    from sqlalchemy.engine import URL, Connection

Progress = Callable[[int, int], None]

_IDS_PER_QUERY = 1000
_ROWS_PER_FETCH = 10_000
_KEYS_PER_QUERY = 300
_ATTEMPTS = 6


@dataclass(frozen=True, slots=True)
class ServerDatabase:
    """The database that rows are published to."""

    uri: str  # for messages
    path: str  # beside which the mirror is made
    url: URL
    schema: str  # the revision of MLflow's tables
    is_empty: bool


def publish(staged: Staged, database: ServerDatabase, options: PublishOptions) -> Written:
    """Add to the server's database every staged row that it lacks.

    An empty database gets MLflow's tables first. Another conversion waits meanwhile, unless both
    write parts of one source. Returns what the server had already. Raises
    TargetError, and KeyboardInterrupt with a message; both say how many experiments are complete
    in the target.
    """
    if database.is_empty:
        initialise(database.url, database.schema)
    make_seen_table(database.url)
    file = staging.StagingFile(database.path)
    try:
        with contextlib.ExitStack() as stack:
            if options.is_alone:
                _, holder = stack.enter_context(connecting(database.url))
                stack.enter_context(dialect_of(database.url).alone(holder))
            return _publish(staged, database, options, file)
    finally:
        file.remove()


def _publish(
    staged: Staged,
    database: ServerDatabase,
    options: PublishOptions,
    file: staging.StagingFile,
) -> Written:
    db = staged.db
    tables = make_mirror(db, file.path, database.schema)
    with connecting(database.url) as (_, server_db):
        _Fetch(db, server_db, file.path, tables).run()
    watch(file.path, tables)
    mirror = DatabaseFile(file.path, database.schema)
    written = merge.merge(
        staged,
        mirror,
        PublishOptions(
            backup=False,
            restore=options.restore,
            source=options.source,
            state=options.state,
            check_rejects=options.check_rejects,
        ),
    )
    db.execute("ATTACH DATABASE ? AS target", (readable_path(file.path),))
    try:
        _Send(db, database, tables, written, options.on_progress).run()
    finally:
        db.execute("DETACH DATABASE target")
    return written


# --------------------------------------------------------------------------------- fetching


class _Fetch:
    """Fetches the server's rows of the staged entities into the mirror."""

    def __init__(
        self, db: sqlite3.Connection, source: Connection, path: str, tables: Sequence[Table]
    ) -> None:
        self.db = db
        self.source = source
        self.path = path
        self.tables = tables
        self.ids: dict[str, set[Value]] = {}  # ids that the server has, by table of ``ROOTS``

    def run(self) -> None:
        """Fetch everything in one consistent view of the server's database."""
        import sqlalchemy

        source = self.source.execution_options(isolation_level="REPEATABLE READ")
        with (
            contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as mirror,
            source.begin(),
        ):
            mirror.execute("PRAGMA synchronous=OFF")
            mirror.execute("BEGIN")
            self.mirror = mirror
            if any(table.name == "registered_models" for table in self.tables):
                self._models_of_same_times()
            of_experiments = {t.name for t in self.tables if t.name in ROOTS} - {"experiments"}
            for name in sorted(of_experiments):
                self._roots(name, self._staged(name))
            experiments = self._staged("experiments")
            for name in of_experiments - SHARED_ROOTS:
                experiments |= {
                    row[0] for row in mirror.execute(f"SELECT experiment_id FROM {name}")
                }
            self._roots("experiments", experiments)
            names = {row[0] for row in self.db.execute("SELECT name FROM main.experiments")}
            self._fetch(self._by_name("experiments"), "name", names)
            if "scorers" in self.ids:  # others of the same names
                self._fetch(self._by_name("scorers"), "experiment_id", self.ids["experiments"])
            # Rows that are found by those of another table come after it.
            for table in sorted(self.tables, key=lambda each: each.name == "input_tags"):
                self._parts(table)
            of_ours = sqlalchemy.select(_columns_of(SEEN))
            self._stream(of_ours.order_by(sqlalchemy.text("item")), SEEN)
            mirror.execute("COMMIT")

    def _models_of_same_times(self) -> None:
        """Fetch the registered models that may be ours under another name."""
        found = self.db.execute("SELECT creation_time FROM main.registered_models")
        times = {row[0] for row in found} - {None}
        self._fetch(self._by_name("registered_models"), "creation_time", times)

    def _by_name(self, name: str) -> Table:
        return next(table for table in self.tables if table.name == name)

    def _staged(self, name: str) -> set[Value]:
        return {row[0] for row in self.db.execute(f"SELECT {ROOTS[name]} FROM main.{name}")}

    def _roots(self, name: str, ids: set[Value]) -> None:
        self._fetch(self._by_name(name), ROOTS[name], ids)
        found = self.mirror.execute(f"SELECT {ROOTS[name]} FROM {name}")
        self.ids[name] = {row[0] for row in found}

    def _parts(self, table: Table) -> None:
        if table.name in ROOTS or table is SEEN:
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
        else:  # links of traces and evaluation datasets
            self._fetch(table, "source_id", ids | self.ids.get("evaluation_datasets", set()))

    def _fetch(self, table: Table, column: str, ids: set[Value]) -> None:
        """Fetch the rows that have one of ``ids`` in a column."""
        import sqlalchemy

        wanted = _columns_of(table)
        for some in _chunks(sorted(ids, key=str), _IDS_PER_QUERY):
            self._stream(sqlalchemy.select(wanted).where(wanted.c[column].in_(some)), table)

    def _stream(self, query: Select[Any], table: Table) -> None:
        """Insert the rows of a query into the mirror."""
        places = ", ".join("?" * len(table.columns))
        insert = (
            f"INSERT OR IGNORE INTO {quoted(table.name)} "
            f"({', '.join(map(quoted, table.columns))}) VALUES ({places})"
        )
        streaming = self.source.execution_options(stream_results=True)
        with streaming.execute(query) as result:
            for rows in result.partitions(_ROWS_PER_FETCH):
                self.mirror.executemany(insert, [_plain(row) for row in rows])


def _plain(row: Sequence[Any]) -> Row:
    """A row with the text of JSON values, which some drivers parse."""
    return tuple(json.dumps(v) if isinstance(v, (dict, list)) else v for v in row)


def _columns_of(table: Table) -> TableClause:
    import sqlalchemy

    return sqlalchemy.table(table.name, *(sqlalchemy.column(name) for name in table.columns))


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


# ---------------------------------------------------------------------------------- sending


class _Send:
    """Sends what has changed in the attached mirror, experiment by experiment."""

    def __init__(
        self,
        db: sqlite3.Connection,
        database: ServerDatabase,
        tables: Sequence[Table],
        written: Written,
        progress: Progress,
    ) -> None:
        self.db = db
        self.database = database
        self.tables = tables
        self.written = written
        self.progress = progress
        self.dialect: Dialect = dialect_of(database.url)
        self.todo: defaultdict[int, dict[str, set[str]]] = defaultdict(dict)
        self.whole = 0

    def run(self) -> None:
        """Send everything.

        Raises TargetError and KeyboardInterrupt; both say how many experiments are complete.
        """
        for table in self.tables:
            self._order("changed", table)
            self._order("added", table)
            if table.name in merge.TRACE_PARTS:  # ``merge`` deletes rows of no other table
                self._order("gone", table)
        # SHARED comes last: it may refer to runs of any experiment.
        if self.written.renamed_models:
            self.todo[SHARED] = self.todo[SHARED]
        experiments = sorted(self.todo, key=lambda each: (each == SHARED, each))
        if not experiments:
            return
        number = max(1, sum(each != SHARED for each in experiments))
        try:
            with connecting(self.database.url) as (_, server_db):
                self.dialect.prepare(server_db)
                self._advance_ids(server_db)
                for experiment in experiments:
                    self.progress(min(self.whole, number), number)
                    self._send(server_db, experiment)
                    self.whole += 1
        except (TargetError, KeyboardInterrupt) as error:
            state = f"{self.whole:,} of {number:,} experiments were written completely"
            state += "; convert again to add the rest." if self.whole else ", so nothing changed."
            if isinstance(error, TargetError):
                raise TargetError(f"{error.what} {state}", todo=error.todo) from error
            raise KeyboardInterrupt(f"Interrupted. {state}") from error

    def _order(self, what: str, table: Table) -> None:
        """Decide which rows are sent with which experiment, in a temporary table."""
        order = _order_of(what, table)
        self.db.execute(f"DROP TABLE IF EXISTS temp.{order}")
        self.db.execute(
            f"CREATE TEMP TABLE {order} (experiment INTEGER, id INTEGER, "
            "PRIMARY KEY (experiment, id)) WITHOUT ROWID"
        )
        log = f"target.{log_of(what, table)}"
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

    def _rows(self, what: str, table: Table, experiment: int) -> Iterator[Row]:
        source = log_of(what, table) if what == "gone" else quoted(table.name)
        columns = table.key if what == "gone" else table.columns
        names = ", ".join(f"s.{quoted(column)}" for column in columns)
        return self.db.execute(
            f"SELECT {names} FROM temp.{_order_of(what, table)} AS o CROSS JOIN target.{source} "
            "AS s ON s.rowid = o.id WHERE o.experiment = ? ORDER BY o.id",
            (experiment,),
        )

    def _advance_ids(self, server_db: Connection) -> None:
        """Keep MLflow's next experiments from getting the ids that we give."""
        names = _order_of("added", self._experiments)
        greatest = self.db.execute(
            f"SELECT max(id) FROM temp.{names} WHERE id < ?", (conventions.LEAST_DERIVED_ID,)
        ).fetchone()[0]
        if greatest is not None:
            with server_db.begin():
                self.dialect.advance_id_sequence(server_db, greatest)

    @property
    def _experiments(self) -> Table:
        return next(table for table in self.tables if table.name == "experiments")

    def _send(self, server_db: Connection, experiment: int) -> None:
        """Send one experiment in one transaction; try again after a deadlock and the like."""
        from sqlalchemy.exc import DBAPIError

        for attempt in range(_ATTEMPTS):
            skipped: list[tuple[Table, list[Row]]] = []
            try:
                with self.dialect.locked(server_db, f"experiment {experiment}"):
                    if experiment == SHARED:
                        self._rename_models(server_db)
                    for table in self.tables:
                        changes = self.todo[experiment].get(table.name, ())
                        if "gone" in changes:
                            self._delete(server_db, table, experiment)
                        if "changed" in changes:
                            self._update(server_db, table, experiment)
                        if "added" in changes:
                            skipped.append((table, self._insert(server_db, table, experiment)))
            except DBAPIError as error:
                if attempt == _ATTEMPTS - 1 or not self._may_pass(error.orig):
                    raise
                time.sleep(0.05 * 2**attempt)
            else:
                for table, rows in skipped:
                    self._count_skipped(table, rows)
                return

    def _rename_models(self, server_db: Connection) -> None:
        """Rename registered models as ``merge`` did in the mirror; their parts follow."""
        import sqlalchemy

        rename = "UPDATE registered_models SET name = :new WHERE name = :old"
        if "workspace" in audit.columns(self.db, "registered_models"):
            rename += " AND workspace = :workspace"
        for each in self.written.renamed_models:
            server_db.execute(sqlalchemy.text(rename), each._asdict())

    def _may_pass(self, error: BaseException | None) -> bool:
        if error is None:
            return False
        return self.dialect.is_transient(error) or self.dialect.is_duplicate_key(error)

    def _insert(self, server_db: Connection, table: Table, experiment: int) -> list[Row]:
        """Add rows. Returns the keys of those that another process added after we fetched."""
        from sqlalchemy.exc import DBAPIError

        savepoint = server_db.begin_nested()
        try:
            rows = self._rows("added", table, experiment)
            self.dialect.insert(server_db, table.name, table.columns, rows)
            savepoint.commit()
            return []
        except DBAPIError as error:
            savepoint.rollback()
            if error.orig is None or not self.dialect.is_duplicate_key(error.orig):
                raise
        places = [table.columns.index(column) for column in table.key]
        there: list[Row] = []
        for rows_ in _chunks(list(self._rows("added", table, experiment)), _KEYS_PER_QUERY):
            by_key = {tuple(row[place] for place in places): row for row in rows_}
            found = self._existing(server_db, table, list(by_key))
            there += found
            taken = set(found)
            rest = [row for key, row in by_key.items() if key not in taken]
            self.dialect.insert(server_db, table.name, table.columns, rest)
        return there

    def _existing(self, server_db: Connection, table: Table, keys: list[Row]) -> list[Row]:
        """Return the keys that the server has."""
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

    def _typed(self, table: Table, columns: Sequence[str], row: Row) -> Row:
        if not table.booleans:
            return row
        return tuple(
            bool(value) if column in table.booleans and value is not None else value
            for column, value in zip(columns, row, strict=True)
        )

    def _delete(self, server_db: Connection, table: Table, experiment: int) -> None:
        import sqlalchemy

        of = sqlalchemy.table(table.name, *(sqlalchemy.column(c) for c in table.key))
        query = sqlalchemy.delete(of).where(
            sqlalchemy.and_(*(of.c[c] == sqlalchemy.bindparam(f"k_{c}") for c in table.key))
        )
        for row in self._rows("gone", table, experiment):
            typed = self._typed(table, table.key, row)
            server_db.execute(query, {f"k_{c}": v for c, v in zip(table.key, typed, strict=True)})

    def _update(self, server_db: Connection, table: Table, experiment: int) -> None:
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

    def _count_skipped(self, table: Table, keys: Sequence[Row]) -> None:
        """Count rows that another process added before us as already there."""
        if not keys:
            return
        matches = " AND ".join(f"s.{quoted(c)} = ?" for c in table.key)
        for one in audit.SLICES:
            if one.table != table.name:
                continue
            counter = (
                self.written.rebuilt_already_there if one.rebuilt else self.written.already_there
            )
            for key in keys:
                counter[one.kind] += self.db.execute(
                    f"SELECT count(*) FROM main.{table.name} AS s "
                    f"WHERE {one.condition} AND {matches}",
                    key,
                ).fetchone()[0]


def _order_of(what: str, table: Table) -> str:
    return quoted(f"order_{what}_{table.name}")
