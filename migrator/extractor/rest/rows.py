"""What a server's API says of an entity, as rows of MLflow's tables.

Columns that the API has no field for are left out, and are NULL then. Ids that it does not tell (of
datasets and of edges between runs and what they used) are derived.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migrator import conventions
from migrator.extractor.rest.values import (
    duration_ms,
    fields,
    integer,
    items,
    metric_value,
    pairs,
    parsed,
    time_ms,
)

Json = Mapping[str, Any]
Row = dict[str, Any]

_SPAN_ID_DIGITS = 16
_MODEL_STATUS = {
    "LOGGED_MODEL_STATUS_UNSPECIFIED": 0,
    "LOGGED_MODEL_PENDING": 1,
    "LOGGED_MODEL_READY": 2,
    "LOGGED_MODEL_UPLOAD_FAILED": 3,
}


def _derived(*parts: object) -> str:
    """32 hex digits that follow from some values."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:32]


def tags(value: Any, **owner: Any) -> list[Row]:
    """Rows of (key, value) of an owner: tags, params or metadata."""
    return [{**owner, "key": key, "value": text} for key, text in pairs(value)]


def experiment(given: Json) -> Row:
    """Row of ``experiments``."""
    return {
        "experiment_id": integer(given.get("experiment_id")),
        "name": given.get("name"),
        "artifact_location": given.get("artifact_location"),
        "lifecycle_stage": given.get("lifecycle_stage"),
        "creation_time": integer(given.get("creation_time")),
        "last_update_time": integer(given.get("last_update_time")),
    }


# ---------------------------------------------------------------------------------------- runs


def run(info: Json) -> Row:
    """Row of ``runs``."""
    return {
        "run_uuid": info.get("run_id") or info.get("run_uuid"),
        "experiment_id": integer(info.get("experiment_id")),
        "name": info.get("run_name"),
        "user_id": info.get("user_id"),
        "status": info.get("status"),
        "start_time": integer(info.get("start_time")),
        "end_time": integer(info.get("end_time")) or None,
        "lifecycle_stage": info.get("lifecycle_stage"),
        "artifact_uri": info.get("artifact_uri"),
    }


def metric(point: Json, run_id: str, key: str) -> Row:
    """Row of ``metrics``."""
    value, is_nan = metric_value(point.get("value"))
    return {
        "run_uuid": run_id,
        "key": key,
        "value": value,
        "timestamp": integer(point.get("timestamp")),
        "step": integer(point.get("step", 0)),
        "is_nan": is_nan,
    }


def dataset(given: Json, experiment_id: str) -> Row:
    """Row of ``datasets``. Name and digest are its key in an experiment."""
    name, digest = given.get("name"), given.get("digest")
    return {
        "dataset_uuid": _derived(experiment_id, name, digest),
        "experiment_id": integer(experiment_id),
        "name": name,
        "digest": digest,
        "dataset_source_type": given.get("source_type"),
        "dataset_source": given.get("source"),
        "dataset_schema": given.get("schema"),
        "dataset_profile": given.get("profile"),
    }


def edge(source_type: str, source: Any, destination_type: str, destination: Any) -> Row:
    """Row of ``inputs``: what a run used or made."""
    return {
        "input_uuid": _derived(source_type, source, destination_type, destination),
        "source_type": source_type,
        "source_id": source,
        "destination_type": destination_type,
        "destination_id": destination,
        "step": 0,
    }


def input_tags(value: Any, input_uuid: str) -> list[Row]:
    """Rows of ``input_tags``."""
    return [{"input_uuid": input_uuid, "name": key, "value": text} for key, text in pairs(value)]


# -------------------------------------------------------------------------------------- models


def logged_model(info: Json) -> Row:
    """Row of ``logged_models``. The API shows no deleted ones."""
    status = info.get("status")
    return {
        "model_id": info.get("model_id"),
        "experiment_id": integer(info.get("experiment_id")),
        "name": info.get("name"),
        "artifact_location": info.get("artifact_uri"),
        "creation_timestamp_ms": integer(info.get("creation_timestamp_ms")),
        "last_updated_timestamp_ms": integer(info.get("last_updated_timestamp_ms")),
        "status": _MODEL_STATUS.get(str(status), status),
        "lifecycle_stage": "active",
        "model_type": info.get("model_type") or None,
        "source_run_id": info.get("source_run_id") or None,
        "status_message": info.get("status_message") or None,
    }


