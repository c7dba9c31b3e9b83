"""Makes staged rows fit a server: SQLite takes any text into any column, the others don't.

Column sizes are read from the staging file's own definitions, which MLflow's migrations write alike
for every kind of database. Text that is not part of a key is cut or repaired, with an issue. A row
whose key doesn't fit is refused: a cut key would be another key.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from migrator import encoding
from migrator.databases import widest_collation_key
from migrator.issues import Code, Issue, Kind
from migrator.loader.rows import KINDS
from migrator.loader.sqlite import audit
from migrator.loader.sqlite.audit import quoted

BASIC_PLANE = "utf8mb3"  # MySQL's old utf8, of which Python has no codec
_TEXT_BYTES = 65_535  # of MySQL's TEXT
_LONG_TEXTS = {  # columns that MLflow makes bigger there, with the bytes that they hold
    ("datasets", "dataset_schema"): 16_777_215,
    ("datasets", "dataset_profile"): 16_777_215,
    ("spans", "content"): 4_294_967_295,
}
_INT32 = 2**31 - 1
_SAME_KEY = "the server's collation takes its key for that of another row"
_SIZE = re.compile(r"(?:VAR)?CHAR\((\d+)\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ColumnLimits:
    """What a server's columns hold, beyond their declared sizes."""

    takes_nul: bool
    charset: str | None = None  # where it is not all of Unicode: Python's name, or BASIC_PLANE
    text_bytes: bool = False  # TEXT is limited, too
    is_same: Callable[[str, str], bool] | None = None  # True if two texts are one key there


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    chars: int | None
    octets: int | None
    is_key: bool
    is_text: bool
    is_int32: bool


@dataclass(frozen=True, slots=True)
class _Row:
    """A staged row, by the names of its columns."""

    table: str
    rowid: int
    values: Mapping[str, object]


def apply_limits(db: sqlite3.Connection, limits: ColumnLimits) -> tuple[Counter[str], list[Issue]]:
    """Make all rows of the staging file fit.

    Returns how many rows of each table were refused, and an issue for each change.
    """
    fitting = _Fitting(db, limits)
    for table in audit.written_tables(db):
        for row, columns in _misfits(db, limits, table):
            fitting.fit(row, columns)
    if limits.is_same is not None:
        db.create_function("collation_key", 1, widest_collation_key, deterministic=True)
        for table in audit.written_tables(db):
            fitting.refuse_same_keys(table, limits.is_same)
    return fitting.refused, fitting.issues


@dataclass(slots=True)
class _Fitting:
    """Changes and refuses rows of a staging file, and keeps account of it."""

    db: sqlite3.Connection
    limits: ColumnLimits
    refused: Counter[str] = field(default_factory=Counter)
    issues: list[Issue] = field(default_factory=list)

    def fit(self, row: _Row, columns: Sequence[_Column]) -> None:
        """Repair the columns of a row that may not fit, or refuse the row."""
        changes: dict[str, str] = {}
        reasons: list[tuple[Code, str]] = []
        for column in columns:
            value = row.values[column.name]
            if not isinstance(value, str):
                self._refuse(row, f"{column.name} is {value}, and the column holds 32 bits")
                return
            fitted, code, reason = _fitted(value, self.limits, column)
            if fitted == value:
                continue
            if column.is_key:
                self._refuse(row, f"{column.name} {reason}")
                return
            changes[column.name] = fitted
            reasons.append((code, f"{column.name} {reason}"))
        if not changes:
            return
        sets = ", ".join(f"{quoted(name)} = ?" for name in changes)
        self.db.execute(
            f"UPDATE {row.table} SET {sets} WHERE rowid = ?", (*changes.values(), row.rowid)
        )
        for code, reason in reasons:
            kept = "what fits" if code is Code.LOAD_TEXT_CUT else "the text without them"
            self._add_issue(code, row, reason, kept)

    def refuse_same_keys(self, table: str, is_same: Callable[[str, str], bool]) -> None:
        """Refuse all but the first of the rows whose keys are one key to the server."""
        if table == "metrics":  # its rows follow those of latest_metrics, one for each key of a run
            return
        columns = list(_columns(self.db, ColumnLimits(True), table))
        key = [column for column in columns if column.is_key]
        if not any(column.chars for column in key):
            return
        folded = ", ".join(
            f"collation_key({quoted(c.name)})" if c.chars else quoted(c.name) for c in key
        )
        groups = self.db.execute(
            f"SELECT group_concat(rowid) FROM main.{quoted(table)} GROUP BY {folded} "
            "HAVING count(*) > 1"
        ).fetchall()
        for (rowids,) in groups:
            kept: list[_Row] = []
            for rowid in sorted(map(int, rowids.split(","))):
                row = self._row(table, rowid, columns)
                if any(_is_one_key(is_same, key, row, other) for other in kept):
                    self._refuse(row, _SAME_KEY)
                    if table == "latest_metrics":
                        self._refuse_points(row)
                else:
                    kept.append(row)

    def _row(self, table: str, rowid: int, columns: Sequence[_Column]) -> _Row:
        names = [column.name for column in columns]
        selected = ", ".join(map(quoted, names))
        found = self.db.execute(
            f"SELECT {selected} FROM main.{quoted(table)} WHERE rowid = ?", (rowid,)
        ).fetchone()
        return _Row(table, rowid, dict(zip(names, found, strict=True)))

    def _refuse(self, row: _Row, reason: str) -> None:
        self.db.execute(f"DELETE FROM main.{quoted(row.table)} WHERE rowid = ?", (row.rowid,))
        self.refused[row.table] += 1
        if row.table in KINDS:  # the others only repeat what these say
            self._add_issue(Code.LOAD_REFUSED, row, reason)

    def _refuse_points(self, row: _Row) -> None:
        """Refuse a metric whole: MLflow would show its points among those of the other."""
        run_id, key = row.values["run_uuid"], row.values["key"]
        count = self.db.execute(
            "DELETE FROM main.metrics WHERE run_uuid = ? AND key = ?", (run_id, key)
        ).rowcount
        self.refused["metrics"] += count
        self.issues.append(
            Issue(
                Code.LOAD_REFUSED,
                "",
                f"metric {run_id}/{key}: {_SAME_KEY}.",
                kind=Kind.METRIC_POINT,
                entity_id=str(run_id),
                count=count,
            )
        )

    def _add_issue(self, code: Code, row: _Row, reason: str, kept: str = "") -> None:
        kind = audit.kind_of(row.table, row.values)
        name = "/".join(str(row.values[c]) for c in audit.key_columns(self.db, row.table))
        label = kind.value if kind else row.table
        trace_id = audit.trace_of(row.table, row.values)
        if trace_id is not None and not audit.is_native(self.db, trace_id):
            kind = None  # we made it ourselves, so nothing that was found is lost
        message = f"{label} {name}: {reason}."
        self.issues.append(Issue(code, "", message, kept, kind=kind, entity_id=name))


