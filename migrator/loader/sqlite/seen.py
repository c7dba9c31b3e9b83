"""Remembers what was converted, so that the next conversion knows what people did meanwhile.

A conversion writes a digest of each field that people can change into a table of its own,
``migrator_seen``, beside MLflow's tables and in the same transaction. The next one compares three
values: the digest, the target's value and the source's.

- The target lacks a row that was converted: people deleted it. It stays away.
- The target's value is still the one that was converted: the source's new value replaces it, if
  it comes from the same place. Of two stores that hold the same run the first one counts.
- The target has another value than the one that was converted: people changed it. It stays.

Digests have 64 bits, of the row's key and of its values, so that a row of ours has 25 bytes. A
database that an older version wrote has no such table. What is there then follows only where it had
not ended, and what is missing arrives.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from migrator import conventions
from migrator.encoding import seen_digest
from migrator.issues import Code, Issue, Kind, Severity
from migrator.loader.owners import ROOTS, owner_of
from migrator.loader.publication import SourceState
from migrator.loader.rows import KINDS
from migrator.loader.sqlite import audit
from migrator.loader.sqlite.audit import quoted
from migrator.loader.sqlite.taking_out import create_marks, take_out, version_id
from migrator.model import ConvertedExperiment
from migrator.outcome.written import Written

TABLE = conventions.MIGRATOR_SEEN_TABLE
UNFINISHED = "('RUNNING', 'SCHEDULED')"
_DIGEST = "migrator_digest"  # SQL function, of any number of values
_EXAMPLES = 3
_ITEMS_PER_QUERY = 500
_OWN_EXPERIMENT = (
    "EXISTS (SELECT 1 FROM main.experiment_tags AS g WHERE g.experiment_id = s.experiment_id "
    f"AND g.key = '{conventions.MIGRATOR_SOURCE_NAME}')"
)
_OF_NATIVE = "s.{} IN (SELECT trace_id FROM temp.native)"
_RUNNING = f"t.status IN {UNFINISHED}"
_OF_RUNNING = (
    "EXISTS (SELECT 1 FROM target.runs AS r WHERE r.run_uuid = t.run_uuid "
    f"AND r.status IN {UNFINISHED})"
)
_OF_SEEN_RUN = (
    f"EXISTS (SELECT 1 FROM target.{TABLE} AS m "
    f"WHERE m.item = {_DIGEST}('runs', 'name', t.run_uuid))"
)
_UNDELETED = "t.lifecycle_stage <> 'deleted'"
_DELETED = "t.lifecycle_stage = 'deleted' AND s.lifecycle_stage <> 'deleted'"
_DELETED_VERSION = "t.current_stage = 'Deleted_Internal' AND s.current_stage <> t.current_stage"
_FOLLOWERS = "('source', 'restored')"


@dataclass(frozen=True, slots=True)
class Field:
    """Columns of a table that people can change, or by which an entity is known.

    ``s`` is a row of the source in SQL, ``t`` the target's row of the same key.
    """

    table: str
    columns: tuple[str, ...] = ()
    identity: str = ""  # SQL of a row ``s``; such a field is never changed
    rows: str = "1"  # those that are remembered
    has_value: str = "1"  # otherwise it is only remembered that the row was converted
    may_follow: str = "1"
    is_open: str = "0"  # it had not ended; follows although nothing is remembered of it
    by_people: str = "0"  # nothing is remembered of it because people added it
    is_stamp: bool = False  # a time that MLflow sets with each change; not worth an issue
    restored_if: str = "0"  # the entity is marked as deleted in the target alone

    def item(self, row: str, key: Sequence[str]) -> str:
        """SQL for the digest that names this field of a row."""
        return self._item([f"{row}.{quoted(column)}" for column in key])

    def item_named(self, row: str, key: Sequence[str], name: str) -> str:
        """The same with another registered model's name."""
        text = "'" + name.replace("'", "''") + "'"
        return self._item([text if c == "name" else f"{row}.{quoted(c)}" for c in key])

    def _item(self, keys: Sequence[str]) -> str:
        name = self.columns[0] if self.columns else ""
        return f"{_DIGEST}('{self.table}', '{name}', {', '.join(keys)})"

    def content(self, row: str) -> str:
        """SQL for the digest of this field's values in a row."""
        if self.identity:
            return f"{_DIGEST}({self.identity.format(row)})"
        values = ", ".join(f"{row}.{quoted(column)}" for column in self.columns)
        return f"{_DIGEST}({values})"


