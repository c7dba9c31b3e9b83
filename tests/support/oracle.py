"""An independent witness: what MLflow's own FileStore reads, against MLflow's view of a database.

``compare_stores(source, uri)`` reads both sides through ``MlflowClient`` (or the store behind it,
where the client hides something: deleted models and versions), and returns a sentence for each
thing that differs. Nothing of ``migrator`` is imported, and no tag is filtered out.

What may differ is listed here, one by one, each with the function that allows it:

1.  A location (artifact URIs, sources of model versions, ``mlflow.artifactLocation``) that leads
    nowhere names the place in ``source`` where the files, or the directory for them, lie; it must,
    if there is one. Those that lead somewhere, or are remote, stay (``_expected_place``).
2.  An experiment in ``.trash``, and its runs, are deleted whatever their YAML says: up to MLflow
    2.2 it says active (``_lifecycle``).
3.  An experiment without times (MLflow 1.26 and before) may have any (``_compare_experiments``).
4.  An experiment id that is no integer of the column's size is found by the tag
    ``migrator.source_experiment_id`` (``_target_experiments``). Tags that begin with
    ``migrator.``, and ``mlflow.experimentKind``, may be there in addition; experiment 0 too, which
    MLflow itself makes (``_extra_tags``). An experiment whose name another one has may have
    another, and then keeps the old one in the tag ``migrator.source_experiment_name``
    (``_compare_experiment``).
5.  A metric line of five fields (3.x, with a dataset) has its step in the third, where FileStore
    says 0 (``_history``).
6.  Equal metric points are one; NaN and infinities are encoded as MLflow's SQL store does
    (``_encode``). FileStore's latest value is wrong or arbitrary where NaN, or a line of five
    fields, is among the points; then the rule of the SQL store decides (``_latest``).
7.  FileStore serves the last point of a logged model's metric for each dataset; the database holds
    all. Those that FileStore serves must be there, and the others must be lines of the metric's
    file; NaN is 0.0 (``_compare_model_metrics``).
8.  A trace of MLflow 2.14 to 3.1 has 32 hex digits as id; in the target ``tr-`` stands before them,
    also in the spans' ``mlflow.traceRequestId`` and in assessments; an id of other length gets
    another. The old id is kept as client request id and in metadata ``migrator.source_trace_id``
    (``_native_traces``, ``_compare_trace``, ``_compare_trace_metadata``).
9.  A trace that is whole gets ``mlflow.trace.spansLocation``, ``mlflow.trace_schema.version`` 3,
    and size statistics whose ``num_spans`` is right; one without token usage may get the sum over
    its spans (``_compare_trace_tags``, ``_compare_trace_metadata``).
10. A trace without previews may have some, made from its inputs and outputs, and an empty preview
    may be none (``_compare_previews``).
11. The time of an event that MLflow wrote in microseconds may be in nanoseconds (``_event_time``).
12. Attribute values may be other JSON text for the same value (``_compare_attributes``).
13. A span or trace that was never ended may be given an end and a state (``_compare_trace``,
    ``_compare_span``).
14. The SQL registry has no column for ``model_id``, ``params``, ``metrics`` and deployment jobs of
    a version or model (``_NO_COLUMN``).
15. ``valid`` of an expectation: the YAML leaves it out, the database says True
    (``_compare_assessments``).
16. On MLflow 3.17 and later, session, token usage and cost of a trace are served from columns: the
    same JSON values in another order (``_same_json``).
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote

os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # 3.13 and later refuse without it
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow.entities
from mlflow import MlflowClient
from mlflow.entities import TraceData, ViewType
from mlflow.exceptions import MlflowException

_MAX = 1.7976931348623157e308
_NO_COLUMN = {
    "model_id",
    "params",
    "metrics",
    "deployment_job_id",
    "deployment_job_state",
    "latest_versions",
    "workspace",
}
_COLUMN_KEYS = {"mlflow.trace.session", "mlflow.trace.tokenUsage", "mlflow.trace.cost"}


def compare_stores(source_mlruns: Path, db_uri: str) -> list[str]:
    """Return what differs between a file store and the database it was converted to.

    ``source_mlruns`` must have its empty directories, or MLflow overlooks runs. FileStore makes a
    ``.trash`` in it if there is none. The database is read from a copy, since MLflow changes what
    it opens; one on a server is read as it is.
    """
    if not db_uri.startswith("sqlite:"):
        return _compare(source_mlruns, db_uri)
    path = Path(db_uri.removeprefix("sqlite:///"))
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "copy.db"
        shutil.copy(path, copy)
        return _compare(source_mlruns, f"sqlite:///{copy}")


def _compare(source_mlruns: Path, db_uri: str) -> list[str]:
    # Newer clients ask the default store as well, and would make one where the tests run.
    with patch.dict(os.environ, MLFLOW_TRACKING_URI=db_uri):
        return _Oracle(source_mlruns, db_uri).compare()


class _Oracle:
    def __init__(self, source: Path, uri: str) -> None:
        self._root = source.resolve()
        file_uri = self._root.as_uri()
        self._old = MlflowClient(tracking_uri=file_uri, registry_uri=file_uri)
        self._new = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._old_store = self._old._tracking_client.store
        self._new_store = self._new._tracking_client.store
        self._found: list[str] = []

    def compare(self) -> list[str]:
        pairs = self._compare_experiments()
        for old_id, new_id in pairs.items():
            self._compare_runs(old_id, new_id)
            self._compare_logged_models(old_id, new_id)
            self._compare_traces(old_id, new_id)
        self._compare_registry()
        return self._found

    # ---------------------------------------------------------------------------- helpers

    def _check(self, what: str, old: object, new: object) -> None:
        if old != new:
            self._found.append(f"{what}: {_short(old)} became {_short(new)}")

    def _check_map(
        self, what: str, old: Mapping[str, Any], new: Mapping[str, Any], extra: Iterable[str] = ()
    ) -> None:
        """Compare mappings key by key; ``extra`` keys may be new."""
        allowed = set(extra)
        for key in sorted(old.keys() | new.keys()):
            if key not in new:
                self._found.append(f"{what} {key!r}: {_short(old[key])} is missing")
            elif key not in old:
                if key not in allowed:
                    self._found.append(f"{what} {key!r}: {_short(new[key])} is new")
            else:
                self._check(f"{what} {key!r}", old[key], new[key])

    def _check_place(self, what: str, old: str | None, new: str | None, place: Path | None) -> None:
        if old is not None and place is not None:
            old = _expected_place(self._root, old, place)
        self._check(what, old, new)

    def _directory(self, experiment_id: str) -> Path:
        trashed = self._root / ".trash" / experiment_id
        return trashed if trashed.is_dir() else self._root / experiment_id

    def _lifecycle(self, experiment_id: str, stage: str) -> str:
        return "deleted" if (self._root / ".trash" / experiment_id).is_dir() else stage

    # ------------------------------------------------------------------------ experiments

    def _compare_experiments(self) -> dict[str, str]:
        """Compare all experiments; return the ids of the source's with those of the target's."""
        old = {e.experiment_id: e for e in _pages(self._old.search_experiments, ViewType.ALL)}
        new = {e.experiment_id: e for e in _pages(self._new.search_experiments, ViewType.ALL)}
        pairs = self._target_experiments(old, new)
        for old_id in sorted(old.keys() - pairs.keys()):
            self._found.append(f"experiment {old_id} ({old[old_id].name}) is missing")
        for new_id in sorted(new.keys() - set(pairs.values()) - {"0"}):
            self._found.append(f"experiment {new_id} ({new[new_id].name}) is not in the source")
        for old_id, new_id in pairs.items():
            self._compare_experiment(old[old_id], new[new_id])
        return pairs

    def _compare_experiment(self, a: Any, b: Any) -> None:
        what = f"experiment {a.experiment_id}"
        name = b.tags.get("migrator.source_experiment_name", b.name)
        self._check(f"{what} name", a.name, name)
        stage = self._lifecycle(a.experiment_id, a.lifecycle_stage)
        self._check(f"{what} lifecycle", stage, b.lifecycle_stage)
        directory = self._directory(a.experiment_id)
        self._check_place(f"{what} location", a.artifact_location, b.artifact_location, directory)
        if a.creation_time is not None:
            self._check(f"{what} creation time", a.creation_time, b.creation_time)
        if a.last_update_time is not None:
            self._check(f"{what} update time", a.last_update_time, b.last_update_time)
        self._check_map(f"{what} tag", a.tags, b.tags, _extra_tags(b.tags))

    def _target_experiments(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
        renamed = {
            e.tags["migrator.source_experiment_id"]: new_id
            for new_id, e in new.items()
            if "migrator.source_experiment_id" in e.tags
        }
        pairs = {}
        for old_id in sorted(old):
            new_id = renamed.get(old_id, old_id)
            if new_id in new:
                pairs[old_id] = new_id
        return pairs

    # ------------------------------------------------------------------------------- runs

    def _compare_runs(self, old_id: str, new_id: str) -> None:
        old = self._source_runs(old_id)
        new = {r.info.run_id: r for r in _pages(self._new.search_runs, [new_id], "", ViewType.ALL)}
        on_disk = {
            entry.name
            for entry in self._directory(old_id).iterdir()
            if entry.is_dir() and (entry / "meta.yaml").is_file()
        }
        for run_id in sorted(on_disk - old.keys()):
            self._found.append(f"run {run_id}: the FileStore does not see it, so it is not judged")
        for run_id in sorted(old.keys() - new.keys()):
            self._found.append(f"run {run_id} is missing")
        for run_id in sorted(new.keys() - old.keys() - on_disk):
            self._found.append(f"run {run_id} is not in the source")
        for run_id in sorted(old.keys() & new.keys()):
            self._compare_run(old[run_id], self._new.get_run(run_id), new_id)

    def _source_runs(self, experiment_id: str) -> dict[str, Any]:
        """Return the runs that FileStore reads; one that it can't read spoils its own list."""
        unreadable = (MlflowException, AttributeError, KeyError, TypeError, ValueError)
        search = self._old.search_runs
        with suppress(*unreadable):
            runs = _pages(search, [experiment_id], "", ViewType.ALL)
            return {run.info.run_id: run for run in runs}
        found = {}
        for entry in self._directory(experiment_id).iterdir():
            with suppress(*unreadable):
                found[entry.name] = self._old.get_run(entry.name)
        return found

    def _compare_run(self, a: Any, b: Any, new_experiment_id: str) -> None:
        run_id = a.info.run_id
        what = f"run {run_id}"
        self._check(f"{what} experiment", new_experiment_id, b.info.experiment_id)
        self._check(f"{what} name", a.info.run_name or "", b.info.run_name or "")
        for name in ("status", "start_time", "end_time", "user_id"):
            self._check(f"{what} {name}", getattr(a.info, name), getattr(b.info, name))
        stage = self._lifecycle(a.info.experiment_id, a.info.lifecycle_stage)
        self._check(f"{what} lifecycle", stage, b.info.lifecycle_stage)
        directory = self._directory(a.info.experiment_id) / run_id
        self._check_place(
            f"{what} artifact URI",
            a.info.artifact_uri,
            b.info.artifact_uri,
            directory / "artifacts",
        )
        self._check_map(f"{what} param", a.data.params, b.data.params)
        self._check_map(f"{what} tag", a.data.tags, b.data.tags, _extra_tags(b.data.tags))
        self._check(f"{what} metric keys", sorted(a.data.metrics), sorted(b.data.metrics))
        for key in a.data.metrics.keys() & b.data.metrics.keys():
            self._compare_metric(what, run_id, key, directory, a.data.metrics[key], b)
        self._compare_edges(what, a, b)

    def _compare_metric(
        self, what: str, run_id: str, key: str, directory: Path, old_latest: float, b: Any
    ) -> None:
        raw = self._old.get_metric_history(run_id, key)
        history = _history(raw, directory / "metrics" / key)
        old = {_encode(*point) for point in history}
        new = Counter(
            _encode(m.timestamp, m.step, m.value) for m in self._new.get_metric_history(run_id, key)
        )
        for point in sorted(old - new.keys(), key=repr):
            self._found.append(f"{what} metric {key!r}: point {point} is missing")
        for point in sorted((new - Counter(old)).elements(), key=repr):
            self._found.append(f"{what} metric {key!r}: point {point} is new")
        latest = _latest(old)
        found = _encode(0, 0, b.data.metrics[key])[2:]
        if found not in latest:
            self._found.append(f"{what} metric {key!r}: latest is {found}, not {latest}")
        plain = all(m.dataset_name is None and not math.isnan(m.value) for m in raw)
        if plain and _encode(0, 0, old_latest)[2:] not in latest:
            self._found.append(f"{what} metric {key!r}: FileStore says {old_latest}, not {latest}")

    def _compare_edges(self, what: str, a: Any, b: Any) -> None:
        self._check(f"{what} dataset inputs", _datasets(a), _datasets(b))
        models = [sorted(m.model_id for m in side.inputs.model_inputs or ()) for side in (a, b)]
        self._check(f"{what} model inputs", *models)
        outputs = [
            sorted((m.model_id, m.step) for m in side.outputs.model_outputs) for side in (a, b)
        ]
        self._check(f"{what} model outputs", *outputs)

    # ---------------------------------------------------------------------- logged models

    def _compare_logged_models(self, old_id: str, new_id: str) -> None:
        folder = self._directory(old_id) / "models"
        on_disk = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        new = {m.model_id: m for m in _pages(self._new_store.search_logged_models, [new_id])}
        for model_id in sorted(new.keys() - on_disk):
            self._found.append(f"logged model {model_id} is not in the source")
        for model_id in sorted(on_disk):
            # FileStore does not look for models in .trash; its reader of one directory does.
            meta = self._old_store._get_model_info_from_dir(str(folder / model_id))
            stage = meta.get("lifecycle_stage") or "active"
            a = mlflow.entities.LoggedModel.from_dictionary(meta)
            try:
                b = self._new_store.get_logged_model(model_id, allow_deleted=True)
            except MlflowException:
                self._found.append(f"logged model {model_id} is missing")
                continue
            what = f"logged model {model_id}"
            self._check(f"{what} lifecycle", stage, "active" if model_id in new else "deleted")
            self._check(f"{what} experiment", new_id, b.experiment_id)
            for name in (
                "name",
                "creation_timestamp",
                "last_updated_timestamp",
                "status",
                "status_message",
                "model_type",
                "source_run_id",
            ):
                self._check(f"{what} {name}", getattr(a, name), getattr(b, name))
            self._check_place(
                f"{what} location",
                a.artifact_location,
                b.artifact_location,
                folder / model_id / "artifacts",
            )
            self._check_map(f"{what} param", a.params or {}, b.params or {})
            self._check_map(f"{what} tag", a.tags or {}, b.tags or {})
            self._compare_model_metrics(what, a, b, folder / model_id / "metrics")

    def _compare_model_metrics(self, what: str, a: Any, b: Any, folder: Path) -> None:
        old = {_model_point(metric) for metric in a.metrics or ()}
        new = Counter(_model_point(metric) for metric in b.metrics or ())
        lines = set(_model_lines(folder))
        for point in sorted((old | lines) - new.keys(), key=repr):
            self._found.append(f"{what} metric point {point} is missing")
        for point in sorted((new - Counter(old | lines)).elements(), key=repr):
            self._found.append(f"{what} metric point {point} is new")

    # ----------------------------------------------------------------------------- traces

    def _compare_traces(self, old_id: str, new_id: str) -> None:
        old = {t.trace_id: t for t in _traces(self._old_store, old_id)}
        new = {t.trace_id: t for t in _traces(self._new_store, new_id)}
        folder = self._directory(old_id) / "traces"
        on_disk = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        for trace_id in sorted(on_disk - old.keys()):
            self._found.append(f"trace {trace_id}: the FileStore does not see it: it is not judged")
        native = _native_traces(old, new)
        for trace_id in sorted(new.keys() - native.keys()):
            if "migrator.root_run_id" not in new[trace_id].tags:
                self._found.append(f"trace {trace_id} is not in the source")
        for trace_id, source_id in sorted(native.items()):
            if trace_id not in new:
                self._found.append(f"trace {source_id} is missing")
                continue
            self._compare_trace(old[source_id], new[trace_id], new_id, folder / source_id)

    def _compare_trace(self, a: Any, b: Any, new_experiment_id: str, directory: Path) -> None:
        what = f"trace {b.trace_id}"
        self._check(f"{what} experiment", new_experiment_id, b.experiment_id)
        self._check(f"{what} request time", a.request_time, b.request_time)
        if a.state.value != "IN_PROGRESS":
            self._check(f"{what} state", a.state.value, b.state.value)
            self._check(f"{what} duration", a.execution_duration, b.execution_duration)
        renamed = a.trace_id != b.trace_id and a.client_request_id is None
        client_id = a.trace_id if renamed else a.client_request_id
        self._check(f"{what} client request id", client_id, b.client_request_id)
        old_spans = _source_spans(self._root, a, directory)
        self._compare_previews(what, a, b, old_spans)
        self._compare_trace_tags(what, a, b, directory / "artifacts")
        self._compare_trace_metadata(what, a, b, len(old_spans))
        self._compare_assessments(what, a, b)
        self._compare_spans(what, a, b, old_spans)

    def _compare_previews(self, what: str, a: Any, b: Any, spans: list[Any]) -> None:
        roots = [span for span in spans if span.parent_id is None]
        for name, key in (("request_preview", "Inputs"), ("response_preview", "Outputs")):
            old, new = getattr(a, name), getattr(b, name)
            if old:
                self._check(f"{what} {name}", old, new)
                continue
            known = [a.trace_metadata.get(f"mlflow.trace{key}")]
            for root in roots:
                known.append(root.to_dict()["attributes"].get(f"mlflow.span{key}"))
            texts = [text for item in known if item for text in (item, *_leaves(item))]
            if new and not any(new.removesuffix("...") in text for text in texts):
                self._found.append(f"{what} {name}: {new!r} is nowhere in the source")

    def _compare_trace_tags(self, what: str, a: Any, b: Any, place: Path) -> None:
        old, new = dict(a.tags), dict(b.tags)
        key = "mlflow.artifactLocation"
        if key in old and key in new:
            self._check_place(f"{what} artifact location", old.pop(key), new.pop(key), place)
        self._check_map(
            f"{what} tag",
            old,
            new,
            [*_extra_tags(new), "mlflow.trace.spansLocation", key, "mlflow.traceName"],
        )

    def _compare_trace_metadata(self, what: str, a: Any, b: Any, spans: int) -> None:
        old, new = dict(a.trace_metadata), dict(b.trace_metadata)
        if old.get("mlflow.trace_schema.version") != new.get("mlflow.trace_schema.version"):
            self._check(f"{what} schema version", "3", new.get("mlflow.trace_schema.version"))
        stats = new.get("mlflow.trace.sizeStats")
        if stats and spans:
            self._check(f"{what} number of spans", spans, json.loads(stats).get("num_spans"))
        for key in (
            "mlflow.trace_schema.version",
            "mlflow.trace.sizeStats",
            "mlflow.trace.sizeBytes",
        ):
            old.pop(key, None)
            new.pop(key, None)
        for key in _COLUMN_KEYS & old.keys() & new.keys():
            if _same_json(old[key], new[key]):
                new[key] = old[key]
        extra = ["mlflow.trace.tokenUsage"]
        if new.get("migrator.source_trace_id") == a.trace_id != b.trace_id:
            extra.append("migrator.source_trace_id")
        self._check_map(f"{what} metadata", old, new, extra)

    def _compare_assessments(self, what: str, a: Any, b: Any) -> None:
        old = {item.assessment_id: _assessment(item, b.trace_id) for item in a.assessments}
        new = {item.assessment_id: _assessment(item, item.trace_id) for item in b.assessments}
        for assessment_id in old.keys() | new.keys():
            name = f"{what} assessment {assessment_id}"
            if assessment_id not in new or assessment_id not in old:
                side = "missing" if assessment_id in old else "new"
                self._found.append(f"{name} is {side}")
            else:
                self._check_map(name, old[assessment_id], new[assessment_id])

    def _compare_spans(self, what: str, a: Any, b: Any, old_spans: list[Any]) -> None:
        if not old_spans:
            return
        try:
            new_spans = self._new.get_trace(b.trace_id).data.spans
        except MlflowException as error:
            self._found.append(f"{what}: its spans can't be read ({error.message})")
            try:
                new_spans = self._new_store.get_trace(b.trace_id, allow_partial=True).data.spans
            except MlflowException:
                return
        old = {span.span_id: span for span in old_spans}
        new = {span.span_id: span for span in new_spans}
        for span_id in sorted(old.keys() ^ new.keys()):
            how = "missing" if span_id in old else "new"
            self._found.append(f"{what} span {span_id} is {how}")
        for span_id in sorted(old.keys() & new.keys()):
            self._compare_span(f"{what} span {span_id}", a, b, old[span_id], new[span_id])

    def _compare_span(self, what: str, a: Any, b: Any, old: Any, new: Any) -> None:
        self._check(f"{what} trace id", b.trace_id, new.trace_id)
        self._check(f"{what} parent", old.parent_id, new.parent_id)
        self._check(f"{what} name", old.name, new.name)
        self._check(f"{what} type", old.span_type or "UNKNOWN", new.span_type or "UNKNOWN")
        self._check(f"{what} start", old.start_time_ns, new.start_time_ns)
        if old.end_time_ns is not None:
            self._check(f"{what} end", old.end_time_ns, new.end_time_ns)
            self._check(f"{what} status", old.status.status_code, new.status.status_code)
            self._check(f"{what} message", old.status.description, new.status.description)
        self._compare_attributes(what, a, b, old, new)
        events = [[(e.name, dict(e.attributes)) for e in span.events] for span in (old, new)]
        self._check(f"{what} events", *events)
        for before, after in zip(old.events, new.events, strict=False):
            if after.timestamp not in _event_time(before.timestamp):
                self._check(f"{what} event time", before.timestamp, after.timestamp)

    def _compare_attributes(self, what: str, a: Any, b: Any, old: Any, new: Any) -> None:
        before, after = old.to_dict()["attributes"], new.to_dict()["attributes"]
        for key in before.keys() & after.keys():
            if before[key] != after[key] and _same_json(before[key], after[key]):
                after[key] = before[key]
        key = "mlflow.traceRequestId"
        self._check(f"{what} {key}", json.dumps(a.trace_id), before.pop(key))
        self._check(f"{what} {key}", json.dumps(b.trace_id), after.pop(key))
        extra = [] if "mlflow.spanType" in before else ["mlflow.spanType"]
        self._check_map(f"{what} attribute", before, after, extra)

    # --------------------------------------------------------------------------- registry

    def _compare_registry(self) -> None:
        folder = self._root / "models"
        old_registry = self._old._get_registry_client().store
        new_registry = self._new._get_registry_client().store
        old = {m.name for m in _registered(old_registry)}
        new = {m.name for m in _registered(new_registry)}
        on_disk = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        self._check("registered models on disk", sorted(on_disk), sorted(old))
        self._check("registered models", sorted(old), sorted(new))
        for name in sorted(old & new):
            what = f"registered model {name!r}"
            a, b = old_registry.get_registered_model(name), new_registry.get_registered_model(name)
            self._check_map(what, _fields(a), _fields(b))
            # The property hides what marks a prompt; the message has all tags.
            tags = [{tag.key: tag.value for tag in m.to_proto().tags} for m in (a, b)]
            self._check_map(f"{what} tag", *tags)
            versions = sorted(
                int(entry.name.removeprefix("version-"))
                for entry in (folder / name).glob("version-*")
                if entry.name.removeprefix("version-").isdigit()
            )
            for version in versions:
                self._compare_version(old_registry, new_registry, name, version)
            if not versions or max(versions) < 10**6:
                self._check_no_more(new_registry, name, versions)

    def _check_no_more(self, registry: Any, name: str, versions: list[int]) -> None:
        beyond = (versions[-1] if versions else 0) + 1
        if _version(registry, name, beyond) is not None:
            self._found.append(f"registered model {name!r} version {beyond} is not in the source")

    def _compare_version(self, old: Any, new: Any, name: str, version: int) -> None:
        what = f"model version {name!r} {version}"
        a, b = _version(old, name, version), _version(new, name, version)
        if a is None:  # deleted, which neither store shows to a user
            if b is not None:
                self._found.append(f"{what} was deleted and came back")
            try:
                hidden = new._get_sql_model_version_including_deleted(name, version)
            except MlflowException:
                self._found.append(f"{what} (deleted) is missing")
            else:
                self._check(f"{what} stage", "Deleted_Internal", hidden.current_stage)
            return
        if b is None:
            self._found.append(f"{what} is missing")
            return
        before, after = _fields(a), _fields(b)
        for key in ("source",):
            place = _place_of_source(self._root, before.get(key))
            self._check_place(f"{what} {key}", before.pop(key), after.pop(key), place)
        self._check_map(what, before, after)


