"""Read a conversion back through a server's API, and compare it with what was to be written.

The counterpart of ``verify`` for ``convert --to http://…``. Ids are translated by the tags that the
conversion left; what the API has no field for is compared with the tag that keeps it, and counted
as an exception where nothing keeps it. It shares no code with what writes to servers.

Not compared: contents of artifacts (their names and sizes are), datasets that no run uses, links of
traces to prompts, and whether a logged model is deleted.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from migrator import conventions, encoding, transformer, verify
from migrator.credentials import masked
from migrator.issues import Kind
from migrator.model import (
    AssessmentRecord,
    DatasetRecord,
    ExperimentPlan,
    LoggedModelRecord,
    MetricPoint,
    ModelVersionRecord,
    RegisteredModelRecord,
    RunRecord,
    SpanPlan,
    TracePlan,
)
from migrator.verify import MISSING, NOTHING, VerifyResult, _Entity, _Findings, compare_search

_PAGE = 1000
_PARAM_CHARS, _TAG_CHARS, _TRACE_TAG_CHARS, _METADATA_CHARS = 6000, 8000, 4096, 250
_SERVER_TAGS = {conventions.RUN_NAME, conventions.ARTIFACT_LOCATION, "mlflow.trace.infoFinalized"}
# Of the server itself, not of the thing that it is asked for.
_FAILURES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED")
_DELETED_VERSION = "Deleted_Internal"
_OTHER_WORDS = ("gen_ai.", "llm.", "embedding.")  # in which spans name models and providers
_COSTS = ("input_cost", "output_cost", "total_cost")


@dataclass(slots=True)
class _Home:
    """An experiment of the server, and where the source's runs and models are in it."""

    found: Any
    plan: ExperimentPlan | None = None
    runs: dict[str, str] = field(default_factory=dict)  # old id -> new id
    models: dict[str, str] = field(default_factory=dict)
    traces: set[str] = field(default_factory=set)


