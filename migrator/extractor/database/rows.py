"""Reading rows: many owners at once, each value with the type that it must have.

SQLite keeps any type in any column, and a constraint may have been lost. So every value is
checked, and what is wrong is named with its table and key.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from migrator.conventions import DEFAULT_WORKSPACE
from migrator.extractor.database.connection import AT_ONCE, PAGE_ROWS, Database, Row
from migrator.extractor.database.schema import Child
from migrator.extractor.filestore.read_log import ReadLog
from migrator.extractor.filestore.yamlfile import whole
from migrator.issues import Code, Kind


class RowLog(ReadLog):
    """What was read of one entity's rows: counts, and an issue for whatever was wrong.

    There are no files and directories to count.
    """

    __slots__ = ()

    def __init__(self, kind: Kind, entity_id: str, name: str) -> None:
        """``name`` is the database's; relative artifact locations begin in its directory."""
        super().__init__(kind, entity_id, name)
        self.folders_listed = 1

    def place(self, table: str, *keys: object) -> str:
        """A table and the keys of a row in it, as issues name them."""
        return "/".join([self.bound, table, *map(str, keys)])


class Fields:
    """One row by column. A column that the schema lacks is None, as one without a value."""

    __slots__ = ("_kind", "_log", "_values", "path")

    def __init__(self, log: RowLog, path: str, kind: Kind, values: Mapping[str, Any]) -> None:
        self._log = log
        self._kind = kind
        self._values = values
        self.path = path

    def raw(self, column: str) -> Any:
        """A value as the database has it."""
        return self._values.get(column)

    def text(self, column: str) -> str | None:
        """A text. A number becomes its digits; bytes are decoded; both are named."""
        value = self._values.get(column)
        if value is None or isinstance(value, str):
            return value
        return text_of(self._log, self.path, column, value, self._kind)

    def integer(self, column: str) -> int | None:
        """A whole number of 64 bits. A text that holds one is converted; other values are left
        out. Both are named."""
        value = self._values.get(column)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        number = whole(value)
        if number is None:
            self._unusable(column, value)
        elif not (isinstance(value, float) and value == number):
            self._converted(column, value, f"as {number}")
        return number

    def _unusable(self, column: str, value: object) -> None:
        self._log.add(
            Code.COLUMN_VALUE_UNUSABLE,
            f"{self.path}.{column}",
            f"The value is {type_of(value)}, not a whole number.",
            kind=self._kind,
            sample=repr(value)[:100],
        )

    def _converted(self, column: str, value: object, kept: str) -> None:
        self._log.add(
            Code.COLUMN_VALUE_CONVERTED,
            f"{self.path}.{column}",
            f"The value is {type_of(value)}, which the column can't have.",
            kept=kept,
            kind=self._kind,
            sample=repr(value)[:100],
        )

    def unknown(self, column: str, kept: str) -> None:
        """Name a word that MLflow does not know."""
        self._log.add(
            Code.STATUS_UNKNOWN,
            f"{self.path}.{column}",
            f"MLflow does not know this {column.replace('_', ' ')}.",
            kept=kept,
            kind=self._kind,
            sample=repr(self._values.get(column))[:100],
        )


def type_of(value: object) -> str:
    """The type of a value in SQLite's words, with an article."""
    if value is None:
        return "missing"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes"
    if isinstance(value, str):
        return "a text"
    return "a whole number" if isinstance(value, int) else "a number"