def _columns(db: sqlite3.Connection, limits: ColumnLimits, table: str) -> Iterator[_Column]:
    key = audit.key_columns(db, table)
    for _, name, declared, _, _, _, hidden in db.execute(
        f"PRAGMA main.table_xinfo({quoted(table)})"
    ):
        if hidden:
            continue
        size = _SIZE.match(declared)
        octets = None
        if limits.text_bytes and declared.upper() == "TEXT":
            octets = _LONG_TEXTS.get((table, name), _TEXT_BYTES)
        yield _Column(
            name,
            int(size.group(1)) if size else None,
            octets,
            name in key,
            size is not None or declared.upper() == "TEXT",
            declared.upper() == "INTEGER",
        )


def _misfits(
    db: sqlite3.Connection, limits: ColumnLimits, table: str
) -> Iterator[tuple[_Row, list[_Column]]]:
    """Yield the rows that may not fit, each with the columns to look at."""
    columns = list(_columns(db, limits, table))
    conditions = {column: _misfit_condition(column, limits) for column in columns}
    checked = [column for column in columns if conditions[column]]
    if not checked:
        return
    names = [column.name for column in columns]
    flags = ", ".join(f"ifnull({conditions[column]}, 0)" for column in checked)
    found = db.execute(
        f"SELECT rowid, {flags}, {', '.join(map(quoted, names))} FROM main.{quoted(table)} "
        f"WHERE {' OR '.join(conditions[column] for column in checked)}"
    ).fetchall()
    for rowid, *rest in found:
        are_misfits, values = rest[: len(checked)], rest[len(checked) :]
        row = _Row(table, rowid, dict(zip(names, values, strict=True)))
        yield row, [c for c, is_misfit in zip(checked, are_misfits, strict=True) if is_misfit]


def _misfit_condition(column: _Column, limits: ColumnLimits) -> str:
    """SQL: a column's value may not fit. An empty text if every value fits."""
    name = quoted(column.name)
    if column.is_int32:
        return f"({name} NOT BETWEEN {-_INT32 - 1} AND {_INT32})"
    if not column.is_text:
        return ""
    # Of text with a NUL, length() counts what stands before it; of bytes, all.
    octets = f"length(CAST({name} AS BLOB))"
    conditions = []
    limit = column.chars if column.chars is not None else column.octets
    if limit is not None:
        conditions.append(f"{octets} > {limit}")
    if not limits.takes_nul:
        conditions.append(f"instr({name}, char(0)) > 0")
    if limits.charset is not None:
        conditions.append(f"{octets} > length({name})")  # it is not all ASCII
    return f"({' OR '.join(conditions)})" if conditions else ""


def _fitted(text: str, limits: ColumnLimits, column: _Column) -> tuple[str, Code, str]:
    """Return the text as it fits the column, the issue code, and the reason for the change."""
    code, reasons = Code.LOAD_TEXT_REPAIRED, []
    fitted = text
    if not limits.takes_nul and "\0" in fitted:
        fitted = fitted.replace("\0", "")
        reasons.append("holds NUL characters")
    if limits.charset is not None:
        plain = _in_charset(fitted, limits.charset)
        if plain != fitted:
            fitted = plain
            reasons.append(f"holds characters that the column's charset {limits.charset} lacks")
    if column.chars is not None and len(fitted) > column.chars:
        reasons.append(f"is {len(fitted):,} characters long, and the column holds {column.chars:,}")
        code, fitted = Code.LOAD_TEXT_CUT, encoding.cut(fitted, column.chars)
    if column.octets is not None and len(fitted.encode()) > column.octets:
        size = len(fitted.encode())
        reasons.append(f"is {size:,} bytes long, and the column holds {column.octets:,}")
        start = fitted.encode()[: column.octets - 3].decode(errors="ignore")
        code, fitted = Code.LOAD_TEXT_CUT, start + "..."
    return fitted, code, " and ".join(reasons)


def _in_charset(text: str, charset: str) -> str:
    if charset == BASIC_PLANE:
        return "".join("?" if ord(c) > 0xFFFF else c for c in text)
    return text.encode(charset, "replace").decode(charset)


def _is_one_key(
    is_same: Callable[[str, str], bool], key: Sequence[_Column], one: _Row, other: _Row
) -> bool:
    for column in key:
        a, b = one.values[column.name], other.values[column.name]
        if a != b and not is_same(str(a), str(b)):
            return False
    return True
