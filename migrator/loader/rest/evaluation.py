"""Writes evaluation datasets with their records through the API.

The API draws ids and stamps times. A dataset has its old id in a tag, and in other tags what it
remembers of earlier conversions. Of its records the server tells those with other inputs apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migrator import conventions
from migrator.issues import Kind
from migrator.loader.rest.connection import Connection
from migrator.loader.rest.digests import digest_of
from migrator.loader.rest.experiment_index import TargetExperiment, fields_tag
from migrator.loader.rest.parts import PartLog
from migrator.loader.rest.seen import SeenItems
from migrator.model import EvaluationDatasetRecord, EvaluationItemRecord, LinkRecord
from migrator.outcome.ledger import counts_of

_ITEMS_A_CALL = 100
_WRAPPED = "mlflow_wrapped"  # MLflow's tables keep the outputs of a record below this key
_OURS = conventions.MIGRATOR_SOURCE_FIELDS


class EvaluationDatasets:
    """The evaluation datasets of a server that conversions made. Methods raise TargetError."""

    def __init__(self, server: Connection) -> None:
        self._server = server
        self._there: dict[str, Any] | None = None  # by the id in the source

    def find(self, dataset_id: str) -> Any:
        """The dataset that was made of one of the source, None if there is none."""
        if self._there is None:
            self._there = {}
            for each in self._server.evaluation_datasets():
                old_id = (each.tags or {}).get(conventions.MIGRATOR_SOURCE_DATASET)
                if old_id is not None:
                    self._there[old_id] = each
        return self._there.get(dataset_id)


@dataclass(slots=True)
class DatasetJob:
    """One evaluation dataset that is to be written.

    ``experiments`` are those of its links; a link to anything else has none.
    """

    server: Connection
    record: EvaluationDatasetRecord
    experiments: Mapping[LinkRecord, TargetExperiment]
    log: PartLog
    restore: bool
    is_refused: bool = False  # in part

    def write(self, there: Any) -> str:
        """Create the dataset, or add what it lacks; return its id on the server.

        ``there`` is the server's, None if it has none. Raises Refused and TargetError.
        """
        mark = digest_of(self.record, frozenset({"path"}))
        is_new = there is None
        if there is None:
            there = self._create()
        elif there.tags.get(conventions.MIGRATOR_DIGEST) == mark:
            for kind, number in counts_of(self.record).items():
                self.log.count(kind, number, new=False)
            return str(there.dataset_id)
        self.log.count(Kind.EVALUATION_DATASET, new=is_new)
        seen = SeenItems(there.tags)
        self._write_tags(there, seen, is_new=is_new)
        self._write_links(there.dataset_id, seen, is_new=is_new)
        self._write_items(there.dataset_id, seen, is_new=is_new)
        tags = seen.new_tags()
        if not self.is_refused:  # else the next conversion tries again, and reports it
            tags[conventions.MIGRATOR_DIGEST] = mark
        self.server.call(self.server.store.set_dataset_tags, there.dataset_id, tags)
        return str(there.dataset_id)

    def _create(self) -> Any:
        record = self.record
        fields = {
            "creation_ms": record.created_ms,
            "last_updated_ms": record.last_updated_ms,
            "created_by": record.created_by,
            "last_updated_by": record.last_updated_by,
            "digest": record.digest,
        }
        tags = {
            **record.tags,
            # With its old id at once, so that it is found again whatever happens.
            conventions.MIGRATOR_SOURCE_DATASET: record.dataset_id,
            _OURS: fields_tag(fields),
        }
        numbers = sorted({each.experiment_id for each in self.experiments.values()})
        return self.server.call(self.server.store.create_dataset, record.name, tags, numbers)

    def _is_gone(self, seen: SeenItems, kind: Kind, key: str) -> bool:
        """Whether people deleted a part that the server lacks."""
        if self.restore or not seen.has(kind, key):
            return False
        self.log.leave_out(kind, key)
        return True

    def _refuse(self, kind: Kind, key: str, why: str) -> None:
        self.is_refused = True
        self.log.refuse(kind, key, why)

    def _write_tags(self, there: Any, seen: SeenItems, *, is_new: bool) -> None:
        kind = Kind.EVALUATION_DATASET_TAG
        missing: dict[str, str] = {}
        for key, value in self.record.tags.items():
            if key in there.tags:
                self.log.count(kind, new=is_new)
                if there.tags[key] != value:
                    self.log.differs(kind, key)
            elif self._is_gone(seen, kind, key):
                continue
            else:
                missing[key] = value
                self.log.count(kind, new=True)
            seen.add(kind, key)
        if missing:
            self.server.call(self.server.store.set_dataset_tags, there.dataset_id, missing)

    def _write_links(self, dataset_id: str, seen: SeenItems, *, is_new: bool) -> None:
        kind, store = Kind.EVALUATION_DATASET_LINK, self.server.store
        there = set(self.server.call(store.get_dataset_experiment_ids, dataset_id))
        missing: list[str] = []
        for link in self.record.links:
            experiment = self.experiments.get(link)
            if experiment is None:
                why = f"the API links evaluation datasets to experiments, not to a {link.kind}"
                self._refuse(kind, link.target_id, why)
                continue
            source_id = experiment.plan.record.experiment_id
            if experiment.experiment_id in there:
                self.log.count(kind, new=is_new)
            elif self._is_gone(seen, kind, source_id):
                continue
            else:
                missing.append(experiment.experiment_id)
                self.log.count(kind, new=True)
            seen.add(kind, source_id)
        if missing:
            self.server.call(store.add_dataset_to_experiments, dataset_id, missing)

    def _write_items(self, dataset_id: str, seen: SeenItems, *, is_new: bool) -> None:
        """Add the records whose inputs the dataset lacks; those that are there stay."""
        kind = Kind.EVALUATION_ITEM
        there: dict[str, Any] = {}
        if not is_new:
            for found in self.server.evaluation_items(dataset_id):
                there[_inputs_key(found.inputs)] = found
        missing: list[dict[str, Any]] = []
        keys: set[str] = set()
        for item in self.record.items:
            values = _values_of(item)
            key = _inputs_key(values["inputs"])
            if not isinstance(values["inputs"], dict):
                self._refuse(kind, item.record_id, "its inputs are not an object")
                continue
            if key in keys:
                why = "another record has the same inputs, of which a server keeps one"
                self._refuse(kind, item.record_id, why)
                continue
            keys.add(key)
            if key in there:
                self.log.count(kind, new=False)
                if not _is_same(there[key], values):
                    self.log.differs(kind, item.record_id)
            elif self._is_gone(seen, kind, item.record_id):
                continue
            else:
                missing.append(values)
                self.log.count(kind, new=True)
            seen.add(kind, item.record_id)
        upsert = self.server.store.upsert_dataset_records
        for at in range(0, len(missing), _ITEMS_A_CALL):
            self.server.call(upsert, dataset_id, missing[at : at + _ITEMS_A_CALL])


def _values_of(item: EvaluationItemRecord) -> dict[str, Any]:
    """A record as the API takes it; a tag of ours keeps what the API has no field for."""
    outputs = _decoded(item.outputs)
    if isinstance(outputs, dict) and outputs.keys() == {_WRAPPED}:
        outputs = outputs[_WRAPPED]
    source = _decoded(item.source)
    has_source = _is_source(source)
    fields = {
        "record_id": item.record_id,
        "creation_ms": item.created_ms,
        "last_updated_ms": item.last_updated_ms,
        "created_by": item.created_by,
        "last_updated_by": item.last_updated_by,
        "source_id": item.source_id,
        "source_type": item.source_type,
        "source": None if has_source else source,
    }
    return {
        "inputs": _decoded(item.inputs),
        "expectations": _decoded(item.expectations),
        "outputs": outputs,
        "tags": {**(_decoded(item.tags) or {}), _OURS: fields_tag(fields)},
        "source": source if has_source else None,
    }


def _is_source(value: Any) -> bool:
    """Whether MLflow makes the source of a record of a value; its server fails at others."""
    from mlflow.entities import DatasetRecordSource
    from mlflow.exceptions import MlflowException

    if not isinstance(value, dict):
        return False
    try:
        made = DatasetRecordSource.from_dict(value)
    except (MlflowException, TypeError, AttributeError):
        return False
    return isinstance(made.source_data, dict)


def _is_same(there: Any, values: Mapping[str, Any]) -> bool:
    """Whether a record of the server has these values; tags of ours do not count."""
    tags = {key: value for key, value in (there.tags or {}).items() if key != _OURS}
    wanted = {key: value for key, value in values["tags"].items() if key != _OURS}
    expectations = there.expectations or None
    return (
        tags == wanted
        and there.outputs == values["outputs"]
        and expectations == (values["expectations"] or None)
    )


def _inputs_key(inputs: Any) -> str:
    """What tells the records of a dataset apart: ``upsert_dataset_records`` of MLflow 3.9."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _decoded(text: str | None) -> Any:
    return None if text is None else json.loads(text)
