"""Compares logged models, registered models, prompts and their versions."""

from __future__ import annotations

import math
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
from migrator.verification.findings import Entity
from migrator.verification.reading import source_fields
from migrator.verification.rest.served import (
    PAGE_ITEMS,
    Server,
    ServerExperiment,
    compare_times,
)
from migrator.verification.values import Point, expected_point, found_point

_DELETED_VERSION = "Deleted_Internal"
_PROMPTS = "tags.`mlflow.prompt.is_prompt` = 'true'"  # which a search leaves out by default


def compare_logged_model(
    server: Server, experiment: ServerExperiment | None, record: LoggedModelRecord
) -> None:
    """Compare a logged model, with its params, tags and metrics."""
    new_id = None if experiment is None else experiment.models.get(record.model_id)
    found: Any = None
    if new_id is not None:
        found = server.read(server.store.get_logged_model, new_id, allow_deleted=True)
    of = server.findings.entity(Kind.LOGGED_MODEL, record.model_id, found)
    if of is None:
        return
    server.exceptions["model-id"] += 1
    server.exceptions["model-times"] += 1
    fields = source_fields(found.tags)
    compare_times(of, record, fields)
    of.check("name", record.name or record.model_id, found.name)
    of.check("status_message", record.status_message or None, fields.get("status_message"))
    of.check("artifact_location", record.artifact_location, fields.get("artifact_location"))
    of.check("status", record.status or 1, found.status.to_int())
    of.check("model_type", record.model_type or "", found.model_type or "")
    source_run = record.source_run_id or ""
    of.check("source_run_id", server.runs.get(source_run, source_run), found.source_run_id or "")
    of.mapping(Kind.LOGGED_MODEL_PARAM, "param", record.params, found.params or {})
    of.mapping(Kind.LOGGED_MODEL_TAG, "tag", record.tags, found.tags or {})
    _compare_model_metrics(server, of, record, found)


def _compare_model_metrics(
    server: Server, of: Entity, record: LoggedModelRecord, found: Any
) -> None:
    once: dict[tuple[str, int, int, str], Point] = {}
    for metric in record.metrics:
        if math.isnan(metric.value):
            server.exceptions["model-nan"] += 1
        elif metric.run_id in server.runs:
            point = MetricPoint(metric.timestamp_ms, metric.value, metric.step)
            key = (metric.key, metric.timestamp_ms, metric.step, server.runs[metric.run_id])
            once.setdefault(key, expected_point(point))
    expected: dict[str, set[Point]] = defaultdict(set)
    for (name, _, _, run_id), row in once.items():
        expected[f"{name} of run {run_id}"].add(row)
    found_points: dict[str, list[Point]] = defaultdict(list)
    for metric in found.metrics or ():
        found_points[f"{metric.key} of run {metric.run_id}"].append(found_point(metric))
    of.count(Kind.LOGGED_MODEL_METRIC, len(once))
    for name in sorted(expected.keys() | found_points.keys()):
        of.points(f"metric {name}", expected[name], found_points[name])


def compare_registered_model(server: Server, record: RegisteredModelRecord) -> None:
    """Compare a registered model or prompt, with its tags, aliases and versions."""
    found = server.read(server.registry.get_registered_model, record.name)
    if found is None and (name := _other_name(server, record)) is not None:
        versions = tuple(replace(version, name=name) for version in record.versions)
        record = replace(record, name=name, versions=versions)
        found = server.read(server.registry.get_registered_model, name)
    of = server.findings.entity(Kind.REGISTERED_MODEL, record.name, found)
    if of is None:
        return
    server.exceptions["registry-times"] += 1
    tags = {tag.key: tag.value for tag in found.to_proto().tags}  # with those that MLflow hides
    compare_times(of, record, source_fields(tags))
    of.check("description", record.description or "", found.description or "")
    of.mapping(Kind.REGISTERED_MODEL_TAG, "tag", record.tags, tags)
    expected_aliases = {alias: str(version) for alias, version in record.aliases.items()}
    found_aliases = {alias: str(version) for alias, version in found.aliases.items()}
    of.mapping(Kind.ALIAS, "alias", expected_aliases, found_aliases)
    for version in record.versions:
        _compare_version(server, version)


def _other_name(server: Server, record: RegisteredModelRecord) -> str | None:
    """The name of the only model with the source's creation time; people may rename models."""
    names = []
    for wanted in (None, _PROMPTS):
        token = None
        while True:
            page = server.read(
                server.registry.search_registered_models, wanted, PAGE_ITEMS, None, token
            )
            for model in page:
                fields = source_fields({tag.key: tag.value for tag in model.to_proto().tags})
                if record.creation_ms and fields.get("creation_ms") == record.creation_ms:
                    names.append(model.name)
            token = page.token
            if not token:
                break
    return names[0] if len(names) == 1 else None


def _compare_version(server: Server, record: ModelVersionRecord) -> None:
    name = f"{record.name}/{record.version}"
    found = server.read(server.registry.get_model_version, record.name, str(record.version))
    if record.current_stage == _DELETED_VERSION:
        server.findings.count(Kind.MODEL_VERSION)
        if found is not None:
            server.findings.differs(Kind.MODEL_VERSION, name, "deleted", "yes", "no")
        return
    of = server.findings.entity(Kind.MODEL_VERSION, name, found)
    if of is None:
        return
    fields = source_fields(found.tags)
    server.exceptions["registry-times"] += 1
    server.exceptions["version-source"] += "source" in fields
    run_id = record.run_id or ""
    compare_times(of, record, fields)
    of.check("user_id", record.user_id or None, fields.get("user_id"))
    of.check("description", record.description or "", found.description or "")
    of.check("current_stage", record.current_stage or "None", found.current_stage or "None")
    of.check("run_id", server.runs.get(run_id, run_id), found.run_id or "")
    of.check("run_link", record.run_link or "", found.run_link or "")
    of.check("source", record.source or "", fields.get("source", found.source))
    of.mapping(Kind.MODEL_VERSION_TAG, "tag", record.tags, found.tags)