# The first field of each table says by its presence that a row was converted.
FIELDS = (
    Field(
        "experiments",
        identity="ifnull({0}.creation_time, {0}.name)",
        rows=_OWN_EXPERIMENT,
    ),
    Field(
        "experiments",
        ("lifecycle_stage",),
        rows=_OWN_EXPERIMENT,
        restored_if=_DELETED,
    ),
    Field("experiments", ("last_update_time",), rows=_OWN_EXPERIMENT, is_stamp=True),
    Field(
        "experiment_tags",
        ("value",),
        has_value=_OWN_EXPERIMENT,
        may_follow="(s.key, s.experiment_id) NOT IN (SELECT key, experiment_id FROM temp.own_tags)",
    ),
    Field("runs", ("name",), is_open=_RUNNING),
    Field("runs", ("status", "end_time"), is_open=_RUNNING),
    Field(
        "runs",
        ("lifecycle_stage", "deleted_time"),
        is_open=f"{_RUNNING} AND {_UNDELETED}",
        restored_if=_DELETED,
    ),
    Field("tags", ("value",), is_open=_OF_RUNNING, by_people=_OF_SEEN_RUN),
    Field("logged_models", ("status", "status_message")),
    Field("logged_models", ("lifecycle_stage",), restored_if=_DELETED),
    Field("logged_models", ("last_updated_timestamp_ms",), is_stamp=True),
    Field("logged_model_tags", ("tag_value",)),
    Field("registered_models", identity="{0}.creation_time"),
    Field("registered_models", ("description",)),
    Field("registered_models", ("last_updated_time",), is_stamp=True),
    Field("registered_model_tags", ("value",)),
    Field("model_versions", identity="{0}.creation_time"),
    Field("model_versions", ("description",), restored_if=_DELETED_VERSION),
    Field("model_versions", ("current_stage",), restored_if=_DELETED_VERSION),
    Field("model_versions", ("status", "status_message"), restored_if=_DELETED_VERSION),
    Field(
        "model_versions",
        ("source", "storage_location", "run_id", "run_link", "user_id"),
        may_follow="0",
        restored_if=_DELETED_VERSION,
    ),
    Field("model_versions", ("last_updated_time",), is_stamp=True),
    Field("model_version_tags", ("value",)),
    Field("registered_model_aliases", ("version",)),
    Field("trace_info"),
    Field(
        "trace_tags",
        ("value",),
        rows="s.key NOT LIKE 'migrator.%'",  # those come and go with the state of the runs
        may_follow=_OF_NATIVE.format("request_id"),
    ),
    Field(
        "assessments",
        ("value", "error", "rationale", "assessment_metadata"),
        may_follow=_OF_NATIVE.format("trace_id"),
    ),
    Field("assessments", ("valid",), may_follow=_OF_NATIVE.format("trace_id")),
    Field("assessments", ("last_updated_timestamp",), is_stamp=True),
    Field("workspaces"),
)

_REPLACED = "s.creation_time <> t.creation_time"  # people made another of the same name or id


def query_of(items: Sequence[int]) -> str:
    """SQL for the rows of some items."""
    return f"SELECT item, content FROM {TABLE} WHERE item IN ({', '.join(map(str, items))})"


def converted_experiments(
    some: Sequence[ConvertedExperiment], ask: Callable[[Sequence[int]], Sequence[Sequence[Any]]]
) -> frozenset[ConvertedExperiment]:
    """Return those of some experiments that are remembered; ``ask`` returns the rows of items."""
    found = set()
    for start in range(0, len(some), _ITEMS_PER_QUERY):
        chunk = some[start : start + _ITEMS_PER_QUERY]
        items = {seen_digest("experiments", "", each.target_id): each for each in chunk}
        contents = {int(item): int(content) for item, content in ask(list(items))}
        for each in chunk:
            known = each.name if each.creation_ms is None else each.creation_ms
            if contents.get(seen_digest("experiments", "", each.target_id)) == seen_digest(known):
                found.add(each)
    return frozenset(found)


