"""Reading evaluation datasets, scorers, webhooks and workspaces (MLflow 3.4 and later)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from migrator.conventions import DEFAULT_WORKSPACE
from migrator.extractor.database import rows as r
from migrator.extractor.database.connection import Database
from migrator.extractor.database.rows import Fields, RowLog
from migrator.extractor.database.schema import CHILDREN, KNOWN
from migrator.issues import Code, Kind
from migrator.model import (
    Asset,
    AssetEntry,
    EvaluationDatasetRecord,
    EvaluationItemRecord,
    Extracted,
    LinkRecord,
    ScorerRecord,
    ScorerVersionRecord,
    WebhookEventRecord,
    WebhookRecord,
    WorkspaceRecord,
)

OF_DATASET = "c.source_type = 'evaluation_dataset'"
_TABLES: Mapping[Kind, tuple[str, str]] = {
    Kind.EVALUATION_DATASET: ("evaluation_datasets", "dataset_id"),
    Kind.SCORER: ("scorers", "scorer_id"),
    Kind.WEBHOOK: ("webhooks", "webhook_id"),
    Kind.WORKSPACE: ("workspaces", "name"),
}


def read_asset(database: Database, name: str, entry: AssetEntry) -> Extracted[Asset]:
    """Read the row of an asset, and the rows of its parts."""
    table, key = _TABLES[entry.kind]
    log = RowLog(entry.kind, entry.entity_id, name)
    columns = sorted(KNOWN[table] - {key})
    found = r.select(database, table, columns, key, [entry.entity_id])
    row = r.one_row(log, entry.path, entry.kind, found[entry.entity_id])
    if row is None:
        return log.close(None)
    for child in CHILDREN:
        if child.owner == table:
            counts = r.count(database, child, [entry.entity_id])
            log.found[child.kind] += counts.get(entry.entity_id, 0)
    return log.close(_READERS[entry.kind](database, log, entry, row))


def _dataset(
    database: Database, log: RowLog, entry: AssetEntry, row: Fields
) -> EvaluationDatasetRecord:
    dataset_id = entry.entity_id
    table, kind = "evaluation_dataset_tags", Kind.EVALUATION_DATASET_TAG
    pairs = r.select_pairs(database, table, ("key", "value"), "dataset_id", [dataset_id])
    return EvaluationDatasetRecord(
        dataset_id=dataset_id,
        name=row.text("name") or dataset_id,
        schema=row.text("schema"),
        profile=row.text("profile"),
        digest=row.text("digest"),
        created_ms=row.integer("created_time"),
        last_updated_ms=row.integer("last_update_time"),
        created_by=row.text("created_by"),
        last_updated_by=row.text("last_updated_by"),
        tags=r.key_values(log, log.place(table, dataset_id), pairs[dataset_id], kind),
        items=_items(database, log, dataset_id),
        links=read_links(database, log, OF_DATASET, Kind.EVALUATION_DATASET_LINK),
        path=entry.path,
        workspace=row.text("workspace") or DEFAULT_WORKSPACE,
    )


def _items(database: Database, log: RowLog, dataset_id: str) -> tuple[EvaluationItemRecord, ...]:
    table, kind = "evaluation_dataset_records", Kind.EVALUATION_ITEM
    columns = sorted(KNOWN[table] - {"dataset_id"})
    found: dict[str, EvaluationItemRecord] = {}
    for values in r.select(database, table, columns, "dataset_id", [dataset_id])[dataset_id]:
        path = log.place(table, values["dataset_record_id"])
        row = Fields(log, path, kind, values)
        record_id, inputs = row.text("dataset_record_id"), _json_text(log, row, "inputs", kind)
        input_hash = row.text("input_hash")
        if not record_id or inputs is None or not input_hash:
            message = "It has no id, no inputs or no hash of them."
            log.add(Code.ROW_DAMAGED, path, message, kind=kind)
            continue
        record = EvaluationItemRecord(
            record_id=record_id,
            inputs=inputs,
            expectations=_json_text(log, row, "expectations", kind),
            outputs=_json_text(log, row, "outputs", kind),
            tags=_json_text(log, row, "tags", kind),
            source=_json_text(log, row, "source", kind),
            source_id=row.text("source_id"),
            source_type=row.text("source_type"),
            created_ms=row.integer("created_time"),
            last_updated_ms=row.integer("last_update_time"),
            created_by=row.text("created_by"),
            last_updated_by=row.text("last_updated_by"),
            input_hash=input_hash,
        )
        other = found.setdefault(record_id, record)
        if other is not record:
            r.repeated(log, path, kind, is_equal=other == record)
    return tuple(sorted(found.values(), key=lambda item: (item.created_ms or 0, item.record_id)))


def _json_text(log: RowLog, row: Fields, column: str, kind: Kind) -> str | None:
    """The text of a JSON column. MLflow reads an object or null there; others are named."""
    value = row.raw(column)
    if isinstance(value, dict):  # PostgreSQL's driver parses it
        return json.dumps(value)
    if value is None:
        return None
    try:
        parsed = json.loads(value) if isinstance(value, (str, bytes)) else value
        is_usable = parsed is None or isinstance(parsed, dict)
    except (ValueError, RecursionError):
        is_usable = False
    if is_usable:
        return row.text(column)
    log.add(
        Code.COLUMN_VALUE_UNUSABLE,
        f"{row.path}.{column}",
        "The value is not a JSON object, which the column must hold.",
        kind=kind,
        sample=repr(value)[:100],
    )
    return None


def read_links(database: Database, log: RowLog, where: str, kind: Kind) -> tuple[LinkRecord, ...]:
    """The links of a trace or evaluation dataset; ``where`` says which of the two it is."""
    table, source_id = "entity_associations", log.entity_id
    columns = ("destination_type", "destination_id", "created_time")
    found: dict[tuple[str, str], LinkRecord] = {}
    for values in r.select(database, table, columns, "source_id", [source_id], where)[source_id]:
        path = log.place(table, source_id, values["destination_id"])
        row = Fields(log, path, kind, values)
        target_kind, target_id = row.text("destination_type"), row.text("destination_id")
        if not target_kind or not target_id:
            log.add(Code.ROW_DAMAGED, path, "It does not say what it links to.", kind=kind)
            continue
        record = LinkRecord(target_kind, target_id, row.integer("created_time"))
        other = found.setdefault((target_kind, target_id), record)
        if other is not record:
            r.repeated(log, path, kind, is_equal=other == record)
    return tuple(found[key] for key in sorted(found))


def _scorer(database: Database, log: RowLog, entry: AssetEntry, row: Fields) -> ScorerRecord | None:
    table, kind, scorer_id = "scorer_versions", Kind.SCORER_VERSION, entry.entity_id
    columns = sorted(KNOWN[table] - {"scorer_id"})
    found: dict[int, ScorerVersionRecord] = {}
    for values in r.select(database, table, columns, "scorer_id", [scorer_id])[scorer_id]:
        path = log.place(table, scorer_id, values["scorer_version"])
        version_row = Fields(log, path, kind, values)
        number, text = version_row.integer("scorer_version"), version_row.text("serialized_scorer")
        if number is None or text is None:
            log.add(Code.ROW_DAMAGED, path, "It has no number or no scorer.", kind=kind)
            continue
        record = ScorerVersionRecord(number, text, version_row.integer("creation_time"))
        other = found.setdefault(number, record)
        if other is not record:
            r.repeated(log, path, kind, is_equal=other == record)
    return ScorerRecord(
        scorer_id=scorer_id,
        experiment_id=entry.experiment_id or "",
        name=row.text("scorer_name") or scorer_id,
        versions=tuple(found[number] for number in sorted(found)),
        path=entry.path,
    )


def _webhook(
    database: Database, log: RowLog, entry: AssetEntry, row: Fields
) -> WebhookRecord | None:
    table, kind, webhook_id = "webhook_events", Kind.WEBHOOK_EVENT, entry.entity_id
    url = row.text("url")
    if not url:
        log.add(Code.ROW_DAMAGED, entry.path, "It has no URL.", kind=Kind.WEBHOOK)
        return None
    found: dict[WebhookEventRecord, None] = {}
    columns = ("entity", "action")
    for values in r.select(database, table, columns, "webhook_id", [webhook_id])[webhook_id]:
        path = log.place(table, webhook_id)
        event_row = Fields(log, path, kind, values)
        record = WebhookEventRecord(event_row.text("entity") or "", event_row.text("action") or "")
        if record in found:
            r.repeated(log, path, kind, is_equal=True)
        found[record] = None
    if _has_secret(database, webhook_id):
        message = "Its secret is encrypted with a key of the server that it belongs to."
        kept = "the webhook without it"
        log.add(Code.WEBHOOK_SECRET_LEFT, entry.path, message, kept=kept, kind=Kind.WEBHOOK)
    return WebhookRecord(
        webhook_id=webhook_id,
        name=row.text("name") or webhook_id,
        description=row.text("description"),
        url=url,
        status=row.text("status") or "ACTIVE",
        created_ms=row.integer("creation_timestamp"),
        last_updated_ms=row.integer("last_updated_timestamp"),
        deleted_ms=row.integer("deleted_timestamp"),
        events=tuple(sorted(found, key=lambda event: (event.entity, event.action))),
        path=entry.path,
        workspace=row.text("workspace") or DEFAULT_WORKSPACE,
    )


def _workspace(database: Database, log: RowLog, entry: AssetEntry, row: Fields) -> WorkspaceRecord:
    del database, log
    return WorkspaceRecord(
        name=entry.entity_id,
        description=row.text("description"),
        default_artifact_root=row.text("default_artifact_root"),
        trace_archival_location=row.text("trace_archival_location"),
        trace_archival_retention=row.text("trace_archival_retention"),
        path=entry.path,
    )


def _has_secret(database: Database, webhook_id: str) -> bool:
    """Whether a webhook has a secret; the secret itself is never read."""
    if not database.has("webhooks", "secret"):
        return False
    condition = "webhook_id = ? AND secret IS NOT NULL"
    sql = f"SELECT COUNT(*) FROM {database.name('webhooks')} WHERE {condition}"
    return database.number(sql, [webhook_id]) > 0


_READERS: Mapping[Kind, Callable[[Database, RowLog, AssetEntry, Fields], Any]] = {
    Kind.EVALUATION_DATASET: _dataset,
    Kind.SCORER: _scorer,
    Kind.WEBHOOK: _webhook,
    Kind.WORKSPACE: _workspace,
}
