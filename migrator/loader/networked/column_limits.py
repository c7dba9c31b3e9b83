"""Making staged rows fit a server: SQLite takes any text into any column, the others don't.

Column sizes are read from the staging file's own definitions, which MLflow's migrations write alike
for every kind of database. What is no part of a key is cut or mended, and named as an issue; a row
whose key doesn't fit is refused, since a cut key would be another one.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from migrator import encoding
from migrator.databases import fold
from migrator.issues import Code, Issue, Kind
from migrator.loader.rows import COLUMNS, KINDS
from migrator.loader.sqlite import audit
from migrator.loader.sqlite.audit import TRACE_COLUMNS, quoted

_TEXT_BYTES = 65_535  # of MySQL's TEXT
_LONG_TEXTS = {  # columns that MLflow makes bigger there, with the bytes that they hold
    ("datasets", "dataset_schema"): 16_777_215,
    ("datasets", "dataset_profile"): 16_777_215,
    ("spans", "content"): 4_294_967_295,
}
_INT32 = 2**31 - 1
BASIC_PLANE = "utf8mb3"  # MySQL's old utf8, of which Python has no codec
_SAME = "the server's collation takes its key for that of another row"
_SIZE = re.compile(r"(?:VAR)?CHAR\((\d+)\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fit:
    """What a server's columns hold, beyond their declared sizes."""

    takes_nul: bool
    charset: str | None = None  # where it is not all of Unicode: Python's name, or BASIC_PLANE
    text_bytes: bool = False  # TEXT is limited, too
    same: Callable[[str, str], bool] | None = None  # whether two texts are one key there


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    chars: int | None
    octets: int | None
    is_key: bool
    is_text: bool
    is_int32: bool


def fit(
    db: sqlite3.Connection, rules: Fit, native: Collection[str]
) -> tuple[Counter[str], list[Issue]]:
    """Make all rows of the staging file fit; return how many of which table were refused.

    ``native`` are the traces of the source: of others, which we made ourselves, nothing that was
    found is lost when a row is refused.
    """
    refused: Counter[str] = Counter()
    issues: list[Issue] = []
    for table in COLUMNS:
        for rowid, row, found in _misfits(db, rules, table):
            changes: dict[str, object] = {}
            why: list[tuple[Code, str]] = []
            no = ""
            for column in found:
                value = row[column.name]
                if not isinstance(value, str):
                    no = f"{column.name} is {value}, and the column holds 32 bits"
                    break
                mended, code, reason = _mend(value, rules, column)
                if mended == value:
                    continue
                if column.is_key:
                    no = f"{column.name} {reason}"
                    break
                changes[column.name] = mended
                why.append((code, f"{column.name} {reason}"))
            if no:
                db.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
                refused[table] += 1
                issues += _issue(db, Code.LOAD_REFUSED, table, row, no, "", native)
            elif changes:
                sets = ", ".join(f"{quoted(name)} = ?" for name in changes)
                db.execute(f"UPDATE {table} SET {sets} WHERE rowid = ?", (*changes.values(), rowid))
                for code, reason in why:
                    kept = "what fits" if code is Code.LOAD_TEXT_CUT else "the text without them"
                    issues += _issue(db, code, table, row, reason, kept, native)
    if rules.same is not None:
        _refuse_same(db, rules.same, refused, issues, native)
    return refused, issues


def _columns(db: sqlite3.Connection, rules: Fit, table: str) -> Iterator[_Column]:
    key = audit.key_columns(db, table)
    for _, name, declared, _, _, _, hidden in db.execute(
        f"PRAGMA main.table_xinfo({quoted(table)})"
    ):
        if hidden:
            continue
        size = _SIZE.match(declared)
        octets = None
        if rules.text_bytes and declared.upper() == "TEXT":
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
    db: sqlite3.Connection, rules: Fit, table: str
) -> Iterator[tuple[int, dict[str, object], list[_Column]]]:
    """Yield the rows that may not fit, with the columns that don't."""
    columns = list(_columns(db, rules, table))
    conditions: dict[_Column, str] = {}
    for column in columns:
        name = quoted(column.name)
        # Of text with a NUL, length() counts what stands before it; of bytes, all.
        octets = f"length(CAST({name} AS BLOB))"
        tests = []
        if column.is_int32:
            tests.append(f"{name} NOT BETWEEN {-_INT32 - 1} AND {_INT32}")
        elif column.is_text:
            limit = column.chars if column.chars is not None else column.octets
            if limit is not None:
                tests.append(f"{octets} > {limit}")
            if not rules.takes_nul:
                tests.append(f"instr({name}, char(0)) > 0")
            if rules.charset is not None:
                tests.append(f"{octets} > length({name})")  # it is not all ASCII
        if tests:
            conditions[column] = f"({' OR '.join(tests)})"
    if not conditions:
        return
    names = ", ".join(quoted(c.name) for c in columns)
    flags = ", ".join(f"ifnull({test}, 0)" for test in conditions.values())
    found = db.execute(
        f"SELECT rowid, {flags}, {names} FROM main.{quoted(table)} "
        f"WHERE {' OR '.join(conditions.values())}"
    ).fetchall()
    n = len(conditions)
    for rowid, *rest in found:
        row = dict(zip((c.name for c in columns), rest[n:], strict=True))
        yield rowid, row, [c for c, flag in zip(conditions, rest[:n], strict=True) if flag]


