"""Compares evaluation datasets, scorers, webhooks and workspaces with their rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from migrator.issues import Kind
from migrator.model import (
    Asset,
    EvaluationDatasetRecord,
    LinkRecord,
    ScorerRecord,
    WebhookRecord,
    WorkspaceRecord,
)
from migrator.verification.database.opening import Database
from migrator.verification.findings import MISSING, Entity, Findings

_SAME_NAMES = ("name", "schema", "profile", "digest", "created_by", "last_updated_by")
_JSON = ("inputs", "expectations", "outputs", "tags", "source")


def compare_asset(
    database: Database, findings: Findings, record: Asset, experiment_id: int | None
) -> None:
    """Compare an asset with all of its parts."""
    with database.tracking.ManagedSessionMaker() as session:
        if isinstance(record, EvaluationDatasetRecord):
            _compare_dataset(session, findings, record)
        elif isinstance(record, ScorerRecord):
            _compare_scorer(session, findings, record, experiment_id)
        elif isinstance(record, WorkspaceRecord):
            _compare_workspace(session, findings, record)
        else:
            _compare_webhook(session, findings, record)


def compare_links(of: Entity, expected: tuple[LinkRecord, ...], found: Mapping[Any, Any]) -> None:
    """Compare links; ``found`` has their times, by kind and id. One without a time has any."""
    for link in expected:
        label = f"link to {link.kind.replace('_', ' ')} {link.target_id}"
        if (link.kind, link.target_id) not in found:
            of.differs(label, "linked", MISSING)
        else:
            of.check_known(f"{label}, time", link.created_ms, found[link.kind, link.target_id])


def _compare_dataset(session: Any, findings: Findings, record: EvaluationDatasetRecord) -> None:
    from mlflow.store.tracking.dbmodels import models

    found = session.get(models.SqlEvaluationDataset, record.dataset_id)
    of = findings.entity(Kind.EVALUATION_DATASET, record.dataset_id, found)
    if of is None:
        return
    for name in _SAME_NAMES:
        of.check(name, getattr(record, name), getattr(found, name))
    of.check("workspace", record.workspace, getattr(found, "workspace", record.workspace))
    of.check("created_time", record.created_ms, found.created_time)
    of.check("last_update_time", record.last_updated_ms, found.last_update_time)
    tags = _rows(session, models.SqlEvaluationDatasetTag, dataset_id=record.dataset_id)
    found_tags = {tag.key: tag.value for tag in tags}
    of.mapping(Kind.EVALUATION_DATASET_TAG, "tag", record.tags, found_tags)
    links = _rows(
        session, models.SqlEntityAssociation, source_type="evaluation_dataset",
        source_id=record.dataset_id,
    )  # fmt: skip
    of.count(Kind.EVALUATION_DATASET_LINK, len(record.links))
    compare_links(
        of, record.links, {(r.destination_type, r.destination_id): r.created_time for r in links}
    )
    items = _rows(session, models.SqlEvaluationDatasetRecord, dataset_id=record.dataset_id)
    by_hash = {item.input_hash: item for item in items}
    for item in record.items:
        row = by_hash.get(item.input_hash)
        of_item = findings.entity(Kind.EVALUATION_ITEM, item.record_id, row)
        if of_item is None or row is None:
            continue
        for name in _JSON:
            of_item.check(name, _decoded(getattr(item, name)), getattr(row, name))
        for name in ("source_id", "source_type", "created_by", "last_updated_by"):
            of_item.check(name, getattr(item, name), getattr(row, name))
        of_item.check("dataset_record_id", item.record_id, row.dataset_record_id)
        of_item.check("created_time", item.created_ms, row.created_time)
        of_item.check("last_update_time", item.last_updated_ms, row.last_update_time)


def _compare_scorer(
    session: Any, findings: Findings, record: ScorerRecord, experiment_id: int | None
) -> None:
    from mlflow.store.tracking.dbmodels import models

    scorers = _rows(session, models.SqlScorer, experiment_id=experiment_id, scorer_name=record.name)
    found = scorers[0] if scorers else None
    of = findings.entity(Kind.SCORER, f"{experiment_id}/{record.name}", found)
    if of is None or found is None:
        return
    of.check("scorer_id", record.scorer_id, found.scorer_id)
    versions = _rows(session, models.SqlScorerVersion, scorer_id=found.scorer_id)
    by_number = {version.scorer_version: version for version in versions}
    for version in record.versions:
        row = by_number.get(version.version)
        name = f"{experiment_id}/{record.name}/{version.version}"
        of_version = findings.entity(Kind.SCORER_VERSION, name, row)
        if of_version is not None and row is not None:
            of_version.check("serialized_scorer", version.serialized, row.serialized_scorer)
            of_version.check("creation_time", version.created_ms, row.creation_time)


def _compare_webhook(session: Any, findings: Findings, record: WebhookRecord) -> None:
    from mlflow.store.model_registry.dbmodels import models

    webhook = models.SqlWebhook
    # Not the secret, which MLflow would decrypt.
    columns = (webhook.name, webhook.description, webhook.url, webhook.status)
    times = (
        webhook.creation_timestamp, webhook.last_updated_timestamp, webhook.deleted_timestamp,
    )  # fmt: skip
    home = [webhook.workspace] if hasattr(webhook, "workspace") else []
    query = session.query(*columns, *times, *home).filter(webhook.webhook_id == record.webhook_id)
    found = query.one_or_none()
    of = findings.entity(Kind.WEBHOOK, record.webhook_id, found)
    if of is None or found is None:
        return
    for name in ("name", "description", "url", "status"):
        of.check(name, getattr(record, name), getattr(found, name))
    of.check("workspace", record.workspace, getattr(found, "workspace", record.workspace))
    of.check("creation_timestamp", record.created_ms, found.creation_timestamp)
    of.check("last_updated_timestamp", record.last_updated_ms, found.last_updated_timestamp)
    of.check("deleted_timestamp", record.deleted_ms, found.deleted_timestamp)
    rows = _rows(session, models.SqlWebhookEvent, webhook_id=record.webhook_id)
    events = {(row.entity, row.action) for row in rows}
    of.count(Kind.WEBHOOK_EVENT, len(record.events))
    for event in record.events:
        if (event.entity, event.action) not in events:
            of.differs(f"event {event.entity}/{event.action}", "one", MISSING)


def _compare_workspace(session: Any, findings: Findings, record: WorkspaceRecord) -> None:
    from mlflow.store.workspace.dbmodels import models

    found = session.get(models.SqlWorkspace, record.name)
    of = findings.entity(Kind.WORKSPACE, record.name, found)
    if of is None:
        return
    for name in ("description", "default_artifact_root"):
        of.check(name, getattr(record, name), getattr(found, name))
    for name in ("trace_archival_location", "trace_archival_retention"):  # of later releases
        of.check(name, getattr(record, name), getattr(found, name, None))


def _rows(session: Any, table: Callable[..., Any], **key: Any) -> list[Any]:
    found: list[Any] = session.query(table).filter_by(**key).all()
    return found


def _decoded(text: str | None) -> Any:
    return None if text is None else json.loads(text)
