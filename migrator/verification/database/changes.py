"""Tells what people changed in a database since it was converted from what a conversion did wrong.

A conversion remembers, in its table ``migrator_seen``, a digest of each field that people can
change. A row that has another digest by now, or is gone, was changed after that; so was a row of a
remembered entity if nothing remembers the row. The digests are read here, and only where something
differs: what a conversion wrote wrongly has the digest that was remembered, and stays a difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from migrator import conventions, encoding
from migrator.issues import Kind
from migrator.verification.findings import MISSING, NOTHING

_LATER = {"workspace": "default"}  # columns of keys in newer schemas


class _Table(NamedTuple):
    name: str
    key: tuple[str, ...]  # columns that make an entity's name, in its order
    first: tuple[str, ...]  # the field by which a row is known; none if it has no other


class _Tags(NamedTuple):
    table: str
    key: str  # column of the tag's key
    value: str
    owner: tuple[str, ...]


_TABLES = {
    Kind.EXPERIMENT: _Table("experiments", ("experiment_id",), ("lifecycle_stage",)),
    Kind.RUN: _Table("runs", ("run_uuid",), ("name",)),
    Kind.TRACE: _Table("trace_info", ("request_id",), ()),
    Kind.LOGGED_MODEL: _Table("logged_models", ("model_id",), ("lifecycle_stage",)),
    Kind.REGISTERED_MODEL: _Table("registered_models", ("name",), ("description",)),
    Kind.MODEL_VERSION: _Table("model_versions", ("name", "version"), ("current_stage",)),
    Kind.WORKSPACE: _Table("workspaces", ("name",), ()),
}
_ASSESSMENT = ("value", "error", "rationale", "assessment_metadata")
_ASSESSMENTS = _Table("assessments", ("assessment_id",), _ASSESSMENT)
_TAGS = {
    Kind.EXPERIMENT: _Tags("experiment_tags", "key", "value", ("experiment_id",)),
    Kind.RUN: _Tags("tags", "key", "value", ("run_uuid",)),
    Kind.TRACE: _Tags("trace_tags", "key", "value", ("request_id",)),
    Kind.LOGGED_MODEL: _Tags("logged_model_tags", "tag_key", "tag_value", ("model_id",)),
    Kind.REGISTERED_MODEL: _Tags("registered_model_tags", "key", "value", ("name",)),
    Kind.MODEL_VERSION: _Tags("model_version_tags", "key", "value", ("name", "version")),
}
_ALIASES = _Tags("registered_model_aliases", "alias", "version", ("name",))
_RUN_STATE, _RUN_STAGE = ("status", "end_time"), ("lifecycle_stage", "deleted_time")
_VERSION_ORIGIN = ("source", "storage_location", "run_id", "run_link", "user_id")
_FIELDS: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {  # columns that are remembered together
    Kind.EXPERIMENT: {
        "lifecycle_stage": ("lifecycle_stage",),
        "last_update_time": ("last_update_time",),
    },
    Kind.RUN: {
        "name": ("name",),
        **dict.fromkeys(_RUN_STATE, _RUN_STATE),
        **dict.fromkeys(_RUN_STAGE, _RUN_STAGE),
    },
    Kind.LOGGED_MODEL: {
        "lifecycle_stage": ("lifecycle_stage",),
        "last_updated_timestamp": ("last_updated_timestamp_ms",),
        **dict.fromkeys(("status", "status_message"), ("status", "status_message")),
    },
    Kind.REGISTERED_MODEL: {
        "description": ("description",),
        "last_updated_timestamp": ("last_updated_time",),
    },
    Kind.MODEL_VERSION: {
        "description": ("description",),
        "current_stage": ("current_stage",),
        "last_updated_timestamp": ("last_updated_time",),
        **dict.fromkeys(("status", "status_message"), ("status", "status_message")),
        **dict.fromkeys(("source", "run_id", "run_link", "user_id"), _VERSION_ORIGIN),
        "download location": _VERSION_ORIGIN,
    },
    Kind.ASSESSMENT: {
        **dict.fromkeys(("value", "error", "rationale", "metadata"), _ASSESSMENT),
        "valid": ("valid",),
        "last_update_time_ms": ("last_updated_timestamp",),
    },
}


@dataclass(frozen=True, slots=True)
class _Stored:
    """Columns of a row, by the table and the values of its key."""

    table: str
    columns: tuple[str, ...]
    key: Mapping[str, object]


class TargetChanges:
    """What people changed in a database since the last conversion into it."""

    def __init__(self, tracking: Any) -> None:
        """``tracking`` is MLflow's store."""
        self._tracking = tracking
        self._keys: dict[str, tuple[str, ...]] | None = None  # of tables; none: not remembered

    def made(self, kind: Kind, entity_id: str, field: str, expected: str, found: str) -> bool:
        """Whether people made a difference; ``expected`` and ``found`` are as findings show them.

        Raises errors of the database.
        """
        entity = _entity(kind, entity_id)
        if entity is None:
            return False
        if field == kind.value:
            return found == MISSING and self._is_changed(entity)
        part = _part(kind, entity, field)
        if part is None:
            return False
        if expected == NOTHING:
            return self._content(part) is None and self._content(entity) is not None
        return self._is_changed(part)

    def _is_changed(self, stored: _Stored) -> bool:
        content = self._content(stored)
        if not content:  # never converted, or its value is not remembered
            return False
        row = self._row(stored)
        return row is None or (bool(stored.columns) and encoding.seen_digest(*row) != content)

    def _content(self, stored: _Stored) -> int | None:
        """The digest that is remembered of a row's columns; None if nothing is."""
        if stored.table not in self._key_columns():
            return None
        values = [
            _plain(stored.key.get(column, _LATER.get(column)))
            for column in self._key_columns()[stored.table]
        ]
        name = stored.columns[0] if stored.columns else ""
        item = encoding.seen_digest(stored.table, name, *values)
        found = self._ask(conventions.MIGRATOR_SEEN_TABLE, ("content",), {"item": item})
        return None if found is None else found[0]

    def _row(self, stored: _Stored) -> tuple[object, ...] | None:
        columns = stored.columns or tuple(stored.key)
        return self._ask(stored.table, columns, stored.key)

    def _ask(
        self, table: str, columns: Sequence[str], key: Mapping[str, object]
    ) -> tuple[Any, ...] | None:
        import sqlalchemy

        of = sqlalchemy.table(table, *map(sqlalchemy.column, {*columns, *key}))
        query = sqlalchemy.select(*(of.c[name] for name in columns))
        for name, value in key.items():
            query = query.where(of.c[name] == value)
        with self._tracking.ManagedSessionMaker() as session:
            row = session.execute(query).first()
        return None if row is None else tuple(map(_plain, row))

    def _key_columns(self) -> dict[str, tuple[str, ...]]:
        """The columns of each table's key, in its order; none if nothing is remembered."""
        if self._keys is None:
            import sqlalchemy

            inspector = sqlalchemy.inspect(self._tracking.engine)
            self._keys = {}
            if inspector.has_table(conventions.MIGRATOR_SEEN_TABLE):
                tables = {table.name for table in (*_TABLES.values(), _ASSESSMENTS)}
                tables |= {tags.table for tags in (*_TAGS.values(), _ALIASES)}
                for name in filter(inspector.has_table, tables):
                    key = inspector.get_pk_constraint(name)["constrained_columns"]
                    self._keys[name] = tuple(key)
        return self._keys


