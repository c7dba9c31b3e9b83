"""Finds registered models of an earlier conversion that have another name now.

A registered model has no id but its name. One of the target is the source's own if the target lacks
the source's name, and exactly one model there has its creation time, a name that the source has
not, and (if there are versions) a version of the same number and time.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from migrator.encoding import seen_digest
from migrator.issues import Code, Issue, Kind
from migrator.loader.sqlite import seen
from migrator.outcome.written import Written

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


def settle(db: sqlite3.Connection) -> Written:
    """Give each such model the same name on both sides.

    That of the target, unless it is one that a conversion gave it: then the target follows. Returns
    an issue for each, and the models of the target that got another name.
    """
    written = Written()
    for pair in _pairs(db):
        is_given = _is_converted(db, pair.target) and not _is_kept(db, pair.target)
        if is_given:
            database, old, new = "target", pair.target, pair.source
            code, seen_as = Code.MODEL_NAME_FOLLOWED, "REPLACE"
            written.renamed_models.append((pair.target, pair.source))
        else:
            database, old, new = "main", pair.source, pair.target
            code, seen_as = Code.MODEL_NAME_KEPT, "IGNORE"
            if not _is_kept(db, pair.target):
                seen.note(db, seen_digest("registered_models", _KEPT, pair.target))
        _copy_seen(db, pair.source, (old, new), seen_as)
        db.execute(f"UPDATE {database}.registered_models SET name = ? WHERE name = ?", (new, old))
        message = (
            f'Registered model "{pair.source}" of the source is "{pair.target}" in the target.'
        )
        written.issues.append(
            Issue(code, "", message, f'the model, as "{new}"', Kind.REGISTERED_MODEL, pair.source)
        )
    return written


def _pairs(db: sqlite3.Connection) -> list[_Pair]:
    names = "SELECT name FROM {}.registered_models"
    found = db.execute(
        "SELECT s.name, t.name FROM main.registered_models AS s JOIN target.registered_models AS t "
        f"ON t.creation_time = s.creation_time WHERE s.name NOT IN ({names.format('target')}) "
        f"AND t.name NOT IN ({names.format('main')}) AND ("
        "NOT EXISTS (SELECT 1 FROM main.model_versions AS v WHERE v.name = s.name) OR EXISTS ("
        "SELECT 1 FROM main.model_versions AS v JOIN target.model_versions AS w "
        "ON w.version = v.version AND w.creation_time = v.creation_time "
        "WHERE v.name = s.name AND w.name = t.name)) ORDER BY 1, 2"
    ).fetchall()
    sources = [source for source, _ in found]
    targets = [target for _, target in found]
    return [
        _Pair(source, target)
        for source, target in found
        if sources.count(source) == 1 and targets.count(target) == 1
    ]


def _is_converted(db: sqlite3.Connection, name: str) -> bool:
    """Whether a conversion wrote a model of the target under the name that it has."""
    field, key = seen.fields_of(db, ["registered_models"])[0]
    found = db.execute(
        f"SELECT 1 FROM target.registered_models AS t JOIN target.{seen.TABLE} AS m "
        f"ON m.item = {field.item('t', key)} WHERE t.name = ?",
        (name,),
    )
    return found.fetchone() is not None


def _is_kept(db: sqlite3.Connection, name: str) -> bool:
    """Whether an earlier conversion noted that people gave a model its name."""
    item = seen_digest("registered_models", _KEPT, name)
    found = db.execute(f"SELECT 1 FROM target.{seen.TABLE} WHERE item = ?", (item,))
    return found.fetchone() is not None


def _copy_seen(db: sqlite3.Connection, source: str, names: tuple[str, str], how: str) -> None:
    """Remember under the new name of ``names`` what is remembered under the old one.

    ``source`` is the name that the main database has. ``how`` says what becomes of digests that are
    there: ``REPLACE`` or ``IGNORE``.
    """
    for field, key in seen.fields_of(db, _TABLES):
        old, new = (field.item_named("s", key, name) for name in names)
        db.execute(
            f"INSERT OR {how} INTO target.{seen.TABLE} SELECT {new}, m.content, m.source "
            f"FROM main.{field.table} AS s JOIN target.{seen.TABLE} AS m ON m.item = {old} "
            "WHERE s.name = ?",
            (source,),
        )
