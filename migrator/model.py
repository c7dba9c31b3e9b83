"""The values that stages exchange: records and plans.

Records (``…Record``) are made by the extractor: decoded values of the source, without decisions.
Plans (``…Plan``) are made by the transformer: the rows that the loader writes and ``verify``
expects. All are frozen, so that a decision can be shown, tested and compared before it has an
effect.

Units are in the names: ``_ms`` milliseconds and ``_ns`` nanoseconds since the Unix epoch (UTC).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from migrator import conventions
from migrator.issues import Issue, Kind

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


Counts: TypeAlias = "Mapping[Kind, int]"


# --------------------------------------------------------------------------- what was found


@dataclass(frozen=True, slots=True)
class Entry:
    """A directory that the walk over the store found to be an entity, without parsed files."""

    entity_id: str  # the directory's name; for a run, an id that MLflow accepts
    folder: str  # absolute path of the parent directory; its entries share the string
    name: str  # of the directory itself
    experiment_id: str | None = None  # of the experiment's directory, if it is in one
    in_trash: bool = False

    @property
    def path(self) -> str:
        """The absolute path. It is not stored, to save memory: stores have 100,000s of entries."""
        return f"{self.folder}{os.sep}{self.name}"


@dataclass(frozen=True, slots=True)
class RunEntry(Entry):
    """A run directory, and its parent run."""

    parent_run_id: str | None = None  # tag mlflow.parentRunId


@dataclass(frozen=True, slots=True)
class TraceEntry(Entry):
    """The directory of a native trace, and the run in which it was written."""

    source_run_id: str | None = None  # metadata mlflow.sourceRun


@dataclass(frozen=True, slots=True)
class AssetEntry(Entry):
    """An evaluation dataset, scorer, webhook or workspace (``Asset``) that a source lists."""

    kind: Kind = Kind.EVALUATION_DATASET
    experiment_ids: tuple[str, ...] = ()  # to which an evaluation dataset is linked


@dataclass(frozen=True, slots=True)
class RegistryEntry(Entry):
    """A registered model or prompt; its name is unique in a workspace only."""

    workspace: str = conventions.DEFAULT_WORKSPACE


@dataclass(frozen=True, slots=True)
class SourceIndex:
    """The entities that one walk over a file store found: a few hundred bytes for each run.

    Entries are sorted by path, so that results do not depend on the order of directories.
    """

    root: str  # absolute path of the store (the directory that holds the experiments)
    experiments: tuple[Entry, ...]
    runs: tuple[RunEntry, ...]
    datasets: tuple[Entry, ...]
    traces: tuple[TraceEntry, ...]
    logged_models: tuple[Entry, ...]
    registered_models: tuple[RegistryEntry, ...]
    files: int  # regular files below root; those in runs may not be counted
    size_bytes: int
    ignored_files: int  # files outside of entities; each has an issue
    issues: tuple[Issue, ...]
    artifact_files: int = 0  # files outside of entities that are artifacts of one
    assets: tuple[AssetEntry, ...] = ()

    def of_owners(self, is_chosen: Callable[[Entry], bool]) -> SourceIndex:
        """The same without the runs, logged models and traces that are not chosen."""
        return replace(
            self,
            runs=tuple(filter(is_chosen, self.runs)),
            logged_models=tuple(filter(is_chosen, self.logged_models)),
            traces=tuple(filter(is_chosen, self.traces)),
        )


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Extracted(Generic[T]):
    """The result of reading the directory of one entity.

    ``found`` is counted from directory listings and lines, independently of parsing. ``record`` is
    None if nothing could be kept; an issue of severity REJECTED gives the reason. ``merged`` counts
    items that were found twice and kept once (equal metric points). The regular files in the
    directory are ``files_read + files_referred + files_ignored``.

    ``files_found`` is the number of files in the listings, and ``folders_missed`` the number of
    listed directories that were not listed themselves. Both are used for runs only; the walk over
    the store counts the other files.
    """

    record: T | None
    found: Counts
    merged: Counts
    issues: tuple[Issue, ...]
    files_read: int = 0
    files_referred: int = 0  # artifacts
    files_ignored: int = 0  # each has an issue
    files_found: int = 0
    folders_missed: int = 0
    size_bytes: int = 0  # of those files


# ---------------------------------------------------------------------------- what was read


class MetricPoint(NamedTuple):
    """One line of a metric file. A NamedTuple: stores hold millions of these."""

    timestamp_ms: int
    value: float
    step: int


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """A file below a run's ``artifacts/``; ``path`` is relative to it, with ``/``."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Location:
    """A recorded artifact location, and the files that this machine has for it.

    ``scheme`` is ``file`` for every local form (``file:`` URIs, POSIX and Windows paths), empty if
    nothing is recorded, otherwise as recorded (``s3``, ``dbfs``, ``mlflow-artifacts``, …).
    """

    recorded: str
    scheme: str
    exists: bool  # local, and the file or directory exists on this machine
    relative: bool  # local, relative to the working directory of a process
    own_form: bool  # ends in the ids of its owner, as MLflow's own locations do
    home: str  # absolute path of the owner's own artifacts directory, which may not exist
    found: str | None  # absolute path of the directory that has the files, or could have them
    has_files: bool  # the directory ``found`` has files


