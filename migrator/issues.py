"""Issue codes: everything that can be wrong with a source, named once.

A code is stable: users filter reports by it. ``docs/reference/issue-codes.md`` is generated from
``CATALOG``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """What an issue means for the entity it names."""

    NOTE = "note"  # nothing is lost: equal metric points, an ignored editor file, …
    DEGRADED = "degraded"  # converted, but something of it was repaired, cut or guessed
    REJECTED = "rejected"  # not converted: exit code 3


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One issue code: its severity, and the two sentences that the reference page prints."""

    severity: Severity
    meaning: str
    action: str  # what a user can do about it


class Code(str, Enum):
    """Stable names of issues; see ``CATALOG`` for what each means."""

    # A stage's author adds members here, each with its entry below.
    FILE_IGNORED = "file-ignored"

    # pipeline: the same entity more than once
    ENTITY_REPEATED = "entity-repeated"
    ENTITY_DIFFERS = "entity-differs"
    ENTITY_CLASHES = "entity-clashes"
    EXPERIMENT_TAG_DIFFERS = "experiment-tag-differs"
    STORE_CHANGED = "store-changed"

    # sources that are fetched
    OBJECT_NAME_UNUSABLE = "object-name-unusable"

    # loader
    TARGET_DIFFERS = "target-differs"
    TARGET_UPDATED = "target-updated"
    LOAD_DUPLICATE = "load-duplicate"
    LOAD_REFUSED = "load-refused"
    LOAD_WITHOUT_PARENT = "load-without-parent"
    LOAD_TEXT_REPAIRED = "load-text-repaired"
    LOAD_TEXT_CUT = "load-text-cut"
    LOAD_MODEL_NAN = "load-model-nan"
    LOAD_DEFAULT_ADDED = "load-default-added"

    # server: what goes through a server's API
    SERVER_REFUSED = "server-refused"
    SERVER_VALUE_CUT = "server-value-cut"
    SERVER_DATASET_UNUSED = "server-dataset-unused"
    SERVER_ARTIFACTS_LEFT = "server-artifacts-left"
    SERVER_SOURCE_CHANGED = "server-source-changed"
    # transformer: trees of runs
    RUN_PARENT_MISSING = "run-parent-missing"
    RUN_PARENT_SELF = "run-parent-self"
    RUN_PARENT_CYCLE = "run-parent-cycle"
    RUN_PARENT_ELSEWHERE = "run-parent-elsewhere"
    # transformer: traces rebuilt from runs
    ARTIFACT_NOT_JSON = "artifact-not-json"
    ARTIFACT_NOT_TABLE = "artifact-not-a-table"
    PROFILE_AMBIGUOUS = "profile-ambiguous"
    PROFILE_UNUSED = "profile-takes-nothing"
    RUN_WITHOUT_TIME = "run-without-time"
    SPAN_ENDS_BEFORE_START = "span-ends-before-start"
    SESSION_ID_CHANGED = "session-id-changed"
    RUN_GROUPED_BY_TIME = "run-grouped-by-time"
    RUN_ADOPTED = "run-adopted"
    TIME_IMPLAUSIBLE = "time-implausible"
    ASSESSMENT_TYPES_MIXED = "assessment-types-mixed"
    # transformer: traces that MLflow wrote
    TRACE_ID_CHANGED = "trace-id-changed"
    TRACE_WITHOUT_SPANS = "trace-without-spans"
    TRACE_ROOT_ADDED = "trace-root-added"
    TRACE_SPAN_CLOSED = "trace-span-closed"
    TRACE_VALUE_CHANGED = "trace-value-changed"
    # transformer: experiments
    EXPERIMENT_ID_CHANGED = "experiment-id-changed"
    EXPERIMENT_RENAMED = "experiment-renamed"
    EXPERIMENT_MERGED = "experiment-merged"
    # -- extractor: what lies in the store beside MLflow's files
    DIRECTORY_IGNORED = "directory-ignored"
    RUNS_IGNORED = "runs-ignored"
    STAND_IN_READ = "stand-in-read"
    SPECIAL_FILE_IGNORED = "special-file-ignored"
    LINK_INSIDE_STORE = "link-inside-store"
    LINK_NOT_FOLLOWED = "link-not-followed"
    ARTIFACT_LINK = "artifact-link-not-followed"
    SPECIAL_FILE = "special-file"
    CONFLICT_COPY = "conflict-copy"
    FILE_UNREADABLE = "file-unreadable"
    FILE_VANISHED = "file-vanished"
    FILE_TOO_LARGE = "file-too-large"
    DIRECTORY_UNREADABLE = "directory-unreadable"
    FOLDER_IS_A_FILE = "folder-is-a-file"
    NAME_UNDECODABLE = "name-undecodable"
    NAME_TWICE = "name-twice"
    TEXT_UNDECODABLE = "text-undecodable"
    LOST_WITH_OWNER = "lost-with-its-owner"
    NOTHING_READABLE = "nothing-readable"

    # -- extractor: meta.yaml and its like
    META_MISSING = "meta-missing"
    META_EMPTY = "meta-empty"
    META_UNREADABLE = "meta-unreadable"
    META_DAMAGED = "meta-damaged"
    META_NOT_A_MAPPING = "meta-not-a-mapping"
    META_UNSAFE = "meta-unsafe"
    META_TRUNCATED = "meta-truncated"
    META_DUPLICATE_KEY = "meta-duplicate-key"
    META_VALUE_UNUSABLE = "meta-value-unusable"
    META_VALUE_CONVERTED = "meta-value-converted"
    META_VALUE_UNKNOWN = "meta-value-unknown"
    META_KEY_UNKNOWN = "meta-key-unknown"
    ID_MISMATCH = "id-differs-from-directory"
    TIME_NOT_MS = "time-not-in-milliseconds"

    # -- extractor: experiments and runs
    EXPERIMENT_REBUILT = "experiment-rebuilt"
    EXPERIMENT_IN_FOLDER = "experiment-in-folder"
    RUN_OUTSIDE_EXPERIMENT = "run-outside-experiment"
    RUN_WITHOUT_EXPERIMENT = "run-without-experiment"
    RUN_REBUILT = "run-rebuilt"
    RUN_EMPTY = "run-empty"
    RUN_START_UNKNOWN = "run-start-unknown"
    RUN_ID_CHANGED = "run-id-changed"
    STATUS_UNKNOWN = "status-unknown"
    RUN_ENDS_BEFORE_START = "run-ends-before-start"
    INLINE_TAGS_USED = "inline-tags-used"
    INPUT_DAMAGED = "input-damaged"
    OUTPUT_DAMAGED = "output-damaged"
    DATASET_DAMAGED = "dataset-damaged"
    ARTIFACTS_IN_TWO_PLACES = "artifacts-in-two-places"
    ARTIFACT_UNREADABLE = "artifact-unreadable"
    ARTIFACT_NOT_TEXT = "artifact-not-text"

    # artifact locations: --artifacts copy:DIR
    ARTIFACT_NOT_COPIED = "artifact-not-copied"
    ARTIFACT_COPY_REPLACED = "artifact-copy-replaced"

    # -- extractor: metrics
    METRIC_LINE_MALFORMED = "metric-line-malformed"
    METRIC_LINE_TRUNCATED = "metric-line-truncated"
    METRIC_LINE_UNFINISHED = "metric-line-unfinished"
    METRIC_POINT_REPEATED = "metric-point-repeated"
    METRIC_NUMBER_REPAIRED = "metric-number-repaired"
    METRIC_VALUE_BOOLEAN = "metric-value-boolean"
    METRIC_OUT_OF_RANGE = "metric-out-of-range"
    METRIC_FILE_EMPTY = "metric-file-empty"
    METRIC_DATASET_DROPPED = "metric-dataset-dropped"

    # -- extractor: traces
    TRACE_EMPTY = "trace-empty"
    TRACE_REBUILT = "trace-rebuilt"
    TRACE_TIME_MISSING = "trace-time-missing"
    SPANS_MISSING = "spans-missing"
    TRACE_NEVER_ENDED = "trace-never-ended"
    SPANS_DAMAGED = "spans-damaged"
    SPAN_DAMAGED = "span-damaged"
    SPAN_REPAIRED = "span-repaired"
    SPAN_TWICE = "span-twice"
    ASSESSMENT_DAMAGED = "assessment-damaged"
    ASSESSMENT_REPAIRED = "assessment-repaired"

    # -- extractor: models
    MODEL_REBUILT = "model-rebuilt"
    MODEL_EMPTY = "model-empty"
    MODEL_VERSION_REBUILT = "model-version-rebuilt"
    MODEL_VERSION_TIME_MISSING = "model-version-time-missing"
    MODEL_VERSION_DAMAGED = "model-version-damaged"
    ALIAS_DAMAGED = "alias-damaged"
    ALIAS_DANGLING = "alias-dangling"


