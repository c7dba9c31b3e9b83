"""Names and limits that rebuilt traces and new traces share.

They are those of MLflow 3.9 (``mlflow.tracing.constant``, ``mlflow.store.tracking``). A few are
read only by MLflow 3.10 and later; 3.9 ignores them. Nothing here imports mlflow, so that ``scan``
starts fast; ``tests/unit/test_conventions.py`` compares the names with MLflow's.
"""

from __future__ import annotations

# ------------------------------------------------------------------ keys on runs
PARENT_RUN_ID = "mlflow.parentRunId"
RUN_NAME = "mlflow.runName"
NOTE = "mlflow.note.content"  # on experiments too: the description that MLflow's pages show

# ------------------------------------------------------------------ workspaces
DEFAULT_WORKSPACE = "default"  # of MLflow 3.10 and later; what an older release wrote is in it


def in_workspace(workspace: str, name: str) -> str:
    """What people know something by that has its name in a workspace."""
    return name if workspace == DEFAULT_WORKSPACE else f"{workspace}/{name}"


# ------------------------------------------------------------------ keys on spans
SPAN_REQUEST_ID = "mlflow.traceRequestId"
SPAN_EXPERIMENT_ID = "mlflow.experimentId"
SPAN_TYPE = "mlflow.spanType"
SPAN_INPUTS = "mlflow.spanInputs"
SPAN_OUTPUTS = "mlflow.spanOutputs"
SPAN_USAGE = "mlflow.chat.tokenUsage"
SPAN_TOOLS = "mlflow.chat.tools"
SPAN_MODEL = "mlflow.llm.model"  # read by 3.10 and later
SPAN_PROVIDER = "mlflow.llm.provider"  # read by 3.10 and later
SPAN_COST = "mlflow.llm.cost"  # read by 3.10 and later

# MLflow 3.9's attribute view hides mlflow.*, so these are written in addition.
PLAIN_MODEL = "model"
PLAIN_PROVIDER = "provider"
PLAIN_COST = "cost_usd"
PLAIN_REASONING = "reasoning_tokens"  # MLflow has no key for it
USAGE_CACHED = "cache_read_input_tokens"  # in SPAN_USAGE; read by 3.10 and later
USAGE_CACHE_WRITTEN = "cache_creation_input_tokens"  # likewise
USAGE_CACHE_WRITTEN_1H = "cache_creation_input_tokens_above_1hr"  # likewise; part of the former
WAITING = "waiting"  # attribute of a span and tag of its trace: a graph waits for a person
FEEDBACK_COST = "cost_usd"  # trace-level feedback, so that 3.9's quality view charts it
FEEDBACK_COST_MICRO = "cost_usd_micro"  # millionths: MLflow's views round to 2 or 3 decimals
FEEDBACK_TOKENS = "total_tokens"
FEEDBACK_SOURCE = "mlflow-migrate"  # source id (type CODE) of these three
LEGACY = "legacy."  # legacy.param.<key>, legacy.metric.<key>, legacy.tag.<key>, legacy.<fact>

# ----------------------------------------------------------------- keys on traces
TRACE_NAME = "mlflow.traceName"  # tag
SPANS_LOCATION = "mlflow.trace.spansLocation"  # tag
SPANS_IN_DATABASE = "TRACKING_STORE"
ARTIFACT_LOCATION = "mlflow.artifactLocation"  # tag
LINKED_PROMPTS = "mlflow.linkedPrompts"  # tag
SCHEMA_VERSION = "mlflow.trace_schema.version"  # metadata, "3"
SIZE_STATS = "mlflow.trace.sizeStats"  # metadata
SIZE_BYTES = "mlflow.trace.sizeBytes"  # metadata
TRACE_USAGE = "mlflow.trace.tokenUsage"  # metadata
TRACE_COST = "mlflow.trace.cost"  # metadata, read by 3.10 and later
TRACE_SESSION = "mlflow.trace.session"  # metadata
TRACE_USER = "mlflow.trace.user"  # metadata
SOURCE_RUN = "mlflow.sourceRun"  # metadata
TRACE_MODEL_ID = "mlflow.modelId"  # metadata: the logged model whose work it is
TRACE_INPUTS = "mlflow.traceInputs"  # metadata, JSON cut at 250 characters
TRACE_OUTPUTS = "mlflow.traceOutputs"  # metadata, likewise

# Our own: the origin of a rebuilt trace (tags, so that they show as columns).
MIGRATOR_VERSION = "migrator.version"
MIGRATOR_PROFILE = "migrator.profile"
MIGRATOR_ROLE = "migrator.role"
MIGRATOR_ROOT_RUN = "migrator.root_run_id"
MIGRATOR_INFERENCES = "migrator.inferences"
INFERRED_ROOT = "root span: made of what the trace itself says"  # an inference
MIGRATOR_UNFINISHED = "migrator.unfinished"  # "true": a run had no end (left RUNNING, killed)
MIGRATOR_SOURCE_TRACE = "migrator.source_trace_id"
MIGRATOR_SOURCE_LOCATION = "migrator.source_artifact_location"  # on a server, which sets its own
MIGRATOR_SOURCE_SIZE_STATS = "migrator.source_size_stats"  # metadata; with another num_spans
MIGRATOR_SOURCE_EXPERIMENT = "migrator.source_experiment_id"
MIGRATOR_SOURCE_NAME = "migrator.source_experiment_name"
# Our own, on items written through a server's API, which sets its own ids and times.
MIGRATOR_SOURCE_RUN = "migrator.source_run_id"
MIGRATOR_SOURCE_MODEL = "migrator.source_model_id"
MIGRATOR_SOURCE_DATASET = "migrator.source_dataset_id"  # of an evaluation dataset
MIGRATOR_SOURCE_REGISTERED_MODEL = "migrator.source_registered_model"  # the name that it got
MIGRATOR_SOURCE_FIELDS = "migrator.source_fields"  # JSON: fields that the API lacks
MIGRATOR_SEEN_TABLE = "migrator_seen"  # a table of ours: digests of what was converted
MIGRATOR_DIGEST = "migrator.digest"  # of the source's content; set last, when it is complete

# ------------------------------------------------------------ keys on experiments
EXPERIMENT_KIND = "mlflow.experimentKind"
EXPERIMENT_KIND_GENAI = "genai_development"

# ------------------------------------------------------------------------- limits
PREVIEW_CHARS = 1000
METADATA_CHARS = 250  # accepted by MLflow's REST layer; the column holds 8000
TRACE_TAG_CHARS = 4096  # likewise
ID_COLUMN_CHARS = 50
MAX_DICT_DEPTH = 30  # protobuf fails above 32 nested objects, or 48 nested arrays
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# Experiment ids that we derive for a database server are between this and twice this. The column
# holds 2,147,483,647. Sequences do not get here, and MySQL, which continues after the greatest id,
# has room above.
LEAST_DERIVED_ID = 1_000_000_000