@dataclass(frozen=True, slots=True)
class RootChange:
    """A root of recorded artifact locations, and where what lay below it is now."""

    old: str  # as a location: "s3://bucket/mlflow", "C:/Users/ana/project", "mlflow-artifacts:/"
    new: str  # absolute path on this machine, or the address of an object store
    is_told: bool = False  # by the user; otherwise concluded from where files lie

    def __str__(self) -> str:
        """The change as it is given on the command line."""
        return f"{self.old}={self.new}"


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """An experiment. ``experiment_id`` is the name of its directory."""

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str  # active | deleted (also if it is in .trash)
    creation_ms: int | None
    last_update_ms: int | None
    tags: Mapping[str, str]
    path: str  # absolute directory
    workspace: str = conventions.DEFAULT_WORKSPACE

    @property
    def deleted(self) -> bool:
        return self.lifecycle_stage == "deleted"


@dataclass(frozen=True, slots=True)
class InputRecord:
    """An input of a run: a dataset of its experiment, or (3.x) a logged model."""

    source_type: str  # DATASET | MODEL
    source_id: str  # the dataset's directory name (md5), or the model id
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """A logged model that a run produced, at a step (3.x)."""

    model_id: str
    step: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run. ``run_id`` is the name of its directory, or derived from it if MLflow refuses it."""

    run_id: str
    experiment_id: str
    name: str
    status: str  # RUNNING | SCHEDULED | FINISHED | FAILED | KILLED
    start_ms: int | None
    end_ms: int | None
    lifecycle_stage: str  # active | deleted
    deleted_ms: int | None
    user_id: str
    source_type: str  # NOTEBOOK | JOB | LOCAL | PROJECT | UNKNOWN
    source_name: str
    source_version: str
    entry_point_name: str
    artifact_uri: str  # as recorded; it may point to another machine
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, tuple[MetricPoint, ...]]  # in file order, exact repeats merged
    artifacts: tuple[ArtifactFile, ...]
    texts: Mapping[str, str]  # relative path -> decoded text of the artifacts that profiles read
    inputs: tuple[InputRecord, ...]
    outputs: tuple[OutputRecord, ...]
    path: str  # absolute directory
    artifact_dir: str | None  # absolute directory that has the artifacts, if any
    deleted_with_experiment: bool = False  # deleted only because its experiment was

    @property
    def deleted(self) -> bool:
        return self.lifecycle_stage == "deleted"

    @property
    def parent_run_id(self) -> str | None:
        # A git hook or an editor may have added a line end to the tag's file.
        return self.tags.get("mlflow.parentRunId", "").strip() or None


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """A dataset of an experiment. ``dataset_id`` is the directory's name (an md5)."""

    dataset_id: str
    experiment_id: str
    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None
    profile: str | None