# ------------------------------------------------------------------------------ pure helpers


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"


def _pages(search: Any, *args: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(*args, page_token=token, max_results=100)
        yield from page
        token = page.token
        if not token:
            return


def _traces(store: Any, experiment_id: str) -> Iterator[Any]:
    token = None
    while True:
        page, token = store.search_traces([experiment_id], max_results=100, page_token=token)
        yield from page
        if not token:
            return


def _registered(registry: Any) -> Iterator[Any]:
    """Yield registered models, and prompts, which an ordinary search hides."""
    yield from _pages(registry.search_registered_models)
    prompts = "tags.`mlflow.prompt.is_prompt` = 'true'"
    token = None
    while True:
        page = registry.search_registered_models(prompts, page_token=token, max_results=100)
        yield from page
        token = page.token
        if not token:
            return


def _extra_tags(tags: Iterable[str]) -> list[str]:
    return [key for key in tags if key.startswith("migrator.") or key == "mlflow.experimentKind"]


def _file_path(uri: str) -> Path | None:
    if uri.startswith("file:"):
        return Path(unquote("/" + uri.removeprefix("file:").lstrip("/")))
    return Path(uri) if uri.startswith("/") else None


def _expected_place(root: Path, old: str, place: Path) -> str:
    """Return the location that the target must have: ``place``, if ``old`` is gone and it is there.

    A server's location (``mlflow-artifacts:``) becomes the directory in ``mlartifacts`` beside the
    store if files are in it; an experiment's, where new runs will write, stays.
    """
    if old.startswith("mlflow-artifacts:/"):
        served = root.parent / "mlartifacts" / old.removeprefix("mlflow-artifacts:/")
        owned = place.name == "artifacts" and any(path.is_file() for path in served.rglob("*"))
        return served.as_uri() if owned else old
    recorded = _file_path(old)
    if recorded is None or recorded.exists() or not place.exists():
        return old
    return place.as_uri()


def _place_of_source(root: Path, source: str | None) -> Path | None:
    """Return where the files of a version's source lie: the same path below the moved store."""
    path = _file_path(source or "")
    if path is None or "mlruns" not in path.parts:
        return None
    return root.joinpath(*path.parts[path.parts.index("mlruns") + 1 :])


def _encode(timestamp_ms: int, step: int, value: float) -> tuple[int, int, float, bool]:
    if math.isnan(value):
        return timestamp_ms, step, 0.0, True
    return timestamp_ms, step, min(max(value, -_MAX), _MAX), False


def _history(metrics: Iterable[Any], path: Path) -> list[tuple[int, int, float]]:
    """Return (time, step, value) of each line, the step of a five-field line from the file."""
    lines = path.read_text(encoding="utf-8").split("\n")
    points = []
    for metric, line in zip(metrics, lines, strict=False):
        fields = line.split(" ")
        step = int(fields[2]) if len(fields) == 5 else metric.step
        points.append((metric.timestamp, step, metric.value))
    return points


def _latest(points: Iterable[tuple[int, int, float, bool]]) -> list[tuple[float, bool]]:
    """Return the values that may be the latest: all with the greatest step, time and value."""
    everything = list(points)
    last = max((step, timestamp_ms, value) for timestamp_ms, step, value, _ in everything)
    return [
        (value, is_nan)
        for timestamp_ms, step, value, is_nan in everything
        if (step, timestamp_ms, value) == last
    ]


def _datasets(run: Any) -> list[Any]:
    return sorted(
        (
            item.dataset.name,
            item.dataset.digest,
            item.dataset.source_type,
            item.dataset.source,
            item.dataset.schema or "",
            item.dataset.profile or "",
            sorted((tag.key, tag.value) for tag in item.tags),
        )
        for item in run.inputs.dataset_inputs
    )


def _model_point(metric: Any) -> tuple[Any, ...]:
    value = _encode(0, 0, metric.value)[2]
    dataset = (metric.dataset_name or "", metric.dataset_digest or "")
    return (metric.key, metric.timestamp, metric.step, value, metric.run_id, *dataset)


def _model_lines(folder: Path) -> Iterator[tuple[Any, ...]]:
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file():
            key = path.relative_to(folder).as_posix()
            for line in path.read_text(encoding="utf-8").splitlines():
                time, value, step, run_id, *dataset = line.split(" ")
                number = _encode(0, 0, float(value))[2]
                yield (key, int(time), int(step), number, run_id, *(dataset or ("", "")))


def _native_traces(old: Iterable[str], new: Mapping[str, Any]) -> dict[str, str]:
    """Return the id of each native trace in the target, with its id in the source."""
    key = "migrator.source_trace_id"
    renamed = {
        trace.trace_metadata[key]: trace_id
        for trace_id, trace in new.items()
        if key in trace.trace_metadata
    }
    ids = {}
    for trace_id in old:
        plain = re.fullmatch("[0-9a-f]{32}", trace_id) is not None
        by_rule = f"tr-{trace_id}" if plain else trace_id
        known = plain or re.fullmatch("tr-[0-9a-f]{32}", trace_id) is not None
        ids[by_rule if known else renamed.get(trace_id, trace_id)] = trace_id
    return ids


def _source_spans(root: Path, info: Any, directory: Path) -> list[Any]:
    """Return the spans of ``traces.json``, parsed by MLflow; none when there is no such file."""
    places = [directory / "artifacts"]
    location = info.tags.get("mlflow.artifactLocation", "")
    if location.startswith("mlflow-artifacts:"):
        path = location.removeprefix("mlflow-artifacts:").lstrip("/")
        places.append(root.parent / "mlartifacts" / path)
    elif (path_of := _file_path(location)) is not None:
        places.append(path_of)
    for place in places:
        file = place / "traces.json"
        if file.is_file():
            return list(TraceData.from_dict(json.loads(file.read_bytes())).spans)
    return []


def _event_time(time: int) -> set[int]:
    return {time, time * 1000} if time < 10**17 else {time}


def _same_json(old: object, new: object) -> bool:
    try:
        return bool(json.loads(str(old)) == json.loads(str(new)))
    except ValueError:
        return False


def _leaves(text: str) -> Iterator[str]:
    """Yield what is in JSON text: every string in it, and every value as JSON."""
    try:
        values = [json.loads(text)]
    except ValueError:
        return
    while values:
        value = values.pop()
        yield value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if isinstance(value, (dict, list)):
            values += value.values() if isinstance(value, dict) else value


def _assessment(item: Any, trace_id: str) -> dict[str, Any]:
    fields = {**item.to_dictionary(), "trace_id": trace_id}
    if "expectation" in fields:
        fields["valid"] = fields.get("valid") is not False
    return {key: value for key, value in fields.items() if value is not None}


def _version(registry: Any, name: str, version: int) -> Any:
    try:
        return registry.get_model_version(name, str(version))
    except MlflowException:
        return None


def _fields(entity: Any) -> dict[str, Any]:
    """Return all properties of a registry entity that both stores can hold."""
    fields: dict[str, Any] = {}
    for key, value in dict(entity).items():
        if key == "aliases" and isinstance(value, Mapping):  # of a model: alias to version
            fields[key] = {alias: str(version) for alias, version in value.items()}
        elif key in {"aliases", "tags"}:
            fields[key] = dict(value) if isinstance(value, Mapping) else sorted(value or ())
        elif key not in _NO_COLUMN:
            fields[key] = str(value) if key == "version" else value or ""
    return fields
