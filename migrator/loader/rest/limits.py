"""The table of what a server's API can't keep, found by trying MLflow 3.9.0 and 3.17.2.

``tests/targets/test_rest.py`` compares it with a real server: every line must be true, and nothing
else may differ.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from migrator import conventions
from migrator.model import (
    Asset,
    DatasetRecord,
    EvaluationDatasetRecord,
    ExperimentPlan,
    LoggedModelRecord,
    ModelVersionRecord,
    RegisteredModelRecord,
    RunRecord,
    ScorerRecord,
    TracePlan,
    WebhookRecord,
)

PARAM_CHARS = 6000  # mlflow.utils.validation (3.9)
TAG_CHARS = 8000
TRACE_METADATA_CHARS = 250  # cut by the client
TRACE_TAG_CHARS = 4096  # likewise
DELETED_VERSION = "Deleted_Internal"  # the stage of a model version that was deleted
PROMPT = "mlflow.prompt.is_prompt"  # tag of a prompt and its versions, whose source means nothing
# Where MLflow 3.17 looks for a model or provider that mlflow.llm.model and .provider lack.
_MODEL_ELSEWHERE = (
    "gen_ai.response.model", "gen_ai.request.model", "llm.response.model_name", "llm.model_name",
    "llm.request.model_name", "embedding.model_name",
)  # fmt: skip
_PROVIDER_ELSEWHERE = ("gen_ai.provider.name", "gen_ai.system", "llm.provider")


@dataclass(frozen=True, slots=True)
class Limit:
    """One thing that the API can't keep. ``why`` and ``instead`` are parts of sentences."""

    name: str  # stable, for machines
    what: str  # of what, with its plural
    why: str
    instead: str
    # The releases of the server that have this limit: from the first on, before the second.
    releases: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (99, 0))

    def is_of(self, release: tuple[int, int]) -> bool:
        """Return True if a server of this release has the limit."""
        return self.releases[0] <= release < self.releases[1]


_NEWER = ((3, 10), (99, 0))  # seen in 3.17, and not in 3.9; those between were not tried

_FIELDS = "kept as JSON in tag migrator.source_fields"