@dataclass(frozen=True, slots=True)
class LoggedModelMetric:
    """A point of a logged model's metric, measured by a run."""

    key: str
    timestamp_ms: int
    value: float
    step: int
    run_id: str
    dataset_name: str | None
    dataset_digest: str | None


@dataclass(frozen=True, slots=True)
class LoggedModelRecord:
    """A logged model of MLflow 3.x (``<experiment>/models/m-…``)."""

    model_id: str
    experiment_id: str
    name: str
    artifact_location: str
    creation_ms: int
    last_updated_ms: int
    status: int  # 0 unspecified, 1 PENDING, 2 READY, 3 FAILED
    status_message: str | None
    lifecycle_stage: str
    model_type: str | None
    source_run_id: str | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: tuple[LoggedModelMetric, ...]
    path: str
    artifact_dir: str | None


@dataclass(frozen=True, slots=True)
class ModelVersionRecord:
    """A version of a registered model or prompt."""

    name: str
    version: int
    creation_ms: int | None
    last_updated_ms: int | None
    description: str | None
    user_id: str | None
    current_stage: str | None
    source: str | None
    run_id: str | None
    status: str | None
    status_message: str | None
    run_link: str | None
    storage_location: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RegisteredModelRecord:
    """A registered model or prompt (``models/<name>``), with its versions."""

    name: str
    creation_ms: int | None
    last_updated_ms: int | None
    description: str | None
    tags: Mapping[str, str]
    aliases: Mapping[str, int]
    versions: tuple[ModelVersionRecord, ...]
    path: str
    workspace: str = conventions.DEFAULT_WORKSPACE

    @property
    def full_name(self) -> str:
        """The name, after that of a workspace other than the default one."""
        return conventions.in_workspace(self.workspace, self.name)


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """An event of a span. ``attributes`` are plain JSON values."""

    name: str
    time_ns: int
    attributes: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """A span of a native trace, from any format of ``traces.json``.

    Ids are 16 hex digits. The values of ``attributes`` are JSON text, as MLflow stores them.
    """

    span_id: str
    parent_span_id: str | None
    name: str
    start_ns: int
    end_ns: int | None
    status: str  # UNSET | OK | ERROR
    status_message: str
    attributes: Mapping[str, str]
    events: tuple[SpanEvent, ...]


@dataclass(frozen=True, slots=True)
class AssessmentRecord:
    """Feedback on a trace, or an expectation (MLflow 3.2 and later)."""

    assessment_id: str
    name: str
    type: str  # feedback | expectation
    value: Json
    error: Json  # {error_code, error_message, stack_trace} or None
    source_type: str  # HUMAN | LLM_JUDGE | CODE
    source_id: str | None
    created_ms: int
    last_updated_ms: int
    run_id: str | None = None
    span_id: str | None = None  # 16 hex digits; None for the whole trace
    rationale: str | None = None
    overrides: str | None = None
    valid: bool = True
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """A link from a trace or evaluation dataset to something else (MLflow 3.5 and later)."""

    kind: str  # run | prompt_version | experiment: ``mlflow.entities.EntityAssociationType``
    target_id: str  # of a prompt version, "name/version"
    created_ms: int | None


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """A trace that MLflow itself wrote (2.14 and later)."""

    trace_id: str  # the directory's name
    experiment_id: str
    timestamp_ms: int
    execution_ms: int | None
    status: str  # OK | ERROR | IN_PROGRESS | STATE_UNSPECIFIED
    client_request_id: str | None
    request_preview: str | None
    response_preview: str | None
    tags: Mapping[str, str]
    metadata: Mapping[str, str]
    assessments: tuple[AssessmentRecord, ...]
    spans: tuple[SpanRecord, ...]
    path: str
    spans_path: str | None  # where traces.json was found
    links: tuple[LinkRecord, ...] = ()  # that the source keeps apart from tags and metadata


@dataclass(frozen=True, slots=True)
class EvaluationItemRecord:
    """One record of an evaluation dataset. The values of JSON columns are their text."""

    record_id: str
    inputs: str
    expectations: str | None
    outputs: str | None
    tags: str | None
    source: str | None
    source_id: str | None
    source_type: str | None
    created_ms: int | None
    last_updated_ms: int | None
    created_by: str | None
    last_updated_by: str | None
    input_hash: str