class ServedComparer:
    """Compares what is handed to it with a server. Raises TargetError when there is none."""

    def __init__(self, uri: str, *, files: bool) -> None:
        """With ``files`` the artifacts of runs are expected on the server too."""
        from mlflow import MlflowClient
        from mlflow.entities import ViewType
        from mlflow.exceptions import MlflowException

        self.shown = masked(uri)
        self._client: Any = MlflowClient(uri)
        self._files = files
        self._findings = _Findings()
        self._exceptions: Counter[str] = Counter()
        self._handles: dict[int, _Home] = {}
        self._homes: dict[int, _Home] = {}
        self._runs: dict[str, str] = {}
        self._models: dict[str, str] = {}
        self._waiting: list[tuple[RunRecord, int]] = []
        self._datasets: dict[tuple[int, str], tuple[str, str]] = {}
        try:
            for each in _pages(self._client.search_experiments, ViewType.ALL, _PAGE):
                self._handles[_handle(each)] = _Home(each)
        except (MlflowException, OSError) as error:
            raise verify.broken(self.shown, error) from None

    def experiments(self) -> tuple[tuple[int, str], ...]:
        """Return what stands for each experiment of the server, and its name."""
        return tuple((handle, home.found.name) for handle, home in self._handles.items())

    # ------------------------------------------------------------------------ experiments

    @verify.reading
    def add_experiment(self, plan: ExperimentPlan) -> None:
        """Expect an experiment; list what was made of its runs and models."""
        from mlflow.entities import ViewType

        home = self._handles.get(plan.target_id)
        entity_id = plan.record.experiment_id
        of = self._findings.entity(Kind.EXPERIMENT, entity_id, home and home.found)
        if of is None or home is None:
            return
        home.plan = plan
        self._homes[plan.target_id] = home
        number, found = home.found.experiment_id, home.found
        of.check("name", plan.target_name, found.name)
        if conventions.MIGRATOR_SOURCE_EXPERIMENT in found.tags:
            of.check("lifecycle_stage", plan.record.lifecycle_stage, found.lifecycle_stage)
            fields = _fields(found.tags)
            of.check("creation_time", plan.record.creation_ms, fields.get("creation_ms"))
            of.check("last_update_time", plan.record.last_update_ms, fields.get("last_update_ms"))
            self._exceptions["experiment-id"] += 1
            self._exceptions["experiment-times"] += 1
        source = {key: found.tags.get(key, MISSING) for key in plan.record.tags}
        of.mapping(Kind.EXPERIMENT_TAG, "tag", plan.record.tags, source)
        ours = f"tags.`{conventions.MIGRATOR_SOURCE_RUN}` LIKE '%'"
        for run in _pages(self._client.search_runs, [number], ours, ViewType.ALL, _PAGE):
            old = run.data.tags[conventions.MIGRATOR_SOURCE_RUN]
            if old in home.runs:
                of.differs(f"run {old}", "one", "two of it")
            home.runs[old] = run.info.run_id
        for model in _pages(self._client.search_logged_models, [number]):
            old = model.tags.get(conventions.MIGRATOR_SOURCE_MODEL)
            if old is not None:
                home.models[old] = model.model_id
        for key, value in found.tags.items():
            if key.startswith("migrator.deleted_model."):
                home.models[key.removeprefix("migrator.deleted_model.")] = value.split()[0]
        self._runs |= home.runs
        self._models |= home.models

    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None:
        """Expect a tag on an experiment of the server, with whatever value."""
        home = self._homes.get(experiment_id)
        if home is not None and key not in home.found.tags:
            self._findings.differs(
                Kind.EXPERIMENT, home.found.experiment_id, f"tag {key}", value, MISSING
            )

    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None:
        """Remember a dataset, for the runs that use it."""
        self._datasets[experiment_id, record.dataset_id] = (record.name, record.digest)

    # ------------------------------------------------------------------------------- runs

    @verify.reading
    def add_run(self, run: RunRecord, experiment_id: int) -> None:
        """Expect a run, with its params, tags, metric histories, inputs, outputs and files."""
        home = self._homes.get(experiment_id)
        new_id = home.runs.get(run.run_id) if home else None
        found: Any = None
        if new_id is not None:
            found = self._read(self._client.get_run, new_id)
        of = self._findings.entity(Kind.RUN, run.run_id, found)
        if of is None or home is None:
            return
        info, counts = found.info, self._exceptions
        counts["run-id"] += 1
        counts["run-name"] += not run.name
        name = run.name or run.run_id
        of.check("name", name, info.run_name)
        of.check("status", run.status, info.status)
        of.check("start_time", run.start_ms or 0, info.start_time)
        of.check("end_time", run.end_ms, info.end_time)
        of.check("lifecycle_stage", run.lifecycle_stage, info.lifecycle_stage)
        of.check("user_id", run.user_id, info.user_id or "")
        fields = _fields(found.data.tags)
        of.check("artifact_uri", run.artifact_uri, fields.get("artifact_uri"))
        for key in ("source_name", "source_version", "entry_point_name"):
            of.check(key, getattr(run, key) or None, fields.get(key))
        of.check("deleted_time", run.deleted_ms or None, fields.get("deleted_ms"))
        tags = dict(run.tags)
        if conventions.RUN_NAME in tags:
            counts["run-name-tag"] += tags[conventions.RUN_NAME] != name
            tags[conventions.RUN_NAME] = name
        if conventions.PARENT_RUN_ID in tags:
            parent = run.parent_run_id or ""
            tags[conventions.PARENT_RUN_ID] = self._runs.get(parent, tags["mlflow.parentRunId"])
        self._mapping(of, Kind.PARAM, "param", run.params, found.data.params, _PARAM_CHARS)
        self._mapping(of, Kind.TAG, "tag", tags, found.data.tags, _TAG_CHARS)
        self._compare_metrics(of, run, info.run_id, found)
        self._compare_edges(of, run, experiment_id, found)
        if self._files and run.artifacts:
            expected = {each.path: each.size_bytes for each in run.artifacts}
            of.check("artifacts", sorted(expected.items()), sorted(self._listed(info.run_id)))
        counts["artifacts"] += 1

    def _mapping(
        self,
        of: _Entity,
        kind: Kind,
        label: str,
        expected: Mapping[str, str],
        found: Mapping[str, str],
        limit: int,
    ) -> None:
        """Compare keys and values, which the API cuts to ``limit`` characters."""
        whole = {key: encoding.clean_text(value) for key, value in expected.items()}
        self._exceptions["value-length"] += sum(len(value) > limit for value in whole.values())
        cut = {key: value[:limit] for key, value in whole.items()}
        of.mapping(kind, label, cut, found, allowed=_SERVER_TAGS)

    def _compare_metrics(self, of: _Entity, run: RunRecord, new_id: str, found: Any) -> None:
        expected_keys = {key for key, points in run.metrics.items() if points}
        for key in sorted(found.data.metrics.keys() - expected_keys):
            of.differs(f"metric {key}", NOTHING, str(found.data.metrics[key]))
        for key in sorted(expected_keys):
            points = {verify._expected_point(p) for p in run.metrics[key] if p.timestamp_ms >= 0}
            early = sum(point.timestamp_ms < 0 for point in run.metrics[key])
            self._exceptions["negative-time"] += early
            history = self._read(self._client.get_metric_history, new_id, key) or ()
            of.count(Kind.METRIC_POINT, len(points))
            of.points(f"metric {key}", points, [verify._found_point(m) for m in history])

    def _compare_edges(self, of: _Entity, run: RunRecord, experiment_id: int, found: Any) -> None:
        datasets: dict[tuple[str, str], Mapping[str, str]] = {}
        models = set()
        for item in run.inputs:
            if item.source_type != "DATASET":
                models.add(self._models.get(item.source_id, item.source_id))
            elif (experiment_id, item.source_id) in self._datasets:
                datasets.setdefault(self._datasets[experiment_id, item.source_id], item.tags)
        there = {
            (item.dataset.name, item.dataset.digest): {tag.key: tag.value for tag in item.tags}
            for item in found.inputs.dataset_inputs
        }
        of.count(Kind.INPUT, len(datasets) + len(models))
        of.check("dataset inputs", sorted(datasets), sorted(there))
        for name in sorted(datasets.keys() & there.keys()):
            of.check(f"tags of input {name[0]} {name[1]}", dict(datasets[name]), there[name])
        of.check(
            "model inputs", sorted(models), sorted(i.model_id for i in found.inputs.model_inputs)
        )
        outputs: dict[str, int] = {}
        for output in run.outputs:
            outputs.setdefault(self._models.get(output.model_id, output.model_id), output.step)
        of.count(Kind.OUTPUT, len(outputs))
        of.check(
            "model outputs",
            sorted(outputs.items()),
            sorted((output.model_id, output.step) for output in found.outputs.model_outputs),
        )

    def _listed(self, run_id: str, folder: str | None = None) -> Iterator[tuple[str, int]]:
        for each in self._read(self._client.list_artifacts, run_id, folder) or ():
            if each.is_dir:
                yield from self._listed(run_id, each.path)
            else:
                yield each.path, each.file_size or 0  # a server leaves out the size of an empty one

    # ------------------------------------------------------------------------------ models

    @verify.reading
    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None:
        """Expect a logged model, with its params, tags and metrics."""
        home = self._homes.get(experiment_id)
        new_id = home.models.get(record.model_id) if home else None
        store = self._client._tracking_client.store
        found: Any = None
        if new_id is not None:
            found = self._read(store.get_logged_model, new_id, allow_deleted=True)
        of = self._findings.entity(Kind.LOGGED_MODEL, record.model_id, found)
        if of is None:
            return
        self._exceptions["model-id"] += 1
        self._exceptions["model-times"] += 1
        fields = _fields(found.tags)
        of.check("name", record.name or record.model_id, found.name)
        of.check("creation_timestamp", record.creation_ms, fields.get("creation_ms"))
        of.check("last_updated_timestamp", record.last_updated_ms, fields.get("last_updated_ms"))
        of.check("status_message", record.status_message or None, fields.get("status_message"))
        of.check("artifact_location", record.artifact_location, fields.get("artifact_location"))
        of.check("status", record.status or 1, found.status.to_int())
        of.check("model_type", record.model_type or "", found.model_type or "")
        source_run = record.source_run_id or ""
        of.check("source_run_id", self._runs.get(source_run, source_run), found.source_run_id or "")
        of.mapping(Kind.LOGGED_MODEL_PARAM, "param", record.params, found.params or {})
        of.mapping(Kind.LOGGED_MODEL_TAG, "tag", record.tags, found.tags or {})
        once: dict[tuple[str, int, int, str], verify._Point] = {}
        for metric in record.metrics:
            if math.isnan(metric.value):
                self._exceptions["model-nan"] += 1
            elif metric.run_id in self._runs:
                run_id = self._runs[metric.run_id]
                point_key = (metric.key, metric.timestamp_ms, metric.step, run_id)
                point = MetricPoint(metric.timestamp_ms, metric.value, metric.step)
                once.setdefault(point_key, verify._expected_point(point))
        expected: dict[str, set[verify._Point]] = defaultdict(set)
        for (key, _, _, run_id), row in once.items():
            expected[f"{key} of run {run_id}"].add(row)
        there: dict[str, list[verify._Point]] = defaultdict(list)
        for metric in found.metrics or ():
            there[f"{metric.key} of run {metric.run_id}"].append(verify._found_point(metric))
        of.count(Kind.LOGGED_MODEL_METRIC, len(once))
        for name in sorted(expected.keys() | there.keys()):
            of.points(f"metric {name}", expected[name], there[name])

    @verify.reading
    def add_registered_model(self, record: RegisteredModelRecord) -> None:
        """Expect a registered model or prompt, with its versions, aliases and tags."""
        registry = self._client._get_registry_client().store
        found = self._read(registry.get_registered_model, record.name)
        of = self._findings.entity(Kind.REGISTERED_MODEL, record.name, found)
        if of is None:
            return
        self._exceptions["registry-times"] += 1
        tags = {tag.key: tag.value for tag in found.to_proto().tags}
        fields = _fields(tags)
        of.check("creation_timestamp", record.creation_ms, fields.get("creation_ms"))
        of.check("last_updated_timestamp", record.last_updated_ms, fields.get("last_updated_ms"))
        of.check("description", record.description or "", found.description or "")
        of.mapping(Kind.REGISTERED_MODEL_TAG, "tag", record.tags, tags)
        of.mapping(
            Kind.ALIAS,
            "alias",
            {alias: str(version) for alias, version in record.aliases.items()},
            {alias: str(version) for alias, version in found.aliases.items()},
        )
        for version in record.versions:
            self._compare_version(registry, version)

    def _compare_version(self, registry: Any, record: ModelVersionRecord) -> None:
        found = self._read(registry.get_model_version, record.name, str(record.version))
        name = f"{record.name}/{record.version}"
        if record.current_stage == _DELETED_VERSION:
            self._findings.count(Kind.MODEL_VERSION)
            if found is not None:
                self._findings.differs(Kind.MODEL_VERSION, name, "deleted", "yes", "no")
            return
        of = self._findings.entity(Kind.MODEL_VERSION, name, found)
        if of is None:
            return
        self._exceptions["registry-times"] += 1
        fields = _fields(found.tags)
        of.check("creation_timestamp", record.creation_ms, fields.get("creation_ms"))
        of.check("last_updated_timestamp", record.last_updated_ms, fields.get("last_updated_ms"))
        of.check("user_id", record.user_id or None, fields.get("user_id"))
        of.check("description", record.description or "", found.description or "")
        of.check("current_stage", record.current_stage or "None", found.current_stage or "None")
        of.check(
            "run_id", self._runs.get(record.run_id or "", record.run_id or ""), found.run_id or ""
        )
        of.check("run_link", record.run_link or "", found.run_link or "")
        of.check("source", record.source or "", fields.get("source", found.source))
        self._exceptions["version-source"] += "source" in fields
        of.mapping(Kind.MODEL_VERSION_TAG, "tag", record.tags, found.tags)

    # ------------------------------------------------------------------------------ traces

    @verify.reading
    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Expect a trace, with its spans, tags, metadata, assessments and links to runs."""
        home = self._homes.get(experiment_id)
        self._findings.count_recounted(plan)
        store = self._client._tracking_client.store
        info = self._read(store.get_trace_info, plan.trace_id)
        of = self._findings.entity(Kind.TRACE, plan.trace_id, info)
        if of is None or home is None:
            return
        home.traces.add(plan.trace_id)
        of.check("experiment_id", home.found.experiment_id, info.experiment_id)
        of.check("request_time", plan.timestamp_ms, info.request_time)
        of.check("execution_duration", plan.execution_ms, info.execution_duration)
        of.check("state", plan.status, info.state.value)
        of.check("client_request_id", plan.client_request_id or "", info.client_request_id or "")
        of.check("request_preview", plan.request_preview or "", info.request_preview or "")
        of.check("response_preview", plan.response_preview or "", info.response_preview or "")
        tags = dict(plan.tags)
        for key in (conventions.ARTIFACT_LOCATION, conventions.SPANS_LOCATION):
            tags.pop(key, None)
        there = {k: v for k, v in info.tags.items() if k != conventions.SPANS_LOCATION}
        self._mapping(of, Kind.TRACE_TAG, "tag", tags, there, _TRACE_TAG_CHARS)
        metadata = dict(plan.metadata)
        source_run = metadata.get(conventions.SOURCE_RUN, "")
        if source_run in self._runs:
            metadata[conventions.SOURCE_RUN] = self._runs[source_run]
        found = {key: _plain_json(value) for key, value in info.trace_metadata.items()}
        metadata = {key: _plain_json(value) for key, value in metadata.items()}
        spans = self._spans_of(plan)
        cost = conventions.TRACE_COST
        if cost not in metadata and _is_sum(_decoded(found.get(cost, "")), spans):
            del found[cost]  # the spans' own are what is counted
        usage = conventions.TRACE_USAGE
        if usage in found and found[usage] != metadata.get(usage):
            self._exceptions["token-counts"] += 1
            found[usage] = _without_zeros(found[usage])
            metadata[usage] = _without_zeros(metadata.get(usage, "{}"))
        self._mapping(of, Kind.TRACE_METADATA, "metadata", metadata, found, _METADATA_CHARS)
        self._compare_assessments(of, plan, info)
        self._compare_spans(of, plan, home, spans)
        for old in plan.run_ids:
            self._compare_link(of, plan, home, old)

    def _compare_link(self, of: _Entity, plan: TracePlan, home: _Home, old: str) -> None:
        if old not in self._runs:
            return
        linked = self._read(
            self._client._tracking_client.store.search_traces,
            locations=[home.found.experiment_id],
            filter_string=f"attributes.run_id = '{self._runs[old]}'",
            max_results=500,
        )
        if plan.trace_id not in {each.trace_id for each in linked[0]}:
            of.differs(f"link to run {old}", "one", MISSING)

    def _compare_assessments(self, of: _Entity, plan: TracePlan, info: Any) -> None:
        found = {item.assessment_id: item for item in info.assessments}
        expected = {record.assessment_id for record in plan.assessments}
        for assessment_id in sorted(found.keys() - expected):
            of.differs(f"assessment {assessment_id}", NOTHING, found[assessment_id].name)
        for record in plan.assessments:
            item = found.get(record.assessment_id)
            name = f"{plan.trace_id}/{record.assessment_id}"
            entity = self._findings.entity(Kind.ASSESSMENT, name, item)
            lost = record.valid is False or record.run_id is not None
            self._exceptions["assessment-fields"] += lost
            # What the API has no field for is what was found: it is counted, and no difference.
            kept: AssessmentRecord = record
            if item is not None:
                value = getattr(getattr(item, record.type, None), "value", None)
                same = value == encoding.sanitize(record.value)  # 13 is served as 13.0
                self._exceptions["assessment-numbers"] += same and verify._canonical(
                    value
                ) != verify._canonical(record.value)
                kept = replace(
                    record,
                    value=value if same else record.value,
                    run_id=item.run_id,
                    valid=item.valid,
                )
            verify.compare_assessment(entity, kept, item)

    def _spans_of(self, plan: TracePlan) -> dict[str, Any]:
        store = self._client._tracking_client.store
        traces = self._read(store.batch_get_traces, [plan.trace_id]) or ()
        return {span.span_id: span for trace in traces for span in trace.data.spans}

    def _compare_spans(
        self, of: _Entity, plan: TracePlan, home: _Home, found: Mapping[str, Any]
    ) -> None:
        for span_id in sorted(found.keys() - {span.span_id for span in plan.spans}):
            of.differs(f"span {span_id}", NOTHING, found[span_id].name)
        for span in plan.spans:
            name = f"{plan.trace_id}/{span.span_id}"
            entity = self._findings.entity(Kind.SPAN, name, found.get(span.span_id))
            if entity is not None:
                self._compare_span(entity, plan, span, found[span.span_id], home)

    def _compare_span(
        self, of: _Entity, plan: TracePlan, span: SpanPlan, found: Any, home: _Home
    ) -> None:
        expected = json.loads(encoding.span_content(plan.trace_id, span))
        there = found.to_dict()
        if span.status != "ERROR":
            expected["status"]["message"] = there["status"]["message"]
        attributes, served = expected.pop("attributes"), there.pop("attributes")
        if conventions.SPAN_EXPERIMENT_ID in attributes:
            number = encoding.encode(home.found.experiment_id)
            attributes[conventions.SPAN_EXPERIMENT_ID] = number
        for key in expected:
            of.check(key, verify._canonical(expected[key]), verify._canonical(there.get(key)))
        limits = set()
        for key in sorted(attributes.keys() | served.keys()):
            if key not in attributes and (limit := _added(key, served)) is not None:
                limits.add(limit)
            elif key not in attributes or key not in served:
                one, other = attributes.get(key, NOTHING), served.get(key, MISSING)
                of.differs(f"attribute {key}", one, other)
            else:
                wanted, given = _decoded(attributes[key]), _decoded(served[key])
                if wanted != given and isinstance(wanted, str) and _decoded(wanted) == given:
                    self._exceptions["span-text"] += 1
                else:
                    of.check(f"attribute {key}", wanted, given)
        self._exceptions.update(limits)

    # ---------------------------------------------------------------------------- the end

    @verify.reading
    def finish(self) -> VerifyResult:
        """Search every experiment's traces, and return what was found."""
        for home in self._homes.values():
            number = home.found.experiment_id
            search = partial(self._read, self._client.search_traces, locations=[number])
            compare_search(self._findings, search, number, home.traces)
        result = self._findings.result()
        return replace(result, exceptions={k: n for k, n in sorted(self._exceptions.items()) if n})

    def _read(self, read: Any, *arguments: Any, **named: Any) -> Any:
        from mlflow.exceptions import MlflowException

        def ask(*arguments: Any, **named: Any) -> Any:
            try:
                return read(*arguments, **named)
            except MlflowException as error:
                if error.error_code in _FAILURES:
                    raise verify.broken(self.shown, error) from None
                raise

        return verify._read(ask, *arguments, **named)


