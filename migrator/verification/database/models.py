"""Compares logged models, registered models, prompts and their versions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

from migrator.issues import Kind
from migrator.model import (
    LoggedModelRecord,
    MetricPoint,
    ModelVersionRecord,
    RegisteredModelRecord,
)
from migrator.verification.database.opening import Database
from migrator.verification.findings import Entity, Findings
from migrator.verification.reading import read_entity
from migrator.verification.values import Point, expected_point, found_point, model_metric_name

_DELETED_VERSION = "Deleted_Internal"


def compare_logged_model(
    database: Database, findings: Findings, record: LoggedModelRecord, experiment_id: int
) -> None:
    """Compare a logged model, with its params, tags and metrics."""
    model_id = record.model_id
    found = read_entity(database.tracking.get_logged_model, model_id, allow_deleted=True)
    of = findings.entity(Kind.LOGGED_MODEL, model_id, found)
    if of is None:
        return
    active = read_entity(database.tracking.get_logged_model, model_id) is not None
    of.check("lifecycle_stage", record.lifecycle_stage, "active" if active else "deleted")
    of.check("experiment_id", str(experiment_id), found.experiment_id)
    of.check("name", record.name, found.name)
    of.check("artifact_location", record.artifact_location, found.artifact_location)
    of.check("creation_timestamp", record.creation_ms, found.creation_timestamp)
    of.check("last_updated_timestamp", record.last_updated_ms, found.last_updated_timestamp)
    of.check("status", record.status, found.status.to_int())
    of.check("status_message", record.status_message or "", found.status_message or "")
    of.check("model_type", record.model_type or "", found.model_type or "")
    of.check("source_run_id", record.source_run_id or "", found.source_run_id or "")
    of.mapping(Kind.LOGGED_MODEL_PARAM, "param", record.params, found.params or {})
    of.mapping(Kind.LOGGED_MODEL_TAG, "tag", record.tags, found.tags or {})
    _compare_model_metrics(of, record, found)


def _compare_model_metrics(of: Entity, record: LoggedModelRecord, found: Any) -> None:
    once: dict[tuple[str, str, int, int], tuple[str, Point]] = {}
    for metric in record.metrics:
        point = MetricPoint(metric.timestamp_ms, metric.value, metric.step)
        timestamp_ms, step, value, _ = expected_point(point)
        name = model_metric_name(metric)
        row = (metric.key, metric.run_id, timestamp_ms, step)  # MLflow's primary key
        once.setdefault(row, (name, (timestamp_ms, step, value, False)))
    of.count(Kind.LOGGED_MODEL_METRIC, len(once))
    expected: dict[str, set[Point]] = defaultdict(set)
    for name, encoded in once.values():
        expected[name].add(encoded)
    points: dict[str, list[Point]] = defaultdict(list)
    for item in found.metrics or ():
        points[model_metric_name(item)].append(found_point(item))
    for name in sorted(expected.keys() | points.keys()):
        of.points(f"metric {name}", expected[name], points[name])


def _renamed(database: Database, record: RegisteredModelRecord) -> Any:
    """The one model of the target that was created at the same moment, None if there is none."""
    found = database.registry.search_registered_models(max_results=1000)
    same = [each for each in found if each.creation_timestamp == record.creation_ms]
    return same[0] if len(same) == 1 else None


def compare_registered_model(
    database: Database, findings: Findings, record: RegisteredModelRecord
) -> None:
    """Compare a registered model or prompt, with its tags, aliases and versions."""
    database.registry.workspace = record.workspace
    found = read_entity(database.registry.get_registered_model, record.name)
    if found is None:
        found = _renamed(database, record)
    if found is not None and found.name != record.name:
        versions = tuple(replace(version, name=found.name) for version in record.versions)
        record = replace(record, name=found.name, versions=versions)
    of = findings.entity(Kind.REGISTERED_MODEL, record.full_name, found)
    if of is None:
        for version in record.versions:
            findings.entity(Kind.MODEL_VERSION, f"{record.full_name}/{version.version}", None)
        return
    of.check_known("creation_timestamp", record.creation_ms, found.creation_timestamp)
    of.check_known("last_updated_timestamp", record.last_updated_ms, found.last_updated_timestamp)
    of.check("description", record.description or "", found.description or "")
    # The property hides what marks a prompt; the message has all tags.
    tags = {tag.key: tag.value for tag in found.to_proto().tags}
    of.mapping(Kind.REGISTERED_MODEL_TAG, "tag", record.tags, tags)
    of.mapping(
        Kind.ALIAS,
        "alias",
        {alias: str(version) for alias, version in record.aliases.items()},
        {alias: str(version) for alias, version in found.aliases.items()},
    )
    for version in record.versions:
        of_version = f"{record.full_name}/{version.version}"
        _compare_version(database, findings, version, of_version)


def _compare_version(
    database: Database, findings: Findings, record: ModelVersionRecord, entity_id: str
) -> None:
    is_deleted = record.current_stage == _DELETED_VERSION
    read = database.registry.get_model_version
    if is_deleted:  # which MLflow hides from everybody but its own tests
        read = database.registry._get_sql_model_version_including_deleted
    found = read_entity(read, record.name, record.version)
    of = findings.entity(Kind.MODEL_VERSION, entity_id, found)
    if of is None:
        return
    of.check_known("creation_timestamp", record.creation_ms, found.creation_timestamp)
    of.check_known("last_updated_timestamp", record.last_updated_ms, found.last_updated_timestamp)
    of.check("description", record.description or "", found.description or "")
    of.check("user_id", record.user_id or "", found.user_id or "")
    of.check("current_stage", record.current_stage or "None", found.current_stage or "None")
    of.check("source", record.source or "", found.source or "")
    of.check("run_id", record.run_id or "", found.run_id or "")
    of.check("status", record.status or "READY", found.status)
    of.check("status_message", record.status_message or "", found.status_message or "")
    of.check("run_link", record.run_link or "", found.run_link or "")
    of.mapping(Kind.MODEL_VERSION_TAG, "tag", record.tags, found.tags)
    if not is_deleted:
        location = database.registry.get_model_version_download_uri(record.name, record.version)
        expected = record.storage_location or record.source or ""
        of.check("download location", expected, location or "")
