"""Finds registered models of an earlier conversion that have another name now.

A registered model has no id but its name. One of the target is the source's own if the target lacks
the source's name, and exactly one model there has its creation time, a name that the source has
not, and (if there are versions) a version of the same number and time.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass

from migrator.conventions import DEFAULT_WORKSPACE, in_workspace
from migrator.encoding import seen_digest
from migrator.issues import Code, Issue, Kind
from migrator.loader.sqlite import audit, seen
from migrator.outcome.written import RenamedModel, Written

_KEPT = "kept_name"  # in ``migrator_seen``: people gave a model of the target its name
_TABLES = (
    "registered_models",
    "registered_model_tags",
    "model_versions",
    "model_version_tags",
    "registered_model_aliases",
)


@dataclass(frozen=True, slots=True)
class _Pair:
    """A model of the source, and the target's model that came from it under another name."""

    source: str
    target: str
    workspace: str


def settle(db: sqlite3.Connection) -> Written:
    """Give each such model the same name on both sides.

    That of the target, unless it is one that a conversion gave it: then the target follows. Returns
    an issue for each, and the models of the target that got another name.
    """
    written = Written()
    for pair in _pairs(db):
        kept = _kept_item(pair)
        is_given = _is_converted(db, pair) and not _is_noted(db, kept)
        if is_given:
            database, old, new = "target", pair.target, pair.source
            code, seen_as = Code.MODEL_NAME_FOLLOWED, "REPLACE"
            written.renamed_models.append(RenamedModel(pair.workspace, old, new))
        else:
            database, old, new = "main", pair.source, pair.target
            code, seen_as = Code.MODEL_NAME_KEPT, "IGNORE"
            if not _is_noted(db, kept):
                seen.note(db, kept)
        _copy_seen(db, pair, (old, new), seen_as)
        db.execute(
            f"UPDATE {database}.registered_models AS s SET name = ? WHERE name = ?{_of(db, pair)}",
            (new, old),
        )
        message = (
            f'Registered model "{pair.source}" of the source is "{pair.target}" in the target.'
        )
        written.issues.append(
            Issue(code, "", message, f'the model, as "{new}"', Kind.REGISTERED_MODEL, pair.source)
        )
    return written


def _of(db: sqlite3.Connection, pair: _Pair) -> str:
    """SQL: a row ``s`` is of the pair's workspace, where the schema has any."""
    if not _has_workspaces(db):
        return ""
    return " AND s.workspace = '" + pair.workspace.replace("'", "''") + "'"


def _has_workspaces(db: sqlite3.Connection) -> bool:
    return "workspace" in audit.columns(db, "registered_models")


def _pairs(db: sqlite3.Connection) -> list[_Pair]:
    workspace, same = f"'{DEFAULT_WORKSPACE}'", ""
    if _has_workspaces(db):
        workspace, same = "s.workspace", " AND {0}.workspace = {1}.workspace"

    def lacks(database: str, row: str) -> str:
        return (
            f"NOT EXISTS (SELECT 1 FROM {database}.registered_models AS o "
            f"WHERE o.name = {row}.name{same.format('o', row)})"
        )

    of_model = "SELECT 1 FROM main.model_versions AS v"
    found = db.execute(
        f"SELECT s.name, t.name, {workspace} FROM main.registered_models AS s "
        "JOIN target.registered_models AS t "
        f"ON t.creation_time = s.creation_time{same.format('t', 's')} "
        f"WHERE {lacks('target', 's')} AND {lacks('main', 't')} AND ("
        f"NOT EXISTS ({of_model} WHERE v.name = s.name{same.format('v', 's')}) OR EXISTS ("
        f"{of_model} JOIN target.model_versions AS w "
        "ON w.version = v.version AND w.creation_time = v.creation_time "
        f"WHERE v.name = s.name{same.format('v', 's')} "
        f"AND w.name = t.name{same.format('w', 't')})) ORDER BY 3, 1, 2"
    ).fetchall()
    pairs = [_Pair(*row) for row in found]
    sources = Counter((pair.workspace, pair.source) for pair in pairs)
    targets = Counter((pair.workspace, pair.target) for pair in pairs)
    return [
        pair
        for pair in pairs
        if sources[pair.workspace, pair.source] == 1 and targets[pair.workspace, pair.target] == 1
    ]


def _is_converted(db: sqlite3.Connection, pair: _Pair) -> bool:
    """Whether a conversion wrote a model of the target under the name that it has."""
    field, key = seen.fields_of(db, ["registered_models"])[0]
    found = db.execute(
        f"SELECT 1 FROM target.registered_models AS s JOIN target.{seen.TABLE} AS m "
        f"ON m.item = {field.item('s', key)} WHERE s.name = ?{_of(db, pair)}",
        (pair.target,),
    )
    return found.fetchone() is not None


def _kept_item(pair: _Pair) -> int:
    """What notes that people gave a model of the target its name."""
    return seen_digest("registered_models", _KEPT, in_workspace(pair.workspace, pair.target))


def _is_noted(db: sqlite3.Connection, item: int) -> bool:
    """Whether an earlier conversion noted an item."""
    found = db.execute(f"SELECT 1 FROM target.{seen.TABLE} WHERE item = ?", (item,))
    return found.fetchone() is not None


def _copy_seen(db: sqlite3.Connection, pair: _Pair, names: tuple[str, str], how: str) -> None:
    """Remember under the new name of ``names`` what is remembered under the old one.

    The main database has the model under the pair's ``source``. ``how`` says what becomes of
    digests that are there: ``REPLACE`` or ``IGNORE``.
    """
    for field, key in seen.fields_of(db, _TABLES):
        old, new = (field.item_named("s", key, name) for name in names)
        db.execute(
            f"INSERT OR {how} INTO target.{seen.TABLE} SELECT {new}, m.content, m.source "
            f"FROM main.{field.table} AS s JOIN target.{seen.TABLE} AS m ON m.item = {old} "
            f"WHERE s.name = ?{_of(db, pair)}",
            (pair.source,),
        )