CATALOG: dict[Code, CatalogEntry] = {
    Code.FILE_IGNORED: CatalogEntry(
        Severity.NOTE,
        "A file that is not part of MLflow's layout (an editor's, a sync tool's, a README).",
        "Nothing; it stays where it is.",
    ),
    Code.ENTITY_REPEATED: CatalogEntry(
        Severity.NOTE,
        "The same run, trace, dataset or model lies in two places, with the same content or in "
        "another state (it went on after one of the two was copied).",
        "Nothing; it was taken once, with all that is in either.",
    ),
    Code.ENTITY_DIFFERS: CatalogEntry(
        Severity.DEGRADED,
        "The same run, trace, dataset or model lies in two places, with other values of what may "
        "change (tags, a name, a status); those of the first were taken, and what only the second "
        "has was added.",
        "Compare the two, and set what is wrong in the database.",
    ),
    Code.ENTITY_CLASHES: CatalogEntry(
        Severity.REJECTED,
        "Two runs, traces, datasets or models have one id, which is unique in a database: they "
        "differ in what MLflow never changes (experiment, start or creation time, params, metric "
        "points). Only the first was taken: what the target has, then of several sources the "
        "first, in one source the active one before a deleted one, then the shorter path.",
        "Decide which of the two is right; convert the other into a database of its own, or "
        "delete the one in the target and convert again.",
    ),
    Code.EXPERIMENT_TAG_DIFFERS: CatalogEntry(
        Severity.DEGRADED,
        "Two sources share an experiment, but one of its tags has different values in them; the "
        "first one's was taken.",
        "Set the tag to the value that you want in the database.",
    ),
    Code.STORE_CHANGED: CatalogEntry(
        Severity.DEGRADED,
        "Files appeared or vanished between the walk over the store and the reading: something "
        "else writes into it. What was there when it was read was converted.",
        "Convert again when nothing writes into the store; what is missing is added.",
    ),
    Code.OBJECT_NAME_UNUSABLE: CatalogEntry(
        Severity.REJECTED,
        "An object of a bucket has a name that no file here can have (an empty part, .., that of a "
        "folder, too long, the same as another but for its letters). It was not fetched.",
        "If it is one of MLflow's, copy it to another key; else nothing.",
    ),
    # loader
    Code.TARGET_DIFFERS: CatalogEntry(
        Severity.DEGRADED,
        "The target already holds this, with other values; it was left as the target has it.",
        "Compare the two; to take over the source's values, delete it in the target and convert "
        "again, or convert into a new database.",
    ),
    Code.TARGET_UPDATED: CatalogEntry(
        Severity.NOTE,
        "The target held a run or trace that had not ended, or a trace that lacked spans; it was "
        "brought up to date with the source.",
        "Nothing.",
    ),
    Code.LOAD_DUPLICATE: CatalogEntry(
        Severity.REJECTED,
        "The sources hold two entities of one id with different places; the first was taken.",
        "If the second is a copy there is nothing to do; otherwise convert it into a database "
        "of its own.",
    ),
    Code.LOAD_REFUSED: CatalogEntry(
        Severity.REJECTED,
        "The database refuses this row: its key is taken, or a value is outside what the column "
        "can hold.",
        "Correct the value in the source's file and convert again.",
    ),
    Code.LOAD_WITHOUT_PARENT: CatalogEntry(
        Severity.REJECTED,
        "This belongs to something that is not in the source, or was rejected itself.",
        "Restore what it belongs to and convert again.",
    ),
    Code.LOAD_TEXT_REPAIRED: CatalogEntry(
        Severity.DEGRADED,
        "Text holds half characters (lone surrogates), which no database can store, or characters "
        "that this one can't (PostgreSQL has no NUL, latin1 no Greek): each became a question "
        "mark, a NUL nothing.",
        "Nothing; the source keeps the text as it is.",
    ),
    Code.LOAD_TEXT_CUT: CatalogEntry(
        Severity.DEGRADED,
        "Text is longer than the column of the server holds, and was cut. SQLite files hold it "
        "whole.",
        "Read the whole text in the source; a location that was cut leads nowhere: convert with "
        "--artifacts copy:DIR and a short DIR, or from a store with a shorter path.",
    ),
    Code.LOAD_MODEL_NAN: CatalogEntry(
        Severity.DEGRADED,
        "A logged model's metric is NaN. MLflow's database has no NaN there and stores 0, as "
        "MLflow itself does; the run's own metric keeps NaN.",
        "Read this value from the run's metric, not from the model's.",
    ),
    Code.LOAD_DEFAULT_ADDED: CatalogEntry(
        Severity.NOTE,
        "An experiment with another id than 0 is called Default. MLflow would try to make "
        "experiment 0 of that name and fail to open the database, so that an empty, deleted "
        "experiment 0 was added.",
        "Nothing.",
    ),
    Code.SERVER_REFUSED: CatalogEntry(
        Severity.REJECTED,
        "The server's API refuses this: a key or value outside its rules, or a fault of its own.",
        "See the message; a SQLite target takes what the API refuses.",
    ),
    Code.SERVER_VALUE_CUT: CatalogEntry(
        Severity.DEGRADED,
        "The server's API takes no value of this length; it was cut to what it takes.",
        "Read the whole value in the source; a SQLite target keeps it.",
    ),
    Code.SERVER_DATASET_UNUSED: CatalogEntry(
        Severity.REJECTED,
        "No run that was converted uses this dataset, and the server's API makes datasets only "
        "as inputs of runs.",
        "Nothing; a SQLite target keeps it.",
    ),
    Code.SERVER_ARTIFACTS_LEFT: CatalogEntry(
        Severity.DEGRADED,
        "Artifacts were not sent to the server; the tag migrator.source_fields says where they "
        "were recorded.",
        "See the message, and convert again: what is missing is sent.",
    ),
    Code.SERVER_SOURCE_CHANGED: CatalogEntry(
        Severity.DEGRADED,
        "A server takes no model version whose source is a path of the client's machine, or, from "
        "MLflow 3.17 on, lies in another run or logged model than the version's own; another "
        "source was written, and the tag migrator.source_fields has the recorded one.",
        "Send the model's files to the server and register them again.",
    ),
    Code.RUN_PARENT_MISSING: CatalogEntry(
        Severity.NOTE,
        "A run names a parent that is not in the store (deleted for good, or in another store).",
        "If the parent lies in another store, convert both in one call.",
    ),
    Code.RUN_PARENT_SELF: CatalogEntry(
        Severity.NOTE, "A run names itself as its parent.", "Nothing; it is a root now."
    ),
    Code.RUN_PARENT_CYCLE: CatalogEntry(
        Severity.DEGRADED,
        "Runs name one another as parents in a circle.",
        "Correct the tag mlflow.parentRunId of the run that should be the root, and convert again.",
    ),
    Code.RUN_PARENT_ELSEWHERE: CatalogEntry(
        Severity.NOTE,
        "A run and its parent lie in different experiments.",
        "Nothing; the trace belongs to the root's experiment.",
    ),
    Code.ARTIFACT_NOT_JSON: CatalogEntry(
        Severity.NOTE,
        "A .json artifact that a trace is made from does not parse as JSON.",
        "Nothing; its text is in the trace as it is.",
    ),
    Code.ARTIFACT_NOT_TABLE: CatalogEntry(
        Severity.NOTE,
        "A file that is to hold a table of evaluations or predictions holds none, or rows that do "
        "not fit its columns.",
        "Nothing; rows that can be read are traces, the file stays an artifact.",
    ),
    Code.PROFILE_AMBIGUOUS: CatalogEntry(
        Severity.NOTE,
        "More than one profile recognises a tree of runs; the first one took it.",
        "Name the profile with --profile, or make its [[recognise]] stricter.",
    ),
    Code.PROFILE_UNUSED: CatalogEntry(
        Severity.NOTE,
        "A profile of yours took no tree of runs.",
        "'mlflow-migrate profiles check FILE SOURCE' says what it recognises.",
    ),
    Code.RUN_GROUPED_BY_TIME: CatalogEntry(
        Severity.NOTE,
        "A run without a parent became a step of the workflow that covers it (--group-by-time).",
        "If it was none of its steps, convert without --group-by-time.",
    ),
    Code.RUN_ADOPTED: CatalogEntry(
        Severity.NOTE,
        "A step that had lost its workflow was put below the one before it (--adopt-orphans).",
        "If it belongs elsewhere, convert without --adopt-orphans.",
    ),
    Code.RUN_WITHOUT_TIME: CatalogEntry(
        Severity.DEGRADED,
        "A run has no start time, and nothing in it or around it has a time either.",
        "Nothing can be done; its trace stands at the start of 1970.",
    ),
    Code.SPAN_ENDS_BEFORE_START: CatalogEntry(
        Severity.DEGRADED,
        "A run's end lies before its start (a clock was set back).",
        "Nothing; its span ends where it starts.",
    ),
    Code.SESSION_ID_CHANGED: CatalogEntry(
        Severity.DEGRADED,
        "A session or user id that MLflow can't open: over 250 characters, or with a quote in it.",
        "--values shows both ids.",
    ),
    Code.TIME_IMPLAUSIBLE: CatalogEntry(
        Severity.DEGRADED,
        "A run or call of a trace is dated so far outside its root's time that a wrong clock or "
        "time zone must have dated it, or a time lies before 1973 and those beside it do not. The "
        "span was moved into its parent's with its recorded duration, or takes the times beside "
        "it; the attributes legacy.recorded_start_ms and legacy.recorded_end_ms keep what was "
        "recorded.",
        "Nothing, if the date of the trace is right. The run itself keeps its recorded times.",
    ),
    Code.ASSESSMENT_TYPES_MIXED: CatalogEntry(
        Severity.DEGRADED,
        "Assessments of one name have values of several types in one experiment (true or false, "
        "number, text, JSON). MLflow's charts show those of one type.",
        "Give the rule of your profile another `value`, or one name for each type.",
    ),
    Code.TRACE_ID_CHANGED: CatalogEntry(
        Severity.NOTE,
        "A trace's id is not in MLflow 3's form, without which its pages do not open.",
        "Search for the old id in metadata migrator.source_trace_id.",
    ),
    Code.TRACE_WITHOUT_SPANS: CatalogEntry(
        Severity.DEGRADED,
        "A trace has no spans: they were never written, or its traces.json was not found or can't "
        "be read. It gets a root span made of what it says itself, marked as inferred.",
        "Put the traces.json into the trace's artifacts, or mlartifacts beside the store, and "
        "convert again.",
    ),
    Code.TRACE_ROOT_ADDED: CatalogEntry(
        Severity.DEGRADED,
        "A trace has several roots, or spans whose parent is missing; MLflow needs one root.",
        "Nothing; a span named after the trace holds them together.",
    ),
    Code.TRACE_SPAN_CLOSED: CatalogEntry(
        Severity.DEGRADED,
        "A span or trace was never closed, or ends before it starts.",
        "Nothing; it ends at its last child or event.",
    ),
    Code.TRACE_VALUE_CHANGED: CatalogEntry(
        Severity.DEGRADED,
        "A value in a trace breaks MLflow's API (an integer beyond 64 bits, deep nesting, …) or is "
        "longer than it lets through.",
        "Nothing; the value is kept as text, cut where the message says so.",
    ),
    Code.EXPERIMENT_ID_CHANGED: CatalogEntry(
        Severity.NOTE,
        "An experiment's id is not a number that the database can hold, or is taken there.",
        "Search for the old id in the experiment's tag migrator.source_experiment_id.",
    ),
    Code.EXPERIMENT_RENAMED: CatalogEntry(
        Severity.DEGRADED,
        "An experiment has another name in the target: another experiment has its name (of several "
        "in one source the active one keeps it, then the one with most runs, then the newest), or "
        "the target can't hold it.",
        "Find it by its new name; the old one is in its tag migrator.source_experiment_name.",
    ),
    Code.EXPERIMENT_MERGED: CatalogEntry(
        Severity.NOTE,
        "Two experiments of one name from different sources became one.",
        "Convert the sources into separate databases if they should stay apart.",
    ),
    # -- extractor: what lies in the store beside MLflow's files
    Code.RUNS_IGNORED: CatalogEntry(
        Severity.DEGRADED,
        "A directory that is not part of MLflow's layout holds files called meta.yaml, as runs and "
        "experiments do. It was not read.",
        "If those runs are missed, move them into an experiment's directory and convert again.",
    ),
    Code.STAND_IN_READ: CatalogEntry(
        Severity.DEGRADED,
        "A file or folder of MLflow's is missing, and one of nearly its name lies there "
        "(META.YAML, meta.yml, meta (1).yaml, meta.yaml.bak, Params); that was read in its place.",
        "Look whether it is the right one, and give it the right name.",
    ),
    Code.DIRECTORY_IGNORED: CatalogEntry(
        Severity.NOTE,
        "A directory that is not part of MLflow's layout (a version control's, an editor's, a "
        "user's own).",
        "Nothing; it stays where it is. If it holds runs, move them into an experiment's "
        "directory.",
    ),
    Code.SPECIAL_FILE_IGNORED: CatalogEntry(
        Severity.NOTE,
        "A socket, pipe or device where MLflow keeps nothing; it was not opened.",
        "Nothing.",
    ),
    Code.LINK_INSIDE_STORE: CatalogEntry(
        Severity.NOTE,
        "A link to a directory of the same store that is not followed here: what it leads to is "
        "read where it really lies. Links to params, tags, traces and the like are followed.",
        "Nothing.",
    ),
    Code.LINK_NOT_FOLLOWED: CatalogEntry(
        Severity.REJECTED,
        "A symbolic link that leads out of the store, in a circle, or nowhere. Links are never "
        "followed out of a store.",
        "Put the files themselves in place of the link, or convert the store it leads to as a "
        "second source.",
    ),
    Code.ARTIFACT_LINK: CatalogEntry(
        Severity.DEGRADED,
        "A symbolic link or special file among the artifacts; it is not listed as an artifact.",
        "Put the file itself in its place if you need it as an artifact.",
    ),
    Code.SPECIAL_FILE: CatalogEntry(
        Severity.REJECTED,
        "A socket, pipe or device where a value should be; it was not opened.",
        "Remove it, or put a regular file in its place.",
    ),
    Code.CONFLICT_COPY: CatalogEntry(
        Severity.DEGRADED,
        "A copy that a sync tool or a file manager made beside the original; only the original "
        "was read.",
        "Compare the two, keep the right one under the original's name, and convert again.",
    ),
    Code.FILE_UNREADABLE: CatalogEntry(
        Severity.REJECTED,
        "A file that the operating system refuses to read.",
        "Check its permissions and the disk, then convert again.",
    ),
    Code.FILE_VANISHED: CatalogEntry(
        Severity.REJECTED,
        "A file was there when its directory was listed and gone when it was to be read.",
        "Convert again when nothing else changes the store.",
    ),
    Code.FILE_TOO_LARGE: CatalogEntry(
        Severity.REJECTED,
        "A file that is far larger than anything of its kind can be; it was not read.",
        "Check what the file is.",
    ),
    Code.DIRECTORY_UNREADABLE: CatalogEntry(
        Severity.REJECTED,
        "A directory that the operating system refuses to list: what is in it could not be "
        "counted.",
        "Check its permissions and the disk, then convert again.",
    ),
    Code.FOLDER_IS_A_FILE: CatalogEntry(
        Severity.DEGRADED,
        "A file, pipe, socket or device stands where MLflow keeps a directory (params, metrics, "
        "tags, ...).",
        "Nothing can be read from it; restore the directory from a backup if there is one.",
    ),
    Code.NAME_UNDECODABLE: CatalogEntry(
        Severity.DEGRADED,
        "A file's or directory's name is not UTF-8; its bytes are shown as \\xff.",
        "Rename it if the key matters to you, then convert again.",
    ),
    Code.NAME_TWICE: CatalogEntry(
        Severity.REJECTED,
        "Two files have the same key once their names are made readable.",
        "Rename one of them.",
    ),
    Code.TEXT_UNDECODABLE: CatalogEntry(
        Severity.DEGRADED,
        "A text is not UTF-8; the replacement character stands for each byte that can't be "
        "decoded.",
        "--values shows the raw bytes; write the file as UTF-8 and convert again if you need them.",
    ),
    Code.NOTHING_READABLE: CatalogEntry(
        Severity.REJECTED,
        "Nothing of a run, trace or model could be read, because the operating system refuses it "
        "or it has vanished; another issue says what.",
        "Check its permissions and the disk, then convert again.",
    ),
    Code.LOST_WITH_OWNER: CatalogEntry(
        Severity.REJECTED,
        "It belongs to a run, trace or model of which nothing could be kept.",
        "Mend what the other issue of the same id names.",
    ),
    # -- extractor: meta.yaml and its like
    Code.META_MISSING: CatalogEntry(
        Severity.DEGRADED,
        "A meta.yaml is missing, or a directory stands in its place.",
        "What could be told from the other files was kept; restore the file from a backup if "
        "there is one.",
    ),
    Code.META_EMPTY: CatalogEntry(
        Severity.DEGRADED,
        "A meta.yaml is empty, or holds only NUL bytes (as after a crash or a full disk).",
        "What could be told from the other files was kept; restore the file from a backup if "
        "there is one.",
    ),
    Code.META_UNREADABLE: CatalogEntry(
        Severity.DEGRADED,
        "A meta.yaml can't be read: no permission, a disk error, far too large.",
        "Check its permissions and the disk, then convert again.",
    ),
    Code.META_DAMAGED: CatalogEntry(
        Severity.DEGRADED,
        "A meta.yaml is not YAML (binary, cut off, tabs, merge conflict markers, ...). Lines that"
        " are whole were kept.",
        "Mend the file by the message and convert again.",
    ),
    Code.META_NOT_A_MAPPING: CatalogEntry(
        Severity.DEGRADED,
        "A meta.yaml is YAML, but a list or a single value instead of keys and values.",
        "Mend the file and convert again.",
    ),
    Code.META_UNSAFE: CatalogEntry(
        Severity.DEGRADED,
        "A meta.yaml has aliases, or is nested very deeply: MLflow never writes that, and it can "
        "be made to blow up. It was not loaded.",
        "Write the values out and convert again.",
    ),
    Code.META_TRUNCATED: CatalogEntry(
        Severity.DEGRADED,
        "A meta.yaml ends in the middle: its last line has no end and keys are missing. The last "
        "line was not trusted.",
        "Mend the file and convert again.",
    ),
    Code.META_DUPLICATE_KEY: CatalogEntry(
        Severity.DEGRADED,
        "A key stands twice in a meta.yaml; the last one counts, as it does for MLflow.",
        "Remove the wrong one.",
    ),
    Code.META_VALUE_UNUSABLE: CatalogEntry(
        Severity.DEGRADED,
        "A value in a meta.yaml has a type or range that it can't have; it was left out.",
        "Mend the value and convert again.",
    ),
    Code.META_VALUE_CONVERTED: CatalogEntry(
        Severity.DEGRADED,
        "A value in a meta.yaml has an unusual form (a time as text, a fraction of a millisecond,"
        " ...) and was converted.",
        "Check the value that was kept.",
    ),
    Code.META_VALUE_UNKNOWN: CatalogEntry(
        Severity.DEGRADED,
        "A value in a meta.yaml is none of those that MLflow knows there (a source_type, a "
        "logged model's status, ...); the nearest one was taken.",
        "Check the value that was kept; --values shows the one in the file.",
    ),
    Code.META_KEY_UNKNOWN: CatalogEntry(
        Severity.NOTE,
        "A key in a meta.yaml or another YAML file has no place in MLflow's database: a plugin, a "
        "person or a newer MLflow wrote it. There is one note for each key, with the number of "
        "files that have it and the path of the first.",
        "Nothing, if you do not need it; the source keeps it. A tag keeps what you do need.",
    ),
    Code.ID_MISMATCH: CatalogEntry(
        Severity.DEGRADED,
        "The id in a meta.yaml is not the name of its directory. The directory's name was taken.",
        "If the directory was copied or renamed by hand, rename it back.",
    ),
    Code.TIME_NOT_MS: CatalogEntry(
        Severity.NOTE,
        "Times that can't be milliseconds of our era: before 1973 (seconds, perhaps) or after "
        "5138 (micro- or nanoseconds, perhaps). They were kept as they are.",
        "Nothing, if you know of it.",
    ),
    # -- extractor: experiments and runs
    Code.EXPERIMENT_REBUILT: CatalogEntry(
        Severity.DEGRADED,
        "An experiment's meta.yaml told nothing; the experiment was made from its directory, so "
        "that its runs are kept.",
        "Rename the experiment in MLflow if you know its name.",
    ),
    Code.EXPERIMENT_IN_FOLDER: CatalogEntry(
        Severity.DEGRADED,
        "An experiment lies in a directory of its own making below the store, where MLflow does "
        "not see it.",
        "Nothing; if it is a backup that you do not want, convert with --experiment.",
    ),
    Code.RUN_OUTSIDE_EXPERIMENT: CatalogEntry(
        Severity.DEGRADED,
        "A run's directory lies beside the experiments instead of in one. It was read as a run of"
        " the experiment that its meta.yaml names.",
        "Move it into its experiment's directory.",
    ),
    Code.RUN_WITHOUT_EXPERIMENT: CatalogEntry(
        Severity.REJECTED,
        "A run's directory lies beside the experiments instead of in one, and the experiment that "
        "its meta.yaml names is not there.",
        "Move it into its experiment's directory and convert again.",
    ),
    Code.RUN_REBUILT: CatalogEntry(
        Severity.DEGRADED,
        "A run's meta.yaml told nothing; the run was made from its params, metrics, tags and "
        "files. Its status is taken to be FINISHED, its times are those of its metrics.",
        "Check the run; restore its meta.yaml from a backup if there is one.",
    ),
    Code.RUN_EMPTY: CatalogEntry(
        Severity.REJECTED,
        "A run's directory holds nothing: no meta.yaml that can be read, no param, metric, tag, "
        "input, output or artifact.",
        "Remove the directory.",
    ),
    Code.RUN_ID_CHANGED: CatalogEntry(
        Severity.NOTE,
        "A run's directory has a name that MLflow takes for no run id (a file manager's copy, "
        "mostly), so that the run was given an id made from that name.",
        "Delete the run in MLflow if it is a copy that you do not want.",
    ),
    Code.RUN_START_UNKNOWN: CatalogEntry(
        Severity.DEGRADED,
        "A run has no start time. MLflow needs one: that of its first metric, else its end, else "
        "0 (1 January 1970) was taken.",
        "Write start_time into its meta.yaml if you know it, and convert into a new database.",
    ),
    Code.STATUS_UNKNOWN: CatalogEntry(
        Severity.DEGRADED,
        "A status that MLflow does not know. A run with an end is taken to be FINISHED, one "
        "without to be RUNNING, a model version to be READY, a trace's state is unspecified.",
        "Check it in MLflow.",
    ),
    Code.RUN_ENDS_BEFORE_START: CatalogEntry(
        Severity.NOTE,
        "A run's end lies before its start; both were kept.",
        "Nothing.",
    ),
    Code.INLINE_TAGS_USED: CatalogEntry(
        Severity.DEGRADED,
        "The directory with the tags is missing; the tags in meta.yaml were taken, which may be "
        "older.",
        "Nothing.",
    ),
    Code.INPUT_DAMAGED: CatalogEntry(
        Severity.REJECTED,
        "A run's input does not say which dataset or model it is.",
        "Mend its meta.yaml and convert again.",
    ),
    Code.OUTPUT_DAMAGED: CatalogEntry(
        Severity.DEGRADED,
        "A run's output does not say its step; step 0 was taken.",
        "Mend its meta.yaml and convert again.",
    ),
    Code.DATASET_DAMAGED: CatalogEntry(
        Severity.REJECTED,
        "A dataset has no name or no digest.",
        "Mend its meta.yaml and convert again.",
    ),
    Code.ARTIFACTS_IN_TWO_PLACES: CatalogEntry(
        Severity.DEGRADED,
        "Artifacts of one run lie both in its directory and in a server's mlartifacts; only the "
        "former are referred to.",
        "Move the others into the run's artifacts directory.",
    ),
    Code.ARTIFACT_UNREADABLE: CatalogEntry(
        Severity.DEGRADED,
        "An artifact that was to be read as text can't be read.",
        "Check its permissions and the disk; it stays listed as an artifact.",
    ),
    Code.ARTIFACT_NOT_TEXT: CatalogEntry(
        Severity.NOTE,
        "An artifact that was to be read as text is binary or very large; it stays an artifact.",
        "Nothing.",
    ),
    # -- extractor: metrics
    Code.METRIC_LINE_MALFORMED: CatalogEntry(
        Severity.REJECTED,
        "A line of a metric file that is not a time, a value and a step.",
        "Mend the lines and convert again; the numbers of the first ones are in the message.",
    ),
    Code.METRIC_LINE_TRUNCATED: CatalogEntry(
        Severity.REJECTED,
        "The last line of a metric file is cut off: it has no line end and fewer fields than the "
        "others.",
        "Nothing, if the process was killed while writing.",
    ),
    Code.METRIC_LINE_UNFINISHED: CatalogEntry(
        Severity.DEGRADED,
        "The last line of a metric file has no line end; its last field may be cut. It was kept.",
        "Check the last point.",
    ),
    Code.METRIC_POINT_REPEATED: CatalogEntry(
        Severity.NOTE,
        "Equal points of a metric (same time, value and step) are one point. MLflow 3.x repeats "
        "lines whenever a model is logged.",
        "Nothing.",
    ),
    Code.METRIC_NUMBER_REPAIRED: CatalogEntry(
        Severity.DEGRADED,
        "A step or time that is not a whole number; its fraction was cut off.",
        "Nothing.",
    ),
    Code.METRIC_VALUE_BOOLEAN: CatalogEntry(
        Severity.NOTE,
        "A metric value of True or False (MLflow 1.x wrote these) became 1 or 0.",
        "Nothing.",
    ),
    Code.METRIC_OUT_OF_RANGE: CatalogEntry(
        Severity.DEGRADED,
        "A step or time beyond 64 bits became the nearest number that fits.",
        "Check the metric.",
    ),
    Code.METRIC_FILE_EMPTY: CatalogEntry(
        Severity.NOTE,
        "A metric file without a line: the metric has no point.",
        "Nothing.",
    ),
    Code.METRIC_DATASET_DROPPED: CatalogEntry(
        Severity.NOTE,
        "Points of a run's metric name a dataset. MLflow's database has no place for it; the "
        "points were kept.",
        "Nothing; log the metric on the logged model to keep the link.",
    ),
    # -- extractor: traces
    Code.TRACE_EMPTY: CatalogEntry(
        Severity.REJECTED,
        "A trace's directory holds nothing that could be read.",
        "Remove the directory.",
    ),
    Code.TRACE_REBUILT: CatalogEntry(
        Severity.DEGRADED,
        "A trace's trace_info.yaml told nothing; the trace was made from its tags, metadata and "
        "spans.",
        "Check the trace.",
    ),
    Code.TRACE_TIME_MISSING: CatalogEntry(
        Severity.DEGRADED,
        "A trace does not say when it began; the first span's start was taken, or 1970.",
        "Nothing.",
    ),
    Code.SPANS_MISSING: CatalogEntry(
        Severity.DEGRADED,
        "No traces.json was found for a trace, neither in its directory nor among a server's "
        "artifacts: its spans are missing.",
        "If the artifacts lie elsewhere, put them beside the store as mlartifacts and convert "
        "again.",
    ),
    Code.TRACE_NEVER_ENDED: CatalogEntry(
        Severity.NOTE,
        "A trace was never ended, so MLflow wrote no spans for it.",
        "Nothing.",
    ),
    Code.SPANS_DAMAGED: CatalogEntry(
        Severity.DEGRADED,
        "A traces.json can't be read whole (cut off, not JSON, binary). Spans that are whole were"
        " kept.",
        "Restore the file from a backup if there is one.",
    ),
    Code.SPAN_DAMAGED: CatalogEntry(
        Severity.REJECTED,
        "A span in a traces.json is not an object, or is cut off.",
        "Restore the file from a backup if there is one.",
    ),
    Code.SPAN_REPAIRED: CatalogEntry(
        Severity.DEGRADED,
        "A span lacks its id, times or name, or they have an unusual form; they were derived or "
        "converted.",
        "Check the trace.",
    ),
    Code.SPAN_TWICE: CatalogEntry(
        Severity.DEGRADED,
        "Two different spans of a trace have one id; the second was given another.",
        "Check the trace.",
    ),
    Code.ASSESSMENT_DAMAGED: CatalogEntry(
        Severity.REJECTED,
        "An assessment has no name, or neither a value nor an error.",
        "Mend the file and convert again.",
    ),
    Code.ASSESSMENT_REPAIRED: CatalogEntry(
        Severity.DEGRADED,
        "An assessment lacks its source or times; they were filled in as the message says.",
        "Check the assessment.",
    ),
    # -- artifact locations: --artifacts copy:DIR
    Code.ARTIFACT_NOT_COPIED: CatalogEntry(
        Severity.REJECTED,
        "An artifact could not be read, so it is not among the copies.",
        "Make the file readable and convert again: what was copied is not copied twice.",
    ),
    Code.ARTIFACT_COPY_REPLACED: CatalogEntry(
        Severity.NOTE,
        "A file in the directory for copies was not the same as the artifact and was replaced by "
        "it: half a copy, or one that was changed.",
        "Nothing.",
    ),
    # -- extractor: models
    Code.MODEL_REBUILT: CatalogEntry(
        Severity.DEGRADED,
        "A model's meta.yaml told nothing; the model was made from its directory.",
        "Check the model.",
    ),
    Code.MODEL_EMPTY: CatalogEntry(
        Severity.REJECTED,
        "A model's directory holds nothing that could be read.",
        "Remove the directory.",
    ),
    Code.MODEL_VERSION_REBUILT: CatalogEntry(
        Severity.DEGRADED,
        "A model version's meta.yaml told nothing; the version was made from its directory.",
        "Check the version.",
    ),
    Code.MODEL_VERSION_TIME_MISSING: CatalogEntry(
        Severity.DEGRADED,
        "A model version does not say when it was created; its last update was taken, else the "
        "model's creation, else 1970. Without one MLflow could not list it.",
        "Nothing.",
    ),
    Code.MODEL_VERSION_DAMAGED: CatalogEntry(
        Severity.REJECTED,
        "A model version's directory is not named version- and a number.",
        "Rename the directory and convert again.",
    ),
    Code.ALIAS_DAMAGED: CatalogEntry(
        Severity.REJECTED,
        "An alias does not hold the number of a version.",
        "Mend the file and convert again.",
    ),
    Code.ALIAS_DANGLING: CatalogEntry(
        Severity.DEGRADED,
        "An alias names a version that the model does not have; it was kept.",
        "Set the alias again in MLflow.",
    ),
}


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing found wrong, where, and what was kept of it.

    ``count`` is the number of entities of ``kind`` concerned (lines of a metric file, say);
    a REJECTED issue's count goes into the ledger's rejected column.
    """

    code: Code
    path: str  # absolute path of the file or directory; "" when there is none
    message: str  # what was found, with the facts
    kept: str = ""  # what was kept or done; empty when nothing was
    kind: str | None = None  # a ``model.Kind`` value, None for a plain file
    entity_id: str = ""
    count: int = 1
    sample: str = ""  # the source's own words, which are shown only with --values

    @property
    def severity(self) -> Severity:
        return CATALOG[self.code].severity