def _plain(value: object) -> object:
    return int(value) if isinstance(value, bool) else value  # as SQLite has it


def _entity(kind: Kind, entity_id: str) -> _Stored | None:
    if kind is Kind.ASSESSMENT:
        return _Stored("assessments", _ASSESSMENT, {"assessment_id": entity_id.rpartition("/")[2]})
    if kind not in _TABLES:
        return None
    table = _TABLES[kind]
    return _Stored(table.name, table.first, _key_of(kind, entity_id))


def _key_of(kind: Kind, entity_id: str) -> dict[str, object]:
    if kind is Kind.EXPERIMENT:
        return {"experiment_id": int(entity_id)}
    if kind is Kind.MODEL_VERSION:
        name, _, version = entity_id.rpartition("/")
        return {**_model_key(name), "version": int(version)}
    if kind is Kind.REGISTERED_MODEL:
        return _model_key(entity_id)
    return {_TABLES[kind].key[0]: entity_id}


def _model_key(full_name: str) -> dict[str, object]:
    """The key of a registered model, by its name or WORKSPACE/NAME."""
    workspace, _, name = full_name.rpartition("/")
    return {"workspace": workspace, "name": name} if workspace else {"name": name}


def _part(kind: Kind, entity: _Stored, field: str) -> _Stored | None:
    """The row of which a field of an entity is."""
    columns = _FIELDS.get(kind, {}).get(field)
    if columns is not None:
        return _Stored(entity.table, columns, entity.key)
    label, _, name = field.partition(" ")
    if kind is Kind.TRACE and label == "assessment":
        return _Stored("assessments", _ASSESSMENT, {"assessment_id": name})
    tags = _ALIASES if kind is Kind.REGISTERED_MODEL and label == "alias" else None
    if label == "tag":
        tags = _TAGS.get(kind)
    if tags is None or name.startswith("migrator."):
        return None
    return _Stored(tags.table, (tags.value,), {tags.key: name, **entity.key})