def text_of(log: RowLog, path: str, column: str, value: object, kind: Kind | None) -> str:
    """Convert a value that is not text to text, and name it."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return log.repaired_text(bytes(value), f"{path}.{column}", kind)
    log.add(
        Code.COLUMN_VALUE_CONVERTED,
        f"{path}.{column}",
        f"The value is {type_of(value)}, not a text.",
        kept="as text" if value is not None else "as an empty text",
        kind=kind,
        sample=repr(value)[:100],
    )
    return "" if value is None else str(value)


def number_of(log: RowLog, path: str, column: str, value: object, kind: Kind) -> float | None:
    """Convert a value of a metric to a number; None, with a rejection, where that is impossible."""
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = None
        if number is not None:
            log.add(
                Code.COLUMN_VALUE_CONVERTED,
                f"{path}.{column}",
                "The value is a text that holds a number.",
                kept="as that number",
                kind=kind,
                sample=repr(value)[:100],
            )
            return math.nan if number != number else number
    log.add(
        Code.ROW_DAMAGED,
        f"{path}.{column}",
        f"The value is {type_of(value)}, not a number.",
        kind=kind,
        sample=repr(value)[:100],
    )
    return None


# ---------------------------------------------------------------------------------- selecting


def select(
    database: Database,
    table: str,
    columns: Sequence[str],
    key: str,
    keys: Sequence[object],
    where: str = "",
) -> dict[object, list[dict[str, Any]]]:
    """Read the rows of many owners, by owner. Columns that are not there are None.

    ``key`` is the column that holds the owner's key; ``where`` narrows the rows (``c``).
    """
    names = [key, *columns]
    ending = f" AND {where}" if where else ""
    if database.has(table) and database.has_rowid(table):
        ending += " ORDER BY c.rowid"
    found: dict[object, list[dict[str, Any]]] = defaultdict(list)
    for row in _owned(database, table, names, keys, ending):
        found[row[0]].append(dict(zip(names, row, strict=True)))
    return found


def select_pairs(
    database: Database, table: str, columns: tuple[str, ...], key: str, keys: Sequence[object]
) -> dict[object, list[Row]]:
    """Read rows of many owners as tuples of ``columns``, by owner, in no order."""
    found: dict[object, list[Row]] = defaultdict(list)
    for row in _owned(database, table, (key, *columns), keys):
        found[row[0]].append(row[1:])
    return found


def _owned(
    database: Database,
    table: str,
    columns: Sequence[str],
    keys: Sequence[object],
    ending: str = "",
) -> Iterator[Row]:
    """Yield rows of many owners; the first of ``columns`` holds an owner's key.

    ``ending`` follows the condition in the SQL.
    """
    key = columns[0]
    if not database.has(table, key) or database.is_empty(table):
        return
    listed = ", ".join(column_of(database, table, column) for column in columns)
    for some in _chunks(keys):
        marks = ", ".join("?" * len(some))
        yield from database.rows(
            f"SELECT {listed} FROM {database.name(table)} c "
            f"WHERE c.{database.name(key)} IN ({marks}){ending}",
            some,
        )


def count(database: Database, child: Child, keys: Sequence[object]) -> dict[object, int]:
    """Count the rows of a table that belong to owners, by owner, without reading them."""
    found: dict[object, int] = {}
    if not database.has(child.table, child.column) or database.is_empty(child.table):
        return found
    column = f"c.{database.name(child.column)}"
    for some in _chunks(keys):
        marks = ", ".join("?" * len(some))
        sql = (
            f"SELECT {column}, COUNT(*) FROM {database.name(child.table)} c "
            f"WHERE {column} IN ({marks})"
        )
        if child.where:
            sql += f" AND {child.where}"
        for key, number in database.rows(f"{sql} GROUP BY {column}", some):
            found[key] = found.get(key, 0) + int(number)
    return found


def pages(
    database: Database,
    source: str,
    columns: Sequence[str],
    table: str,
    key: str,
    workspace: object = None,
) -> Iterator[Row]:
    """Yield rows of ``columns`` (SQL text) in pages by key, so that no page needs an offset.

    ``source`` is SQL text that joins other tables to ``table``, which it calls ``c``. Where rows
    have a number (SQLite), that is the key: rows are seen too whose own key is repeated or missing.
    With a ``workspace``, in which alone the key may be unique, only its rows are read.
    """
    mark = "c.rowid" if database.has_rowid(table) else f"c.{database.name(key)}"
    listed = ", ".join([mark, *columns])
    last: object = None
    while True:
        conditions, values = [], []
        if workspace is not None:
            conditions.append(f"COALESCE(c.workspace, '{DEFAULT_WORKSPACE}') = ?")
            values.append(workspace)
        if last is not None:
            conditions.append(f"{mark} > ?")
            values.append(last)
        condition = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        sql = (
            f"SELECT {listed} FROM {database.name(table)} c {source}{condition} "
            f"ORDER BY {mark} LIMIT {PAGE_ROWS}"
        )
        rows = database.rows(sql, values)
        seen = last
        for row in rows:
            if row[0] != seen:  # a joined table may hold the same twice
                yield row[1:]
            seen = row[0]
        if len(rows) < PAGE_ROWS:
            return
        last = rows[-1][0]


def column_of(database: Database, table: str, column: str) -> str:
    """A column of ``c`` as SQL text, NULL where the schema lacks it."""
    return f"c.{database.name(column)}" if database.has(table, column) else "NULL"


def _chunks(keys: Sequence[object]) -> Iterator[Sequence[object]]:
    for at in range(0, len(keys), AT_ONCE):
        yield keys[at : at + AT_ONCE]


# ----------------------------------------------------------------------------- keys and values


def key_values(log: RowLog, path: str, rows: Iterable[Row], kind: Kind | None) -> dict[str, str]:
    """Texts by key, from rows of (key, value), sorted by key.

    A key that is there twice with one value is merged, with another rejected. ``kind`` is None for
    values that are not counted.
    """
    values: dict[str, str] = {}
    for key, value in rows:
        if not isinstance(key, str):
            log.add(
                Code.ROW_DAMAGED, path, f"Its key is {type_of(key)}, not a text.", kind=kind,
                sample=repr(key)[:100],
            )  # fmt: skip
            continue
        if not isinstance(value, str):
            value = text_of(log, f"{path}/{key}", "value", value, kind)
        if key not in values:
            values[key] = value
        else:
            repeated(log, f"{path}/{key}", kind, is_equal=values[key] == value)
    return dict(sorted(values.items()))


def repeated(log: RowLog, path: str, kind: Kind | None, *, is_equal: bool) -> None:
    """Name a row whose key another row has. An equal one is merged, another one rejected."""
    if is_equal:
        if kind is not None:
            log.merged[kind] += 1
        log.add(
            Code.ROW_REPEATED, path, "Two equal rows have this key.", kept="one of them", kind=kind
        )
    else:
        log.add(
            Code.ROW_TWICE, path, "Another row has this key and other values.", kept="the first",
            kind=kind,
        )  # fmt: skip


def one_row(log: RowLog, path: str, kind: Kind, rows: Sequence[dict[str, Any]]) -> Fields | None:
    """The row of an entity; None, with a rejection, where it is gone. Others are named."""
    if not rows:
        log.add(Code.ROW_VANISHED, path, "The row was there when the table was listed.", kind=kind)
        return None
    log.found[kind] = len(rows)
    for other in rows[1:]:
        repeated(log, path, kind, is_equal=other == rows[0])
    return Fields(log, path, kind, rows[0])