def _mend(text: str, rules: Fit, column: _Column) -> tuple[str, Code, str]:
    """Return text that fits, and what was wrong with it."""
    code, reasons = Code.LOAD_TEXT_REPAIRED, []
    mended = text
    if not rules.takes_nul and "\0" in mended:
        mended = mended.replace("\0", "")
        reasons.append("holds NUL characters")
    if rules.charset is not None:
        plain = _in_charset(mended, rules.charset)
        if plain != mended:
            mended = plain
            reasons.append(f"holds characters that the column's {rules.charset} has not")
    if column.chars is not None and len(mended) > column.chars:
        reasons.append(f"is {len(mended):,} characters long, and the column holds {column.chars:,}")
        code, mended = Code.LOAD_TEXT_CUT, encoding.cut(mended, column.chars)
    if column.octets is not None and len(mended.encode()) > column.octets:
        size = len(mended.encode())
        reasons.append(f"is {size:,} bytes long, and the column holds {column.octets:,}")
        start = mended.encode()[: column.octets - 3].decode(errors="ignore")
        code, mended = Code.LOAD_TEXT_CUT, start + "..."
    return mended, code, " and ".join(reasons)


def _in_charset(text: str, charset: str) -> str:
    if charset == BASIC_PLANE:
        return "".join("?" if ord(c) > 0xFFFF else c for c in text)
    return text.encode(charset, "replace").decode(charset)


# ----------------------------------------------------------------- keys that are one over there


def _refuse_same(
    db: sqlite3.Connection,
    same: Callable[[str, str], bool],
    refused: Counter[str],
    issues: list[Issue],
    native: Collection[str],
) -> None:
    """Refuse of the rows whose keys the server takes for one all but the first."""
    db.create_function("fold", 1, fold, deterministic=True)
    for table in COLUMNS:
        if table == "metrics":  # its rows follow those of latest_metrics, one for each key of a run
            continue
        columns = list(_columns(db, Fit(True), table))
        key = [c for c in columns if c.is_key]
        if not any(c.chars for c in key):
            continue
        folded = ", ".join(f"fold({quoted(c.name)})" if c.chars else quoted(c.name) for c in key)
        groups = db.execute(
            f"SELECT group_concat(rowid) FROM main.{quoted(table)} GROUP BY {folded} "
            "HAVING count(*) > 1"
        ).fetchall()
        names = ", ".join(quoted(c.name) for c in columns)
        for (rowids,) in groups:
            kept: list[dict[str, object]] = []
            for rowid in sorted(map(int, rowids.split(","))):
                found = db.execute(
                    f"SELECT {names} FROM main.{quoted(table)} WHERE rowid = ?", (rowid,)
                ).fetchone()
                row = dict(zip((c.name for c in columns), found, strict=True))
                if not any(_one_key(same, key, row, other) for other in kept):
                    kept.append(row)
                    continue
                db.execute(f"DELETE FROM main.{quoted(table)} WHERE rowid = ?", (rowid,))
                refused[table] += 1
                issues += _issue(db, Code.LOAD_REFUSED, table, row, _SAME, "", native)
                if table == "latest_metrics":
                    issues += _refuse_points(db, refused, row)


def _one_key(
    same: Callable[[str, str], bool],
    key: Sequence[_Column],
    one: Mapping[str, object],
    other: Mapping[str, object],
) -> bool:
    return all(
        one[c.name] == other[c.name] or same(str(one[c.name]), str(other[c.name])) for c in key
    )


def _refuse_points(
    db: sqlite3.Connection, refused: Counter[str], row: Mapping[str, object]
) -> list[Issue]:
    """Refuse a metric whole: MLflow would show its points among those of the other."""
    name = (row["run_uuid"], row["key"])
    count = db.execute("DELETE FROM main.metrics WHERE run_uuid = ? AND key = ?", name).rowcount
    refused["metrics"] += count
    return [
        Issue(
            Code.LOAD_REFUSED,
            "",
            f"metric {row['run_uuid']}/{row['key']}: {_SAME}.",
            kind=Kind.METRIC_POINT,
            entity_id=str(row["run_uuid"]),
            count=count,
        )
    ]


def _issue(
    db: sqlite3.Connection,
    code: Code,
    table: str,
    row: Mapping[str, object],
    reason: str,
    kept: str,
    native: Collection[str],
) -> list[Issue]:
    """Return the issue of a row; none where a table only repeats what another says."""
    kind = KINDS.get(table)
    if kind is None and code is Code.LOAD_REFUSED:
        return []
    if table == "inputs" and row["source_type"] == "RUN_OUTPUT":
        kind = Kind.OUTPUT
    name = "/".join(str(row[column]) for column in audit.key_columns(db, table))
    said = kind.value if kind else table
    trace = TRACE_COLUMNS.get(table)
    if trace and row[trace] not in native:
        kind = None
    return [Issue(code, "", f"{said} {name}: {reason}.", kept, kind=kind, entity_id=name)]