def state_row(state: SourceState, *, is_known: bool = True) -> tuple[int, int]:
    """Item and content of the row that remembers the state of a source; 0 for an unknown one."""
    content = seen_digest(state.content) if state.content and is_known else 0
    return seen_digest("source", "", os.fsencode(state.place)), content


def has_state(state: SourceState, ask: Callable[[Sequence[int]], Sequence[Sequence[Any]]]) -> bool:
    """Whether a state is remembered; ``ask`` returns the rows of items."""
    item, content = state_row(state)
    return content != 0 and [(item, content)] == [tuple(map(int, row)) for row in ask([item])]


def keep_state(
    db: sqlite3.Connection, database: str, state: SourceState | None, issues: Iterable[Issue]
) -> None:
    """Remember the state in which a source was converted, unless that led to these rejections.

    Rejections have to be reported again, so they make the state unknown.
    """
    if state is None:
        return
    has_rejects = any(issue.severity is Severity.REJECTED for issue in issues)
    item, content = state_row(state, is_known=not has_rejects)
    db.execute(
        f"INSERT INTO {database}.{TABLE} (item, content, source) VALUES (?, ?, 0) "
        "ON CONFLICT (item) DO UPDATE SET content = excluded.content",
        (item, content),
    )


def create(db: sqlite3.Connection, database: str) -> None:
    """Make the table in an attached database, and the SQL function."""
    db.create_function(_DIGEST, -1, seen_digest, deterministic=True)
    db.execute(
        f"CREATE TABLE IF NOT EXISTS {database}.{TABLE} "
        "(item INTEGER NOT NULL PRIMARY KEY, content INTEGER NOT NULL, source INTEGER NOT NULL)"
    )


def source_number(place: str) -> int:
    """31 bits of a hash of where the source is, in any locale; 0 for the target itself."""
    return seen_digest(os.fsencode(place)) & 0x7FFFFFFF if place else 0


def remember(db: sqlite3.Connection, place: str) -> None:
    """Fill the main database's table with the digests of its rows; ``place`` is the source's."""
    create(db, "main")
    for field, key in _fields(db):
        _remember_rows(db, field, key, "1", place)


def _remember_rows(
    db: sqlite3.Connection, field: Field, key: Sequence[str], condition: str, place: str
) -> None:
    content = f"CASE WHEN {field.has_value} THEN {field.content('s')} ELSE 0 END"
    db.execute(
        f"INSERT OR IGNORE INTO main.{TABLE} SELECT {field.item('s', key)}, {content}, ? "
        f"FROM main.{quoted(field.table)} AS s WHERE {field.rows} AND {condition} ORDER BY 1",
        (source_number(place),),
    )


# What another store of the same entity wrote stays as long as this one has other values. A store
# that was moved takes over what it wrote before, when something is written anyway. A database that
# is converted in place (source 0) takes nothing over.
_IS_CHANGED = "t.content <> s.content AND t.source = s.source"
_IS_MOVED = "t.content = s.content AND t.source <> s.source AND s.source <> 0"
_BOTH = f"FROM main.{TABLE} AS s LEFT JOIN target.{TABLE} AS t ON t.item = s.item"


def is_behind(db: sqlite3.Connection) -> bool:
    """Whether the target's table lacks a digest, or has another one."""
    found = db.execute(f"SELECT 1 {_BOTH} WHERE t.item IS NULL OR {_IS_CHANGED} LIMIT 1")
    return found.fetchone() is not None


def keep(db: sqlite3.Connection) -> None:
    """Write the main database's digests into the target's table."""
    db.execute(
        f"UPDATE target.{TABLE} AS t SET content = s.content, source = s.source "
        f"FROM main.{TABLE} AS s WHERE t.item = s.item AND ({_IS_CHANGED} OR {_IS_MOVED})"
    )
    db.execute(
        f"INSERT INTO target.{TABLE} (item, content, source) "
        f"SELECT s.item, s.content, s.source {_BOTH} WHERE t.item IS NULL"
    )


def note(db: sqlite3.Connection, item: int) -> None:
    """Remember an item without content in the target's table."""
    db.execute(f"INSERT OR IGNORE INTO target.{TABLE} VALUES (?, 0, 0)", (item,))