@dataclass(frozen=True, slots=True)
class EvaluationDatasetRecord:
    """An evaluation dataset with its records (MLflow 3.4 and later)."""

    dataset_id: str
    name: str
    schema: str | None
    profile: str | None
    digest: str | None
    created_ms: int | None
    last_updated_ms: int | None
    created_by: str | None
    last_updated_by: str | None
    tags: Mapping[str, str]
    items: tuple[EvaluationItemRecord, ...]
    links: tuple[LinkRecord, ...]  # to experiments
    path: str
    workspace: str = conventions.DEFAULT_WORKSPACE


@dataclass(frozen=True, slots=True)
class ScorerVersionRecord:
    """A version of a scorer; ``serialized`` is the scorer as MLflow's JSON."""

    version: int
    serialized: str
    created_ms: int | None


@dataclass(frozen=True, slots=True)
class ScorerRecord:
    """A scorer that is registered in an experiment, with its versions."""

    scorer_id: str
    experiment_id: str
    name: str
    versions: tuple[ScorerVersionRecord, ...]
    path: str


@dataclass(frozen=True, slots=True)
class WebhookEventRecord:
    """An event for which a webhook is called."""

    entity: str
    action: str


@dataclass(frozen=True, slots=True)
class WebhookRecord:
    """A webhook. Its secret is not read: it is encrypted with a key of the old server."""

    webhook_id: str
    name: str
    description: str | None
    url: str
    status: str  # ACTIVE | DISABLED
    created_ms: int | None
    last_updated_ms: int | None
    deleted_ms: int | None
    events: tuple[WebhookEventRecord, ...]
    path: str
    workspace: str = conventions.DEFAULT_WORKSPACE


@dataclass(frozen=True, slots=True)
class WorkspaceRecord:
    """A workspace (MLflow 3.10 and later): what belongs to it names it."""

    name: str
    description: str | None
    default_artifact_root: str | None
    trace_archival_location: str | None
    trace_archival_retention: str | None
    path: str


Asset: TypeAlias = "EvaluationDatasetRecord | ScorerRecord | WebhookRecord | WorkspaceRecord"


# --------------------------------------------------------------------- what was decided


class Role(str, Enum):
    """The role of a tree of runs (``docs/reference/mapping.md``)."""

    WORKFLOW = "workflow"  # root and steps: one trace
    SESSION = "session"  # children are turns: a trace each, one session id
    BATCH = "batch"  # children are independent cases: a trace each
    CALL = "call"  # a childless run that recorded one LLM call, query or request
    SWEEP = "sweep"  # trials or folds: kept as runs
    PIPELINE = "pipeline"  # ML stages: kept as runs
    TRAINING = "training"  # a childless run without LLM evidence: kept as a run


class SpanType:
    """MLflow's span types (``mlflow.entities.SpanType`` of 3.9)."""

    LLM = "LLM"
    CHAT_MODEL = "CHAT_MODEL"
    CHAIN = "CHAIN"
    AGENT = "AGENT"
    TOOL = "TOOL"
    RETRIEVER = "RETRIEVER"
    EMBEDDING = "EMBEDDING"
    RERANKER = "RERANKER"
    PARSER = "PARSER"
    MEMORY = "MEMORY"
    WORKFLOW = "WORKFLOW"
    TASK = "TASK"
    GUARDRAIL = "GUARDRAIL"
    EVALUATOR = "EVALUATOR"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class ConvertedExperiment:
    """An experiment that an earlier conversion may have written: its id there, and who it is."""

    target_id: int
    creation_ms: int | None
    name: str


@dataclass(frozen=True, slots=True)
class ExistingExperiment:
    """An experiment of the target, and what it says about the one that it came from."""

    target_id: int
    name: str
    creation_ms: int | None = None  # of the experiment in the source, where that is known
    deleted: bool = False
    source_id: str | None = None  # tag migrator.source_experiment_id
    source_name: str | None = None  # tag migrator.source_experiment_name
    has_runs: bool = False
    workspace: str = conventions.DEFAULT_WORKSPACE