LIMITS: tuple[Limit, ...] = (
    Limit(
        "experiment-id", "ids of experiments", "the server numbers them",
        "new ids; the old one is in tag migrator.source_experiment_id",
    ),
    Limit(
        "experiment-times", "creation and update times of experiments",
        "the server stamps them with its own time", _FIELDS,
    ),
    Limit(
        "run-id", "ids of runs", "the server draws them",
        "new ids, which parents, traces, models and versions follow; the old one is in tag "
        "migrator.source_run_id",
    ),
    Limit(
        "run-name", "runs without a name", "the API gives one that is made up",
        "the name is the old run id",
    ),
    Limit(
        "run-name-tag", "runs whose tag mlflow.runName is missing or not their name",
        "the API keeps the two equal", "the tag holds the run's name",
    ),
    Limit(
        "run-fields", "runs with a source, version, entry point or deletion time in old fields",
        "the API has no such fields", _FIELDS,
    ),
    Limit(
        "artifacts", "artifact locations", "the server decides where artifacts lie",
        "files on this machine are sent to the server (not with --artifacts keep); the recorded "
        "location is " + _FIELDS,
    ),
    Limit(
        "value-length", "long params, run tags, trace tags or trace metadata",
        f"the API takes {PARAM_CHARS:,}, {TAG_CHARS:,}, {TRACE_TAG_CHARS:,} and "
        f"{TRACE_METADATA_CHARS} characters",
        "cut, each with an issue",
    ),
    Limit(
        "negative-time", "metric points before 1970", "the API refuses a negative time",
        "rejected, each with an issue",
    ),
    Limit(
        "dataset-unused", "datasets that no run uses", "the API makes them as inputs of runs only",
        "rejected, each with an issue",
    ),
    Limit(
        "model-id", "ids of logged models", "the server draws them",
        "new ids, which runs and versions follow; the old one is in tag migrator.source_model_id",
    ),
    Limit(
        "model-times", "times and status messages of logged models",
        "the server stamps them with its own time", _FIELDS,
    ),
    Limit(
        "model-nan", "metric points of logged models that are NaN",
        "the API fails, because the run has the point already",
        "rejected, each with an issue; the run's own metric keeps NaN",
    ),
    Limit(
        "registry-times", "times, users and status of registered models, prompts and versions",
        "the server stamps them with its own time, and each version is READY", _FIELDS,
    ),
    Limit(
        "version-source", "sources of model versions that are paths of this machine, or lie in "
        "another run than the version's own",
        "a server refuses the first, MLflow 3.17's also the second",
        "the place to which the run's or model's files were sent, where there is one, and on such "
        "a server one that leads nowhere; the recorded one is " + _FIELDS,
    ),
    Limit(
        "deleted-version", "deleted model versions", "the API makes none",
        "their numbers are left out; those behind the last version are given again",
    ),
    Limit(
        "token-counts", "traces of which a token count is unknown",
        "MLflow 3.9 writes 0 for a count that no span has", "0 on such a server",
        ((0, 0), (3, 17)),
    ),
    Limit(
        "span-model", "spans that say their model or provider in other words than MLflow's",
        "MLflow 3.17's server reads it there",
        "mlflow.llm.model or mlflow.llm.provider beside what was there, on such a server", _NEWER,
    ),
    Limit(
        "span-cost", "spans with a model and token counts, but no cost",
        "MLflow 3.17's server works it out where its price list has the model",
        "that cost, on such a server; also the traces' sum of it, where the source has none",
        _NEWER,
    ),
    Limit(
        "assessment-numbers", "assessments whose value is a whole number",
        "the API carries numbers as floats", "13 is served as 13.0",
    ),
    Limit(
        "assessment-fields", "assessments that name a run, or are not valid without one that "
        "overrides them", "the API has no such fields", "the mark and the run are lost",
    ),
    Limit(
        "evaluation-dataset-fields", "ids, times, digests and users of evaluation datasets",
        "the server draws and stamps them, and works out digest, schema and profile",
        "new ids; the old one is in tag migrator.source_dataset_id, the rest is " + _FIELDS,
    ),
    Limit(
        "evaluation-record-fields", "ids, times and users of the records of evaluation datasets",
        "the server draws and stamps them", _FIELDS + " of the record",
    ),
    Limit(
        "scorer-fields", "ids and times of scorers and their versions",
        "the server draws and stamps them, and the API has no tags for scorers",
        "new ids, which the report lists beside the old ones; the times are lost",
    ),
    Limit(
        "scorer-hidden", "scorers of deleted experiments",
        "a server shows none of them until the experiment is restored",
        "written, but not compared by verify",
    ),
    Limit(
        "webhook-fields", "ids and times of webhooks",
        "the server draws and stamps them, and the API has no tags for webhooks",
        "new ids, which the report lists beside the old ones; the times are lost",
    ),
    Limit("deleted-webhook", "deleted webhooks", "the API makes none", "left out"),
)  # fmt: skip


