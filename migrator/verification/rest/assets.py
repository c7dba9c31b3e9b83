"""Compares evaluation datasets, scorers and webhooks with those of a server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from migrator import conventions
from migrator.issues import Kind
from migrator.model import Asset, EvaluationDatasetRecord, ScorerRecord, WebhookRecord
from migrator.verification.findings import MISSING, Entity
from migrator.verification.reading import source_fields
from migrator.verification.rest.served import PAGE_ITEMS, Server, ServerExperiment, pages_of

_OURS = conventions.MIGRATOR_SOURCE_FIELDS


class AssetComparison:
    """Compares the assets of a conversion; datasets and webhooks are listed once."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._datasets: dict[str, Any] | None = None  # by the id in the source
        self._webhooks: list[Any] | None = None  # not matched yet

    def compare(
        self,
        record: Asset,
        experiment: ServerExperiment | None,
        experiments: Mapping[int, ServerExperiment],
    ) -> None:
        """Compare an asset: a scorer in its ``experiment``, a dataset with all ``experiments``."""
        if isinstance(record, EvaluationDatasetRecord):
            self._compare_dataset(record, experiments)
        elif isinstance(record, ScorerRecord):
            self._compare_scorer(record, experiment)
        elif isinstance(record, WebhookRecord):
            self._compare_webhook(record)

    # ------------------------------------------------------------------ evaluation datasets

    def _dataset_of(self, dataset_id: str) -> Any:
        if self._datasets is None:
            self._datasets = {}
            for found in self._pages(self._server.store.search_datasets):
                old_id = (found.tags or {}).get(conventions.MIGRATOR_SOURCE_DATASET)
                if old_id is not None:
                    self._datasets[old_id] = found
        return self._datasets.get(dataset_id)

    def _pages(self, ask: Any) -> Iterator[Any]:
        def page(page_token: str | None) -> Any:
            return ask(max_results=PAGE_ITEMS, page_token=page_token)

        return pages_of(page)

    def _compare_dataset(
        self, record: EvaluationDatasetRecord, experiments: Mapping[int, ServerExperiment]
    ) -> None:
        server = self._server
        found = self._dataset_of(record.dataset_id)
        of = server.findings.entity(Kind.EVALUATION_DATASET, record.dataset_id, found)
        if of is None:
            return
        server.exceptions["evaluation-dataset-fields"] += 1
        of.check("name", record.name, found.name)
        fields = source_fields(found.tags)
        of.check("created_time", record.created_ms, fields.get("creation_ms"))
        of.check("last_update_time", record.last_updated_ms, fields.get("last_updated_ms"))
        for name in ("created_by", "last_updated_by", "digest"):
            of.check(name, getattr(record, name), fields.get(name))
        of.mapping(Kind.EVALUATION_DATASET_TAG, "tag", record.tags, found.tags)
        linked = set(server.read(server.store.get_dataset_experiment_ids, found.dataset_id))
        for link in record.links:
            target = experiments.get(int(link.target_id)) if link.kind == "experiment" else None
            of.count(Kind.EVALUATION_DATASET_LINK, 1)
            if target is None or target.found.experiment_id not in linked:
                of.differs(f"link to {link.kind} {link.target_id}", "linked", MISSING)
        self._compare_items(record, found.dataset_id)

    def _compare_items(self, record: EvaluationDatasetRecord, dataset_id: str) -> None:
        server = self._server
        listed, _ = server.read(server.store._load_dataset_records, dataset_id)
        by_inputs = {_key(found.inputs): found for found in listed}
        for item in record.items:
            found = by_inputs.get(_key(_decoded(item.inputs)))
            of = server.findings.entity(Kind.EVALUATION_ITEM, item.record_id, found)
            if of is None or found is None:
                continue
            server.exceptions["evaluation-record-fields"] += 1
            tags = dict(found.tags or {})
            fields = json.loads(tags.pop(_OURS, "{}"))
            of.check("tags", _decoded(item.tags) or {}, tags)
            of.check("expectations", _decoded(item.expectations), found.expectations)
            outputs = _decoded(item.outputs)
            if isinstance(outputs, dict) and outputs.keys() == {"mlflow_wrapped"}:
                outputs = outputs["mlflow_wrapped"]
            of.check("outputs", outputs, found.outputs)
            of.check("record_id", item.record_id, fields.get("record_id"))
            of.check("created_time", item.created_ms, fields.get("creation_ms"))
            of.check("last_update_time", item.last_updated_ms, fields.get("last_updated_ms"))
            for name in ("created_by", "last_updated_by", "source_id", "source_type"):
                of.check(name, getattr(item, name), fields.get(name))
            _compare_source(of, _decoded(item.source), found.source, fields)

    # ------------------------------------------------------------------------------ scorers

    def _compare_scorer(self, record: ScorerRecord, experiment: ServerExperiment | None) -> None:
        server = self._server
        if experiment is not None and experiment.found.lifecycle_stage == "deleted":
            server.exceptions["scorer-hidden"] += 1
            return
        listed = None
        if experiment is not None:
            number = experiment.found.experiment_id
            listed = server.read(server.store.list_scorer_versions, number, record.name)
        of = server.findings.entity(Kind.SCORER, record.name, listed)
        if of is None or listed is None:
            return
        server.exceptions["scorer-fields"] += 1
        by_number = {found.scorer_version: found for found in listed}
        for version in record.versions:
            name = f"{record.name}/{version.version}"
            found = by_number.get(version.version)
            of_version = server.findings.entity(Kind.SCORER_VERSION, name, found)
            if of_version is not None and found is not None:
                expected = _object_or_text(version.serialized)
                of_version.check("scorer", expected, _object_or_text(found._serialized_scorer))

    # ----------------------------------------------------------------------------- webhooks

    def _compare_webhook(self, record: WebhookRecord) -> None:
        server = self._server
        if record.deleted_ms is not None:
            server.exceptions["deleted-webhook"] += 1
            return
        if self._webhooks is None:
            self._webhooks = list(self._pages(server.registry.list_webhooks))
        events = {(event.entity, event.action) for event in record.events}
        same = [w for w in self._webhooks if (w.name, w.url) == (record.name, record.url)]
        same.sort(key=lambda each: _events_of(each) != events)
        found = same[0] if same else None
        of = server.findings.entity(Kind.WEBHOOK, record.name, found)
        if of is None or found is None:
            return
        self._webhooks.remove(found)
        server.exceptions["webhook-fields"] += 1
        of.check("description", record.description or "", found.description or "")
        of.check("status", record.status, found.status.value)
        of.count(Kind.WEBHOOK_EVENT, len(events))
        for entity, action in sorted(events - _events_of(found)):
            of.differs(f"event {entity}/{action}", "one", MISSING)


def _compare_source(of: Entity, expected: Any, found: Any, fields: Mapping[str, Any]) -> None:
    """Compare the source of a record; a server takes only those of MLflow's own form."""
    if "source" in fields or found is None:
        of.check("source", expected, fields.get("source"))
        return
    of.check("source", {"source_data": {}, **(expected or {})}, found.to_dict())


def _events_of(found: Any) -> set[tuple[str, str]]:
    return {(event.entity.value, event.action.value) for event in found.events}


def _key(inputs: Any) -> str:
    return json.dumps(inputs, sort_keys=True)


def _decoded(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _object_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