def fields_of(
    db: sqlite3.Connection, tables: Collection[str]
) -> list[tuple[Field, tuple[str, ...]]]:
    """The fields of some tables, each with the key of its table."""
    return [(field, key) for field, key in _fields(db) if field.table in tables]


def _fields(db: sqlite3.Connection) -> Iterator[tuple[Field, tuple[str, ...]]]:
    """Each field that can be read in the main database, and the key of its table."""
    there = set(audit.tables(db))
    for field in FIELDS:
        if field.table in there:
            yield field, audit.key_columns(db, field.table)


def _matches(key: Sequence[str]) -> str:
    return " AND ".join(f"t.{quoted(column)} = s.{quoted(column)}" for column in key)


# ------------------------------------------------------------------ what people deleted


def leave_out_deleted(db: sqlite3.Connection, place: str) -> Written:
    """Delete from the main database what people deleted in the target, with all that belongs to it.

    Returns the counts, and an issue for each kind. ``place`` is the source's.
    """
    written = Written()
    create(db, "main")
    create_marks(db, "gone")
    firsts: dict[str, tuple[Field, tuple[str, ...]]] = {}
    for field, key in _fields(db):
        firsts.setdefault(field.table, (field, key))
    for table in (*reversed(tuple(ROOTS)), "model_versions"):
        if table in firsts:
            _mark_deleted(db, *firsts[table])
            _name_deleted(db, table, written)

    def count(owner: str, entity_id: object, kind: Kind, number: int, *, rebuilt: bool) -> None:
        counter = written.rebuilt_left_out if rebuilt else written.left_out
        counter[kind] += number

    take_out(db, "gone", count)
    for table, (field, key) in firsts.items():
        if table not in ROOTS and table != "model_versions":
            _take_out_rows(db, field, key, place, written)
    return written


def _mark_deleted(db: sqlite3.Connection, field: Field, key: tuple[str, ...]) -> None:
    """Fill ``temp.gone_TABLE`` with the ids of entities that were converted and are gone."""
    table = field.table
    row = f"main.{quoted(table)} AS s LEFT JOIN target.{quoted(table)} AS t ON {_matches(key)}"
    gone = f"t.{quoted(key[0])} IS NULL"
    if field.identity:
        gone += f" OR {_REPLACED}"
    seen = (
        f"SELECT 1 FROM target.{TABLE} AS m WHERE m.item = {field.item('s', key)} "
        f"AND m.content = {field.content('s')}"
    )
    condition = f"({gone}) AND EXISTS ({seen})"
    entity_id = owner_of(db, table).sql
    if table == "model_versions":
        model_id, entity_id = entity_id, version_id(db, table)
        condition = (
            f"({condition} OR {_DELETED_VERSION}) "  # MLflow keeps the row of a deleted version
            f"AND {model_id} NOT IN (SELECT id FROM temp.gone_registered_models)"
        )
    db.execute(
        f"INSERT OR IGNORE INTO temp.gone_{table} SELECT {entity_id}, 'deleted' FROM {row} "
        f"WHERE {condition}"
    )


def _name_deleted(db: sqlite3.Connection, table: str, written: Written) -> None:
    found = [str(row[0]) for row in db.execute(f"SELECT id FROM temp.gone_{table} ORDER BY id")]
    _add_issue(written, Code.TARGET_DELETED, KINDS[table], found)
    if table == "workspaces":  # what was moved out of one is there, in another
        for child in ("experiments", "registered_models", "evaluation_datasets", "webhooks"):
            same = _matches(audit.key_columns(db, child))
            db.execute(
                f"INSERT OR IGNORE INTO temp.gone_{child} SELECT {owner_of(db, child).sql}, "
                f"'deleted' FROM main.{child} AS s WHERE s.workspace IN "
                "(SELECT id FROM temp.gone_workspaces) "
                f"AND NOT EXISTS (SELECT 1 FROM target.{child} AS t WHERE {same})"
            )
    if table == "experiments":  # new runs of a deleted experiment have no place either
        for child in ("runs", "logged_models", "trace_info"):
            db.execute(
                f"INSERT OR IGNORE INTO temp.gone_{child} SELECT {ROOTS[child]}, 'deleted' "
                f"FROM main.{child} WHERE experiment_id IN (SELECT id FROM temp.gone_experiments)"
            )