@dataclass(frozen=True, slots=True)
class LoggedModelParts:
    """What belongs to a logged model, as the API gives it."""

    given: Json

    @property
    def _info(self) -> Json:
        return fields(self.given.get("info"))

    @property
    def _data(self) -> Json:
        return fields(self.given.get("data"))

    def _rows(self, value: Any, prefix: str) -> list[Row]:
        key, experiment_id = self._info.get("model_id"), self._info.get("experiment_id")
        owner = {"model_id": key, "experiment_id": integer(experiment_id)}
        columns = (f"{prefix}_key", f"{prefix}_value")
        return [{**owner, columns[0]: name, columns[1]: text} for name, text in pairs(value)]

    def params(self) -> list[Row]:
        """Rows of ``logged_model_params``."""
        return self._rows(self._data.get("params"), "param")

    def tags(self) -> list[Row]:
        """Rows of ``logged_model_tags``."""
        return self._rows(self._info.get("tags"), "tag")

    def metrics(self) -> list[Row]:
        """Rows of ``logged_model_metrics``."""
        found = []
        for point in items(self._data.get("metrics")):
            found.append(
                {
                    "model_id": self._info.get("model_id"),
                    "experiment_id": integer(self._info.get("experiment_id")),
                    "metric_name": point.get("key"),
                    "metric_timestamp_ms": integer(point.get("timestamp")),
                    "metric_step": integer(point.get("step", 0)),
                    "metric_value": metric_value(point.get("value"))[0],
                    "run_id": point.get("run_id"),
                    "dataset_name": point.get("dataset_name") or None,
                    "dataset_digest": point.get("dataset_digest") or None,
                }
            )
        return found


def registered_model(given: Json) -> Row:
    """Row of ``registered_models``."""
    return {
        "name": given.get("name"),
        "creation_time": integer(given.get("creation_timestamp")),
        "last_updated_time": integer(given.get("last_updated_timestamp")),
        "description": given.get("description"),
    }


def aliases(given: Json) -> list[Row]:
    """Rows of ``registered_model_aliases``."""
    found = []
    for alias in items(given.get("aliases")):
        version = integer(alias.get("version"))
        found.append({"name": given.get("name"), "alias": alias.get("alias"), "version": version})
    return found


def model_version(given: Json) -> Row:
    """Row of ``model_versions``."""
    return {
        "name": given.get("name"),
        "version": integer(given.get("version")),
        "creation_time": integer(given.get("creation_timestamp")),
        "last_updated_time": integer(given.get("last_updated_timestamp")),
        "description": given.get("description"),
        "user_id": given.get("user_id"),
        "current_stage": given.get("current_stage"),
        "source": given.get("source"),
        "run_id": given.get("run_id") or None,
        "status": given.get("status"),
        "status_message": given.get("status_message"),
        "run_link": given.get("run_link") or None,
    }


# -------------------------------------------------------- evaluation datasets, scorers, webhooks


def evaluation_dataset(given: Json) -> Row:
    """Row of ``evaluation_datasets``."""
    return {
        "dataset_id": given.get("dataset_id"),
        "name": given.get("name"),
        "schema": given.get("schema"),
        "profile": given.get("profile"),
        "digest": given.get("digest"),
        "created_time": integer(given.get("created_time")),
        "last_update_time": integer(given.get("last_update_time")),
        "created_by": given.get("created_by"),
        "last_updated_by": given.get("last_updated_by"),
    }


def evaluation_tags(given: Json) -> list[Row]:
    """Rows of ``evaluation_dataset_tags``; the API gives tags as JSON text."""
    return tags(parsed(given.get("tags")), dataset_id=given.get("dataset_id"))