def _handle(found: Any) -> int:
    """Return the id by which plans know an experiment of the server."""
    old = found.tags.get(conventions.MIGRATOR_SOURCE_EXPERIMENT)
    if old is None:
        return -1 - int(found.experiment_id)
    name = found.tags.get(conventions.MIGRATOR_SOURCE_NAME, found.name)
    return transformer.experiment_handle(old, name)


def _pages(ask: Any, *arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = ask(*arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _fields(tags: Mapping[str, str]) -> dict[str, Any]:
    try:
        fields = json.loads(tags.get(conventions.MIGRATOR_SOURCE_FIELDS, "{}"))
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _added(key: str, served: Mapping[str, str]) -> str | None:
    """Return which limit a span's attribute is of that the server made of the others, if any.

    A model or provider must stand elsewhere in the span; a cost needs a model and token counts.
    """
    facts = {name: _decoded(text) for name, text in served.items()}
    value = facts.pop(key)
    if key in (conventions.SPAN_MODEL, conventions.SPAN_PROVIDER):
        named = [facts.get(each) for each in (conventions.SPAN_INPUTS, conventions.SPAN_OUTPUTS)]
        said = [each.get("model") for each in named if isinstance(each, dict)]
        said += [each for name, each in facts.items() if name.startswith(_OTHER_WORDS)]
        return "span-model" if value in said else None
    if key == conventions.SPAN_COST and _is_cost(value):
        counted = facts.get(conventions.SPAN_USAGE) and facts.get(conventions.SPAN_MODEL)
        return "span-cost" if counted else None
    return None


def _is_cost(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != set(_COSTS):
        return False
    one, other, total = (value[key] for key in _COSTS)
    return min(one, other) >= 0 and math.isclose(one + other, total)


def _is_sum(cost: Any, spans: Mapping[str, Any]) -> bool:
    """Tell whether a trace's cost is that of its spans, without those below one that has a cost."""
    costs = {span_id: span.get_attribute(conventions.SPAN_COST) for span_id, span in spans.items()}

    def is_below_another(span_id: str) -> bool:
        above = spans.get(spans[span_id].parent_id)
        while above is not None and not costs[above.span_id]:
            above = spans.get(above.parent_id)
        return above is not None

    parts = [each for span_id, each in costs.items() if each and not is_below_another(span_id)]
    return (
        bool(parts)
        and all(map(_is_cost, [cost, *parts]))
        and all(math.isclose(cost[key], sum(part[key] for part in parts)) for key in _COSTS)
    )


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _plain_json(text: str) -> str:
    """Return JSON objects in one order of keys, all else as it is."""
    value = _decoded(text)
    return verify._canonical(value) if isinstance(value, dict) else text


def _without_zeros(text: str) -> str:
    return verify._canonical({key: n for key, n in _decoded(text).items() if n})