def _take_out_rows(
    db: sqlite3.Connection, field: Field, key: tuple[str, ...], place: str, written: Written
) -> None:
    """Delete rows that people deleted from an entity that is there: tags, aliases, assessments."""
    table = field.table
    gone = (
        f"NOT EXISTS (SELECT 1 FROM target.{quoted(table)} AS t WHERE {_matches(key)}) AND EXISTS "
        f"(SELECT 1 FROM target.{TABLE} AS m WHERE m.item = {field.item('s', key)})"
    )
    names = " || '/' || ".join(f"s.{quoted(column)}" for column in key)
    found = db.execute(
        f"SELECT s.rowid, {names} FROM main.{quoted(table)} AS s WHERE {gone} ORDER BY 2"
    ).fetchall()
    if not found:
        return
    db.execute("CREATE TEMP TABLE IF NOT EXISTS gone_rows (id INTEGER PRIMARY KEY)")
    db.execute("DELETE FROM temp.gone_rows")
    db.executemany("INSERT INTO temp.gone_rows VALUES (?)", [(rowid,) for rowid, _ in found])
    marked = "SELECT id FROM temp.gone_rows"
    for kind, _, condition, is_rebuilt in audit.slices_of(table):
        (number,) = db.execute(
            f"SELECT count(*) FROM main.{quoted(table)} AS s "
            f"WHERE ({condition}) AND s.rowid IN ({marked})"
        ).fetchone()
        counter = written.rebuilt_left_out if is_rebuilt else written.left_out
        counter[kind] += number
    for each, _ in fields_of(db, [table]):  # as the source has it now, should people make it anew
        _remember_rows(db, each, key, f"s.rowid IN ({marked})", place)
    db.execute(f"DELETE FROM main.{quoted(table)} WHERE rowid IN ({marked})")
    _add_issue(written, Code.TARGET_DELETED, KINDS[table], [str(name) for _, name in found])


def _add_issue(written: Written, code: Code, kind: Kind, names: Sequence[str]) -> None:
    if not names:
        return
    named = ", ".join(names[:_EXAMPLES]) + (", …" if len(names) > _EXAMPLES else "")
    message, kept = {
        Code.TARGET_DELETED: ("deleted in the target", "nothing; --restore brings it back"),
        Code.TARGET_UPDATED: ("changed in the source", "what the source has now"),
        Code.TARGET_RESTORED: ("deleted in the target", "what the source has"),
        Code.TARGET_CHANGED: ("changed in the source and in the target", "what the target has"),
    }[code]
    written.issues.append(
        Issue(
            code,
            "",
            f"{len(names):,} of kind {kind.value} {message} since the last conversion: {named}.",
            kept,
            kind,
            names[0],
            len(names),
        )
    )


# ------------------------------------------------------------------ what was changed


def find_changes(db: sqlite3.Connection, place: str, *, restore: bool) -> None:
    """Find the fields that differ, and who changed them; fills ``temp.changes``.

    ``side`` is ``source`` where the target is to follow, ``target`` where people changed it,
    ``both``, or ``unknown`` where nothing is remembered. With ``restore`` it is ``restored`` where
    the entity is marked as deleted in the target alone; that follows as well.
    """
    db.execute(
        "CREATE TEMP TABLE IF NOT EXISTS changes (field INTEGER, row_id INTEGER, side TEXT, "
        "PRIMARY KEY (field, row_id)) WITHOUT ROWID"
    )
    db.execute("DELETE FROM temp.changes")
    for field, key in _fields(db):
        if not field.columns:
            continue
        remembered = (
            f"(SELECT nullif(m.{{}}, 0) FROM target.{TABLE} AS m "
            f"WHERE m.item = {field.item('s', key)})"
        )
        is_restored = field.restored_if if restore else "0"
        db.execute(
            "INSERT INTO temp.changes SELECT ?, row_id, CASE WHEN is_restored THEN 'restored' "
            "WHEN converted = ours AND may_follow AND (source = ? OR is_open) THEN 'source' "
            "WHEN converted = ours THEN 'unknown' WHEN converted = theirs THEN 'target' "
            "WHEN converted IS NOT NULL OR by_people THEN 'both' WHEN is_open THEN 'source' "
            "ELSE 'unknown' END FROM ("
            f"SELECT s.rowid AS row_id, {remembered.format('content')} AS converted, "
            f"{remembered.format('source')} AS source, {field.content('t')} AS ours, "
            f"{field.content('s')} AS theirs, {field.may_follow} AS may_follow, "
            f"{field.is_open} AS is_open, {field.by_people} AS by_people, "
            f"{is_restored} AS is_restored "
            f"FROM main.{quoted(field.table)} AS s JOIN target.{quoted(field.table)} AS t "
            f"ON {_matches(key)} WHERE {_differs(field)})",
            (FIELDS.index(field), source_number(place)),
        )