def evaluation_links(dataset_id: str, experiment_ids: Any) -> list[Row]:
    """Rows of ``entity_associations``, of a dataset's links to experiments."""
    found = []
    for experiment_id in experiment_ids if isinstance(experiment_ids, list) else []:
        found.append(
            {
                "association_id": _derived(dataset_id, experiment_id),
                "source_type": "evaluation_dataset",
                "source_id": dataset_id,
                "destination_type": "experiment",
                "destination_id": str(experiment_id),
            }
        )
    return found


def evaluation_record(given: Json, dataset_id: str) -> Row:
    """Row of ``evaluation_dataset_records``.

    The hash and the key around outputs are those of MLflow's own store (3.9).
    """
    inputs, outputs = given.get("inputs"), given.get("outputs")
    canonical = json.dumps(inputs, sort_keys=True).encode()
    return {
        "dataset_record_id": given.get("dataset_record_id"),
        "dataset_id": dataset_id,
        "inputs": _json_or_null(inputs),
        "expectations": _json_or_null(given.get("expectations")),
        "outputs": None if outputs is None else json.dumps({"mlflow_wrapped": outputs}),
        "tags": _json_or_null(given.get("tags")),
        "source": _json_or_null(given.get("source")),
        "source_id": given.get("source_id"),
        "source_type": given.get("source_type"),
        "created_time": integer(given.get("created_time")),
        "last_update_time": integer(given.get("last_update_time")),
        "created_by": given.get("created_by"),
        "last_updated_by": given.get("last_updated_by"),
        "input_hash": hashlib.sha256(canonical).hexdigest(),
    }