@dataclass(frozen=True, slots=True)
class ExperimentPlan:
    """An experiment as it will be in the target.

    ``target_id`` is the source's id if the target's integer column can hold it and it is free;
    otherwise it is derived from the source, and a tag keeps the old id.
    """

    record: ExperimentRecord
    target_id: int
    target_name: str
    artifact_location: str
    tags: Mapping[str, str]
    merged: bool = False  # its runs go into an experiment of the target or of an earlier source


@dataclass(frozen=True, slots=True)
class ArtifactCopy:
    """A directory of artifacts to copy, and its owner. Paths are absolute."""

    kind: Kind
    entity_id: str  # in the target
    source: str
    bound: str  # links in ``source`` are followed only inside this directory
    target: str


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of a span or trace (keys of ``mlflow.chat.tokenUsage``)."""

    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None


@dataclass(frozen=True, slots=True)
class SpanPlan:
    """A span as it will be written. The values of ``attributes`` are JSON text (``encoding``)."""

    span_id: str  # 16 hex digits
    parent_span_id: str | None
    name: str
    type: str
    status: str  # UNSET | OK | ERROR
    status_message: str
    start_ns: int
    end_ns: int  # never before start_ns
    attributes: Mapping[str, str]
    events: tuple[SpanEvent, ...] = ()
    run_id: str | None = None  # the run it was rebuilt from
    origins: Mapping[str, str] = field(default_factory=dict)  # "inputs" -> "artifact inputs.json"


@dataclass(frozen=True, slots=True)
class TracePlan:
    """A trace as it will be written: rebuilt from runs, or a native one.

    ``spans`` begin with the root, and every parent comes before its children.
    """

    trace_id: str  # tr- and 32 hex digits
    experiment_id: str  # the source's
    timestamp_ms: int
    execution_ms: int | None
    status: str  # OK | ERROR | IN_PROGRESS | STATE_UNSPECIFIED
    name: str | None
    client_request_id: str | None
    request_preview: str | None
    response_preview: str | None
    tags: Mapping[str, str]  # all rows of trace_tags, the user's and ours
    metadata: Mapping[str, str]  # all rows of trace_request_metadata
    usage: TokenUsage | None  # rows of trace_metrics
    spans: tuple[SpanPlan, ...]
    assessments: tuple[AssessmentRecord, ...]
    run_ids: tuple[str, ...]  # runs whose pages list this trace, the source run first
    prompts: tuple[str, ...] = ()  # linked prompt versions, "name/version"
    links: tuple[LinkRecord, ...] = ()  # that the source keeps, with their times
    native: bool = False
    # encoding.span_content of each span if a worker has computed it, which takes long.
    contents: Sequence[str] = field(default=(), compare=False, repr=False)

    @property
    def all_links(self) -> tuple[LinkRecord, ...]:
        """Every link that is written, once: the source's, then those to runs and prompts."""
        own = [("run", run_id) for run_id in self.run_ids]
        own += [("prompt_version", prompt) for prompt in self.prompts]
        found = {(link.kind, link.target_id): link for link in self.links}
        for kind, target_id in own:
            found.setdefault((kind, target_id), LinkRecord(kind, target_id, self.timestamp_ms))
        return tuple(found.values())


@dataclass(frozen=True, slots=True)
class TreePlan:
    """The traces that are made of a tree of runs, with the reasons."""

    root_run_id: str
    run_ids: tuple[str, ...]  # every run of the tree, the root first
    depth: int  # 1 for a childless root
    role: Role
    profile: str | None  # the profile that was used, if any
    reasons: tuple[str, ...]  # sentences for scan, show and the report
    traces: tuple[TracePlan, ...]  # empty if it is kept as runs
    left_as_runs: str | None  # why there is no trace: "sweeps", "pipelines", "flat", "deleted", …
    issues: tuple[Issue, ...] = ()