class Survey:
    """Counts what the API will not keep: the sink of a walk before anything is written."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._datasets: set[tuple[int, str]] = set()
        self._used: set[tuple[int, str]] = set()
        self._deleted: set[int | None] = set()  # experiments

    def add_experiment(self, plan: ExperimentPlan) -> None:
        """Count an experiment's id and times."""
        self.counts["experiment-id"] += 1
        self.counts["experiment-times"] += 1
        if plan.record.deleted:
            self._deleted.add(plan.target_id)
        self.counts["artifacts"] += 1

    def add_run(self, run: RunRecord, experiment_id: int) -> None:
        """Count the parts of a run that the API has no field for."""
        counts = self.counts
        counts["run-id"] += 1
        counts["artifacts"] += 1
        counts["run-name"] += not run.name
        counts["run-name-tag"] += run.tags.get("mlflow.runName") != run.name
        counts["run-fields"] += bool(run_fields(run))
        counts["value-length"] += sum(len(v) > PARAM_CHARS for v in run.params.values())
        counts["value-length"] += sum(len(v) > TAG_CHARS for v in run.tags.values())
        for points in run.metrics.values():
            counts["negative-time"] += sum(point.timestamp_ms < 0 for point in points)
        self._used |= {(experiment_id, each.source_id) for each in run.inputs}

    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None:
        """Remember a dataset; one that no run uses is counted in the end."""
        self._datasets.add((experiment_id, record.dataset_id))

    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None:
        """Count a model's id and times."""
        self.counts["model-id"] += 1
        self.counts["model-times"] += 1
        self.counts["model-nan"] += sum(math.isnan(metric.value) for metric in record.metrics)
        self.counts["artifacts"] += 1

    def add_registered_model(self, record: RegisteredModelRecord) -> None:
        """Count a model and its versions, and sources that are paths."""
        self.counts["registry-times"] += 1 + len(record.versions)
        self.counts["deleted-version"] += sum(
            version.current_stage == DELETED_VERSION for version in record.versions
        )
        self.counts["version-source"] += sum(
            is_path(version.source or "") or _is_of_another_run(version)
            for version in record.versions
            if PROMPT not in version.tags and version.current_stage != DELETED_VERSION
        )

    def add_asset(self, record: Asset, experiment_id: int | None) -> None:
        """Count an evaluation dataset, scorer or webhook, whose ids and times are not kept."""
        counts = self.counts
        if isinstance(record, EvaluationDatasetRecord):
            counts["evaluation-dataset-fields"] += 1
            counts["evaluation-record-fields"] += len(record.items)
        elif isinstance(record, ScorerRecord):
            counts["scorer-fields"] += 1
            counts["scorer-hidden"] += experiment_id in self._deleted
        elif isinstance(record, WebhookRecord):
            is_deleted = record.deleted_ms is not None
            counts["deleted-webhook" if is_deleted else "webhook-fields"] += 1

    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Count the parts of a trace that the API cuts or changes."""
        counts = self.counts
        counts["value-length"] += sum(len(v) > TRACE_TAG_CHARS for v in plan.tags.values())
        counts["value-length"] += sum(len(v) > TRACE_METADATA_CHARS for v in plan.metadata.values())
        for span in plan.spans:
            attributes = span.attributes
            of_model = conventions.SPAN_MODEL in attributes or _names_model(attributes)
            counts["span-model"] += (
                of_model and conventions.SPAN_MODEL not in attributes
            ) or _names_provider(attributes)
            counts["span-cost"] += (
                of_model
                and conventions.SPAN_USAGE in attributes
                and conventions.SPAN_COST not in attributes
            )
        counts["token-counts"] += plan.usage is not None and lacks_counts(plan)
        counts["assessment-numbers"] += sum(type(a.value) is int for a in plan.assessments)
        overridden = {a.overrides for a in plan.assessments}
        counts["assessment-fields"] += sum(
            (a.valid is False and a.assessment_id not in overridden) or a.run_id is not None
            for a in plan.assessments
        )

    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None:
        """Count nothing: the API keeps tags."""

    def found(self, release: tuple[int, int]) -> tuple[tuple[Limit, int], ...]:
        """Return the limits that affect this source on a server of this release, and how often."""
        self.counts["dataset-unused"] = len(self._datasets - self._used)
        return tuple(
            (limit, self.counts[limit.name])
            for limit in LIMITS
            if self.counts[limit.name] and limit.is_of(release)
        )


def lacks_counts(plan: TracePlan) -> bool:
    """Return True if any of a trace's three token counts is unknown."""
    usage = plan.usage
    if usage is None:
        return True
    return None in (usage.input_tokens, usage.output_tokens, usage.total_tokens)


def _names_model(attributes: Mapping[str, str]) -> bool:
    """Return True if a span names a model in other attributes than MLflow's own."""
    if any(key in attributes for key in _MODEL_ELSEWHERE):
        return True
    for key in (conventions.SPAN_INPUTS, conventions.SPAN_OUTPUTS):
        text = attributes.get(key, "")
        if '"model"' in text:  # nearly none: reading all of them would take its time
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):  # a text, or nested too deeply to be read
                continue
            if isinstance(value, dict) and value.get("model") and isinstance(value["model"], str):
                return True
    return False


def _names_provider(attributes: Mapping[str, str]) -> bool:
    return conventions.SPAN_PROVIDER not in attributes and any(
        key in attributes for key in _PROVIDER_ELSEWHERE
    )


def is_path(source: str) -> bool:
    """Return True if a version's source is a path or ``file:`` URI, which a server refuses."""
    scheme, colon, _ = source.partition(":")
    return bool(source) and (not colon or len(scheme) == 1 or scheme == "file" or "/" in scheme)


def _is_of_another_run(version: ModelVersionRecord) -> bool:
    found = re.match("runs:/+([^/]+)", version.source or "")
    return found is not None and found[1] != version.run_id


def run_fields(run: RunRecord) -> dict[str, str | int]:
    """Return the non-empty fields of a run that no call of the API sets."""
    fields: dict[str, str | int | None] = {
        "source_type": run.source_type if run.source_type != "UNKNOWN" else None,
        "source_name": run.source_name,
        "source_version": run.source_version,
        "entry_point_name": run.entry_point_name,
        "deleted_ms": run.deleted_ms,
    }
    return {key: value for key, value in fields.items() if value}


def encoded(value: float) -> float | None:
    """Return a metric value as a server keeps it, None for NaN. Points equal then are one."""
    if math.isnan(value):
        return None
    return math.copysign(1.7976931348623157e308, value) if math.isinf(value) else value