def _json_or_null(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _scorer_id(given: Json, experiment_id: str) -> Any:
    return given.get("scorer_id") or _derived(experiment_id, given.get("scorer_name"))


def scorer(given: Json, experiment_id: str) -> Row:
    """Row of ``scorers``."""
    return {
        "experiment_id": integer(experiment_id),
        "scorer_name": given.get("scorer_name"),
        "scorer_id": _scorer_id(given, experiment_id),
    }


def scorer_version(given: Json, experiment_id: str) -> Row:
    """Row of ``scorer_versions``."""
    return {
        "scorer_id": _scorer_id(given, experiment_id),
        "scorer_version": integer(given.get("scorer_version")),
        "serialized_scorer": given.get("serialized_scorer"),
        "creation_time": integer(given.get("creation_time")),
    }


def webhook(given: Json) -> Row:
    """Row of ``webhooks``. The API shows no secrets and no deleted webhooks."""
    return {
        "webhook_id": given.get("webhook_id"),
        "name": given.get("name"),
        "description": given.get("description") or None,
        "url": given.get("url"),
        "status": given.get("status"),
        "creation_timestamp": integer(given.get("creation_timestamp")),
        "last_updated_timestamp": integer(given.get("last_updated_timestamp")),
    }


def webhook_events(given: Json) -> list[Row]:
    """Rows of ``webhook_events``; the API has the words in capitals."""
    found = []
    for event in items(given.get("events")):
        entity, action = str(event.get("entity")).lower(), str(event.get("action")).lower()
        found.append({"webhook_id": given.get("webhook_id"), "entity": entity, "action": action})
    return found


# -------------------------------------------------------------------------------------- traces


def _trace_id(given: Json) -> Any:
    return given.get("trace_id") or given.get("request_id")


def _trace_experiment(given: Json) -> Any:
    place = fields(fields(given.get("trace_location")).get("mlflow_experiment"))
    return integer(place.get("experiment_id", given.get("experiment_id")))


def trace(given: Json) -> Row:
    """Row of ``trace_info``, of a trace as either API gives it (2.14 and 3.0)."""
    status = given.get("state", given.get("status"))
    taken_ms = duration_ms(given.get("execution_duration", given.get("execution_time_ms")))
    if status == "IN_PROGRESS":  # 2.14 sends 0
        taken_ms = taken_ms or None
    return {
        "request_id": _trace_id(given),
        "experiment_id": _trace_experiment(given),
        "timestamp_ms": time_ms(given.get("request_time", given.get("timestamp_ms"))),
        "execution_time_ms": taken_ms,
        "status": status,
        "client_request_id": given.get("client_request_id"),
        "request_preview": given.get("request_preview"),
        "response_preview": given.get("response_preview"),
    }


@dataclass(frozen=True, slots=True)
class TraceParts:
    """What belongs to a trace, as the API gives it."""

    given: Json

    @property
    def trace_id(self) -> str:
        """The trace's id."""
        return str(_trace_id(self.given))

    @property
    def experiment_id(self) -> str:
        """The id of its experiment."""
        return str(_trace_experiment(self.given))

    @property
    def has_spans_in_rows(self) -> bool:
        """Whether the server keeps its spans in table ``spans``."""
        return dict(pairs(self.given.get("tags"))).get(conventions.SPANS_LOCATION) is not None

    @property
    def artifact_location(self) -> str:
        """Where its artifacts are, "" where that is not said."""
        return str(dict(pairs(self.given.get("tags"))).get(conventions.ARTIFACT_LOCATION, ""))

    def tags(self) -> list[Row]:
        """Rows of ``trace_tags``."""
        return tags(self.given.get("tags"), request_id=self.trace_id)

    def metadata(self) -> list[Row]:
        """Rows of ``trace_request_metadata``."""
        given = self.given.get("trace_metadata", self.given.get("request_metadata"))
        return tags(given, request_id=self.trace_id)

    def spans(self, data: Json) -> list[Row]:
        """Rows of ``spans``, of the answer to a request for them."""
        found = []
        for span in items(data.get("spans")):
            status = span.get("status")
            code = status.get("code") if isinstance(status, dict) else status
            found.append(
                {
                    "trace_id": self.trace_id,
                    "experiment_id": integer(self.experiment_id),
                    "span_id": _hex(span.get("span_id")),
                    "parent_span_id": _hex(span.get("parent_span_id")) or None,
                    "name": span.get("name"),
                    "status": code,
                    "start_time_unix_nano": integer(span.get("start_time_unix_nano")),
                    "end_time_unix_nano": integer(span.get("end_time_unix_nano")),
                    "content": json.dumps(span),
                }
            )
        return found

    def assessments(self) -> list[Row]:
        """Rows of ``assessments``."""
        return [self._assessment(each) for each in items(self.given.get("assessments"))]

    def _assessment(self, given: Json) -> Row:
        feedback, expectation = given.get("feedback"), given.get("expectation")
        source = fields(given.get("source"))
        error = fields(feedback).get("error")
        metadata = given.get("metadata")
        return {
            "assessment_id": given.get("assessment_id"),
            "trace_id": self.trace_id,
            "name": given.get("assessment_name"),
            "assessment_type": "feedback" if expectation is None else "expectation",
            "value": _value(feedback if expectation is None else expectation),
            "error": json.dumps(error) if error else None,
            "created_timestamp": time_ms(given.get("create_time")),
            "last_updated_timestamp": time_ms(given.get("last_update_time")),
            "source_type": source.get("source_type"),
            "source_id": source.get("source_id"),
            "span_id": given.get("span_id") or None,
            "rationale": given.get("rationale"),
            "overrides": given.get("overrides") or None,
            "valid": given.get("valid", True),
            "assessment_metadata": json.dumps(metadata) if metadata else None,
        }


def _value(judged: Any) -> str | None:
    """The JSON text of a feedback's or expectation's value."""
    if not isinstance(judged, dict):
        return None
    serialized = judged.get("serialized_value")
    if isinstance(serialized, dict) and isinstance(serialized.get("value"), str):
        text: str = serialized["value"]
        return text
    return json.dumps(judged.get("value"))


def _hex(span_id: Any) -> Any:
    """A span's id in hex; MLflow's JSON of a span has it in base64 (3.0 and later) or in hex."""
    if not isinstance(span_id, str) or len(span_id) == _SPAN_ID_DIGITS:
        return span_id
    try:
        return base64.b64decode(span_id, validate=True).hex()
    except (binascii.Error, ValueError):
        return span_id
