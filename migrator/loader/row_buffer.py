"""Rows on their way into the staging database: in batches, and refused ones become issues."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from operator import length_hint

from migrator import encoding
from migrator.issues import Code, Issue, Kind
from migrator.loader.rows import COLUMNS, KINDS, Row, Value
from migrator.loader.sqlite import audit
from migrator.loader.sqlite.files import reporting

# Rows kept before they are written; so many characters of span content count as one. Ids are
# random, so that each batch of a large store touches most pages of the indexes, which are more than
# the page cache holds: fewer batches read and write them less often.
_BATCH = 160_000
_CHARS_A_ROW = 256

_NAMED = {Kind.RUN: ("runs", "run_uuid"), Kind.TRACE: ("trace_info", "request_id")}


class RowBuffer:
    """Collects rows and writes them in large batches; one bad row never stops the others.

    ``open_database`` returns the connection to the staging database, which has the tables of
    ``audit.SIDE_TABLES`` as well. Errors name the target, which is at ``path``.
    """

    def __init__(self, path: str, open_database: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self.written: Counter[str] = Counter()  # rows that were taken, by table
        self.issues: list[Issue] = []
        self.is_latest_missing = False  # a row of latest_metrics was refused
        self._open = open_database
        self._rows: defaultdict[str, list[Row]] = defaultdict(list)
        self._pending = 0
        self._names: defaultdict[Kind, set[str]] = defaultdict(set)  # of rows not yet written
        self._notes: defaultdict[str, list[Row]] = defaultdict(list)  # by their side table

    def put(self, table: str, rows: Sequence[Row], chars: int = 0) -> None:
        """Add rows of a table; ``chars`` is the length of their content, if that is long."""
        if not rows:
            return
        self._rows[table] += rows
        self._pending += len(rows) + chars // _CHARS_A_ROW
        if self._pending >= _BATCH:
            self.flush()

    def note(self, side_table: str, row: Row) -> None:
        """Note what only the writer knows, in one of ``audit.SIDE_TABLES``."""
        self._notes[side_table].append(row)

    def is_repeated(self, kind: Kind, name: str) -> bool:
        """Whether a run or trace was added before; it is remembered from now on.

        There may be very many, so only those are remembered that are not written yet.
        """
        if name in self._names[kind]:
            return True
        table, column = _NAMED[kind]
        if self.written[table]:
            query = f"SELECT 1 FROM {table} WHERE {column} = ?"
            if self._open().execute(query, (name,)).fetchone():
                return True
        self._names[kind].add(name)
        return False

    def flush(self) -> None:
        """Write what was collected. Raises TargetError."""
        with reporting(self._path):
            db = self._open()
            for table in COLUMNS:
                batch = self._rows.pop(table, None)
                if batch:
                    self.written[table] += self._insert(db, table, batch)
            for table, noted in self._notes.items():
                places = ", ".join("?" * len(noted[0]))
                db.executemany(f"INSERT INTO {table} VALUES ({places})", noted)
        self._names.clear()
        self._notes.clear()
        self._pending = 0

    def _insert(self, db: sqlite3.Connection, table: str, batch: list[Row]) -> int:
        """Insert rows, continuing after each one that is refused. Returns how many were inserted.

        No savepoint: SQLite would keep a copy of every page that is touched after it.
        """
        columns = audit.written_columns(db, table)
        if len(columns) < len(COLUMNS[table]):
            places = [COLUMNS[table].index(column) for column in columns]
            batch = [tuple(row[place] for place in places) for row in batch]
        return self._insert_rows(db, table, columns, batch)

    def _insert_rows(
        self, db: sqlite3.Connection, table: str, columns: Sequence[str], batch: list[Row]
    ) -> int:
        places = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"
        taken = len(batch)
        rest = iter(batch)
        while length_hint(rest):
            try:
                db.executemany(statement, rest)  # those before a refused row stay
            except UnicodeEncodeError:
                row = batch[-length_hint(rest) - 1]
                clean = tuple(encoding.clean_text(v) if isinstance(v, str) else v for v in row)
                why = "holds a lone surrogate"
                named = dict(zip(columns, clean, strict=True))
                self.issues.append(self._row_issue(Code.LOAD_TEXT_REPAIRED, table, named, why))
                taken += self._insert_rows(db, table, columns, [clean]) - 1
            except (sqlite3.IntegrityError, OverflowError) as error:
                row = batch[-length_hint(rest) - 1]
                if table in KINDS:  # the others only repeat what these say
                    named = dict(zip(columns, row, strict=True))
                    self.issues.append(self._row_issue(Code.LOAD_REFUSED, table, named, str(error)))
                self.is_latest_missing |= table == "latest_metrics"
                taken -= 1
        return taken

    def _row_issue(self, code: Code, table: str, named: Mapping[str, Value], reason: str) -> Issue:
        name = "/".join(str(named[column]) for column in audit.own_key(self._open(), table))
        kind = audit.kind_of(table, named)
        said = kind.value if kind else table
        trace_id = audit.trace_of(table, named)
        if trace_id is not None and not self._is_native(trace_id):
            kind = None  # we made it ourselves, so nothing that was found is lost
        return Issue(code, "", f"{said} {name}: {reason}.", kind=kind, entity_id=name)

    def _is_native(self, trace_id: object) -> bool:
        noted = self._notes.get("native", ())
        return (trace_id,) in noted or audit.is_native(self._open(), trace_id)