def has_followers(db: sqlite3.Connection) -> bool:
    """Whether ``find_changes`` found a field of the target that is to follow."""
    found = db.execute(f"SELECT 1 FROM temp.changes WHERE side IN {_FOLLOWERS} LIMIT 1")
    return found.fetchone() is not None


def follow(db: sqlite3.Connection) -> None:
    """Give the fields that are to follow the source's values."""
    for field, key in _fields(db):
        columns = ", ".join(map(quoted, field.columns))
        values = ", ".join(f"s.{quoted(column)}" for column in field.columns)
        if not field.columns:
            continue
        keys = ", ".join(f"s.{quoted(column)}" for column in key)
        db.execute(
            f"UPDATE target.{quoted(field.table)} AS t SET ({columns}) = ({values}) FROM "
            f"(SELECT {keys}, {values} FROM temp.changes AS c JOIN main.{quoted(field.table)} AS s "
            f"ON s.rowid = c.row_id WHERE c.field = ? AND c.side IN {_FOLLOWERS}) AS s "
            f"WHERE {_matches(key)}",
            (FIELDS.index(field),),
        )


def changes_issues(db: sqlite3.Connection) -> list[Issue]:
    """An issue for each kind that followed the source, and that both sides changed."""
    written = Written()
    for code, side in (
        (Code.TARGET_UPDATED, "source"),
        (Code.TARGET_RESTORED, "restored"),
        (Code.TARGET_CHANGED, "both"),
    ):
        for table, numbers in _numbers_by_table().items():
            names = " || '/' || ".join(
                f"s.{quoted(column)}" for column in audit.key_columns(db, table)
            )
            found = db.execute(
                f"SELECT DISTINCT {names} FROM temp.changes AS c JOIN main.{quoted(table)} AS s "
                f"ON s.rowid = c.row_id WHERE c.field IN ({numbers}) AND c.side = ? ORDER BY 1",
                (side,),
            )
            _add_issue(written, code, KINDS[table], [str(name) for (name,) in found])
    return written.issues


def _numbers_by_table() -> dict[str, str]:
    """The places in ``FIELDS`` of each table's fields that are worth an issue, as SQL."""
    numbers: dict[str, list[str]] = {}
    for number, field in enumerate(FIELDS):
        if field.columns and not field.is_stamp:
            numbers.setdefault(field.table, []).append(str(number))
    return {table: ", ".join(of_table) for table, of_table in numbers.items()}


def unknown_difference(table: str) -> str:
    """SQL: a row ``s`` still differs in a field of which nothing is remembered."""
    conditions = []
    for number, field in enumerate(FIELDS):
        if field.table == table and field.columns and not field.is_stamp:
            conditions.append(
                f"({_differs(field)}) AND EXISTS (SELECT 1 FROM temp.changes AS c "
                f"WHERE c.field = {number} AND c.row_id = s.rowid AND c.side = 'unknown')"
            )
    return " OR ".join(conditions) or "0"


def _differs(field: Field) -> str:
    return " OR ".join(f"s.{quoted(c)} IS NOT t.{quoted(c)}" for c in field.columns)


def is_of_people(table: str, key: Sequence[str]) -> str:
    """SQL: people changed a field of the target's row ``t``."""
    numbers = _numbers_by_table()[table]
    return (
        f"EXISTS (SELECT 1 FROM main.{quoted(table)} AS s JOIN temp.changes AS c "
        f"ON c.field IN ({numbers}) AND c.row_id = s.rowid "
        f"WHERE {_matches(key)} AND c.side IN ('target', 'both'))"
    )


def watched_columns(table: str) -> set[str]:
    """The columns of a table that ``find_changes`` compares."""
    return {column for field in FIELDS if field.table == table for column in field.columns}
