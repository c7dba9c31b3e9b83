"""Issue codes: everything that can be wrong with a source, named once.

A code is stable: users filter reports by it. ``docs/reference/issue-codes.md`` is generated from
``Code``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(str, Enum):
    """The kinds of entity that the ledger counts, in the order in which it prints them."""

    EXPERIMENT = "experiment"
    EXPERIMENT_TAG = "experiment tag"
    RUN = "run"
    PARAM = "param"
    METRIC_POINT = "metric point"
    TAG = "run tag"
    DATASET = "dataset"
    INPUT = "run input"
    OUTPUT = "run output"
    LOGGED_MODEL = "logged model"
    LOGGED_MODEL_PARAM = "logged model param"
    LOGGED_MODEL_METRIC = "logged model metric"
    LOGGED_MODEL_TAG = "logged model tag"
    REGISTERED_MODEL = "registered model"
    REGISTERED_MODEL_TAG = "registered model tag"
    ALIAS = "alias"
    MODEL_VERSION = "model version"
    MODEL_VERSION_TAG = "model version tag"
    TRACE = "trace"
    TRACE_TAG = "trace tag"
    TRACE_METADATA = "trace metadata"
    SPAN = "span"
    ASSESSMENT = "assessment"


class Severity(str, Enum):
    """What an issue means for the entity it names."""

    NOTE = "note"  # nothing is lost: equal metric points, an ignored editor file, …
    DEGRADED = "degraded"  # converted, but something of it was repaired, cut or guessed
    REJECTED = "rejected"  # not converted: exit code 3


class Code(str, Enum):
    """Stable names of issues, each with its severity and the two sentences for the reference page.

    ``meaning`` says what was found, ``action`` what a user can do about it.
    """

    severity: Severity
    meaning: str
    action: str

    def __new__(cls, value: str, severity: Severity, meaning: str, action: str) -> Code:
        code = str.__new__(cls, value)
        code._value_ = value
        code.severity = severity
        code.meaning = meaning
        code.action = action
        return code

    FILE_IGNORED = (
        "file-ignored",
        Severity.NOTE,
        "A file that is not part of MLflow's layout (an editor's, a sync tool's, a README).",
        "Nothing; it stays where it is.",
    )

    # extractor: databases
    SCHEMA_UNEXPECTED = (
        "schema-unexpected",
        Severity.DEGRADED,
        "The tables of a database are not those of the revision that it names, or the revision is "
        "newer than this program: an upgrade was interrupted, or someone changed the schema. What "
        "is there was read.",
        "Compare the counts with a backup; use a newer release of this program if there is one.",
    )
    TABLE_NOT_CARRIED = (
        "table-not-carried",
        Severity.DEGRADED,
        "A table of a database holds rows that have no place in what is converted (evaluation "
        "datasets, scorers, webhooks, jobs, a table of someone's own).",
        "Nothing if you don't need them; else keep the old database, or copy them by MLflow's API.",
    )
    COLUMN_NOT_CARRIED = (
        "column-not-carried",
        Severity.DEGRADED,
        "A table of a database has a column with values that this program does not know.",
        "Nothing if you don't need it; else use a newer release of this program.",
    )
    ROW_WITHOUT_OWNER = (
        "row-without-owner",
        Severity.REJECTED,
        "Rows of a database belong to a run, experiment, model or trace that is not there.",
        "Nothing if the owner was deleted on purpose; else restore it from a backup.",
    )
    ROW_DAMAGED = (
        "row-damaged",
        Severity.REJECTED,
        "A row of a database lacks what it needs, or has a key or number of another type.",
        "Fix the row in a copy of the database and convert that.",
    )
    ROW_TWICE = (
        "row-twice",
        Severity.REJECTED,
        "Two rows of a database have the same key and different values; a constraint was lost.",
        "Delete the wrong one in a copy of the database and convert that.",
    )
    ROW_REPEATED = (
        "row-repeated",
        Severity.NOTE,
        "Two rows of a database are equal; a constraint was lost.",
        "Nothing; one of them was taken.",
    )
    ROW_VANISHED = (
        "row-vanished",
        Severity.REJECTED,
        "A row was there when its table was listed and gone when it was to be read.",
        "Convert again when nothing else changes the database.",
    )
    COLUMN_VALUE_CONVERTED = (
        "column-value-converted",
        Severity.DEGRADED,
        "A value in a database has another type than its column; it was converted.",
        "Check the value; --values shows it.",
    )
    COLUMN_VALUE_UNUSABLE = (
        "column-value-unusable",
        Severity.DEGRADED,
        "A value in a database has a type that its column can't have; it was left out.",
        "Fix the value in a copy of the database and convert that.",
    )

    # pipeline: the same entity more than once
    ENTITY_REPEATED = (
        "entity-repeated",
        Severity.NOTE,
        "The same run, trace, dataset or model lies in two places, with the same content or in "
        "another state (it went on after one of the two was copied).",
        "Nothing; it was taken once, with all that is in either.",
    )
    ENTITY_DIFFERS = (
        "entity-differs",
        Severity.DEGRADED,
        "The same run, trace, dataset or model lies in two places, with other values of what may "
        "change (tags, a name, a status); those of the first were taken, and what only the second "
        "has was added.",
        "Compare the two, and set what is wrong in the database.",
    )
    ENTITY_CLASHES = (
        "entity-clashes",
        Severity.REJECTED,
        "Two runs, traces, datasets or models have one id, which is unique in a database: they "
        "differ in what MLflow never changes (experiment, start or creation time, params, metric "
        "points). Only the first was taken: what the target has, then of several sources the "
        "first, in one source the active one before a deleted one, then the shorter path.",
        "Decide which of the two is right; convert the other into a database of its own, or "
        "delete the one in the target and convert again.",
    )
    EXPERIMENT_TAG_DIFFERS = (
        "experiment-tag-differs",
        Severity.DEGRADED,
        "Two sources share an experiment, but one of its tags has different values in them; the "
        "first one's was taken.",
        "Set the tag to the value that you want in the database.",
    )
    STORE_CHANGED = (
        "store-changed",
        Severity.DEGRADED,
        "Files appeared or vanished between the walk over the store and the reading: something "
        "else writes into it. What was there when it was read was converted.",
        "Convert again when nothing writes into the store; what is missing is added.",
    )

    # sources that are fetched
    OBJECT_NAME_UNUSABLE = (
        "object-name-unusable",
        Severity.REJECTED,
        "An object of a bucket has a name that no file here can have (an empty part, .., that of a "
        "folder, too long, the same as another but for its letters). It was not fetched.",
        "If it is one of MLflow's, copy it to another key; else nothing.",
    )

    # loader
    TARGET_DIFFERS = (
        "target-differs",
        Severity.DEGRADED,
        "The target already holds this, with other values; it was left as the target has it.",
        "Compare the two; to take over the source's values, delete it in the target and convert "
        "again, or convert into a new database.",
    )
    TARGET_UPDATED = (
        "target-updated",
        Severity.NOTE,
        "The target held a run or trace that had not ended, or a trace that lacked spans; it was "
        "brought up to date with the source.",
        "Nothing.",
    )
    LOAD_DUPLICATE = (
        "load-duplicate",
        Severity.REJECTED,
        "The sources hold two entities of one id with different places; the first was taken.",
        "If the second is a copy there is nothing to do; otherwise convert it into a database "
        "of its own.",
    )
    LOAD_REFUSED = (
        "load-refused",
        Severity.REJECTED,
        "The database refuses this row: its key is taken, or a value is outside what the column "
        "can hold.",
        "Correct the value in the source's file and convert again.",
    )
    LOAD_WITHOUT_PARENT = (
        "load-without-parent",
        Severity.REJECTED,
        "This belongs to something that is not in the source, or was rejected itself.",
        "Restore what it belongs to and convert again.",
    )
    LOAD_TEXT_REPAIRED = (
        "load-text-repaired",
        Severity.DEGRADED,
        "Text holds half characters (lone surrogates), which no database can store, or characters "
        "that this one can't (PostgreSQL has no NUL, latin1 no Greek): each became a question "
        "mark, a NUL nothing.",
        "Nothing; the source keeps the text as it is.",
    )
    LOAD_TEXT_CUT = (
        "load-text-cut",
        Severity.DEGRADED,
        "Text is longer than the column of the server holds, and was cut. SQLite files hold it "
        "whole.",
        "Read the whole text in the source; a location that was cut leads nowhere: convert with "
        "--artifacts copy:DIR and a short DIR, or from a store with a shorter path.",
    )
    LOAD_MODEL_NAN = (
        "load-model-nan",
        Severity.DEGRADED,
        "A logged model's metric is NaN. MLflow's database has no NaN there and stores 0, as "
        "MLflow itself does; the run's own metric keeps NaN.",
        "Read this value from the run's metric, not from the model's.",
    )
    LOAD_DEFAULT_ADDED = (
        "load-default-added",
        Severity.NOTE,
        "An experiment with another id than 0 is called Default. MLflow would try to make "
        "experiment 0 of that name and fail to open the database, so that an empty, deleted "
        "experiment 0 was added.",
        "Nothing.",
    )

    # server: what goes through a server's API
    SERVER_REFUSED = (
        "server-refused",
        Severity.REJECTED,
        "The server's API refuses this: a key or value outside its rules, or a fault of its own.",
        "See the message; a SQLite target takes what the API refuses.",
    )
    SERVER_VALUE_CUT = (
        "server-value-cut",
        Severity.DEGRADED,
        "The server's API takes no value of this length; it was cut to what it takes.",
        "Read the whole value in the source; a SQLite target keeps it.",
    )
    SERVER_DATASET_UNUSED = (
        "server-dataset-unused",
        Severity.REJECTED,
        "No run that was converted uses this dataset, and the server's API makes datasets only "
        "as inputs of runs.",
        "Nothing; a SQLite target keeps it.",
    )
    SERVER_ARTIFACTS_LEFT = (
        "server-artifacts-left",
        Severity.DEGRADED,
        "Artifacts were not sent to the server; the tag migrator.source_fields says where they "
        "were recorded.",
        "See the message, and convert again: what is missing is sent.",
    )
    SERVER_SOURCE_CHANGED = (
        "server-source-changed",
        Severity.DEGRADED,
        "A server takes no model version whose source is a path of the client's machine, or, from "
        "MLflow 3.17 on, lies in another run or logged model than the version's own; another "
        "source was written, and the tag migrator.source_fields has the recorded one.",
        "Send the model's files to the server and register them again.",
    )
    # transformer: trees of runs
    RUN_PARENT_MISSING = (
        "run-parent-missing",
        Severity.NOTE,
        "A run names a parent that is not in the store (deleted for good, or in another store).",
        "If the parent lies in another store, convert both in one call.",
    )
    RUN_PARENT_SELF = (
        "run-parent-self",
        Severity.NOTE,
        "A run names itself as its parent.",
        "Nothing; it is a root now.",
    )
    RUN_PARENT_CYCLE = (
        "run-parent-cycle",
        Severity.DEGRADED,
        "Runs name one another as parents in a circle.",
        "Correct the tag mlflow.parentRunId of the run that should be the root, and convert again.",
    )
    RUN_PARENT_ELSEWHERE = (
        "run-parent-elsewhere",
        Severity.NOTE,
        "A run and its parent lie in different experiments.",
        "Nothing; the trace belongs to the root's experiment.",
    )
    # transformer: traces rebuilt from runs
    ARTIFACT_NOT_JSON = (
        "artifact-not-json",
        Severity.NOTE,
        "A .json artifact that a trace is made from does not parse as JSON.",
        "Nothing; its text is in the trace as it is.",
    )
    ARTIFACT_NOT_TABLE = (
        "artifact-not-a-table",
        Severity.NOTE,
        "A file that is to hold a table of evaluations or predictions holds none, or rows that do "
        "not fit its columns.",
        "Nothing; rows that can be read are traces, the file stays an artifact.",
    )
    PROFILE_AMBIGUOUS = (
        "profile-ambiguous",
        Severity.NOTE,
        "More than one profile recognises a tree of runs; the first one took it.",
        "Name the profile with --profile, or make its [[recognise]] stricter.",
    )
    PROFILE_UNUSED = (
        "profile-takes-nothing",
        Severity.NOTE,
        "A profile of yours took no tree of runs.",
        "'mlflow-migrate profiles check FILE SOURCE' says what it recognises.",
    )
    RUN_WITHOUT_TIME = (
        "run-without-time",
        Severity.DEGRADED,
        "A run has no start time, and nothing in it or around it has a time either.",
        "Nothing can be done; its trace stands at the start of 1970.",
    )
    SPAN_ENDS_BEFORE_START = (
        "span-ends-before-start",
        Severity.DEGRADED,
        "A run's end lies before its start (a clock was set back).",
        "Nothing; its span ends where it starts.",
    )
    SESSION_ID_CHANGED = (
        "session-id-changed",
        Severity.DEGRADED,
        "A session or user id that MLflow can't open: over 250 characters, or with a quote in it.",
        "--values shows both ids.",
    )
    RUN_GROUPED_BY_TIME = (
        "run-grouped-by-time",
        Severity.NOTE,
        "A run without a parent became a step of the workflow that covers it (--group-by-time).",
        "If it was none of its steps, convert without --group-by-time.",
    )
    RUN_ADOPTED = (
        "run-adopted",
        Severity.NOTE,
        "A step that had lost its workflow was put below the one before it (--adopt-orphans).",
        "If it belongs elsewhere, convert without --adopt-orphans.",
    )
    TIME_IMPLAUSIBLE = (
        "time-implausible",
        Severity.DEGRADED,
        "A run or call of a trace is dated so far outside its root's time that a wrong clock or "
        "time zone must have dated it, or a time lies before 1973 and those beside it do not. The "
        "span was moved into its parent's with its recorded duration, or takes the times beside "
        "it; the attributes legacy.recorded_start_ms and legacy.recorded_end_ms keep what was "
        "recorded.",
        "Nothing, if the date of the trace is right. The run itself keeps its recorded times.",
    )
    ASSESSMENT_TYPES_MIXED = (
        "assessment-types-mixed",
        Severity.DEGRADED,
        "Assessments of one name have values of several types in one experiment (true or false, "
        "number, text, JSON). MLflow's charts show those of one type.",
        "Give the rule of your profile another `value`, or one name for each type.",
    )
    # transformer: traces that MLflow wrote
    TRACE_ID_CHANGED = (
        "trace-id-changed",
        Severity.NOTE,
        "A trace's id is not in MLflow 3's form, without which its pages do not open.",
        "Search for the old id in metadata migrator.source_trace_id.",
    )
    TRACE_WITHOUT_SPANS = (
        "trace-without-spans",
        Severity.DEGRADED,
        "A trace has no spans: they were never written, or its traces.json was not found or can't "
        "be read. It gets a root span made of what it says itself, marked as inferred.",
        "Put the traces.json into the trace's artifacts, or mlartifacts beside the store, and "
        "convert again.",
    )
    TRACE_ROOT_ADDED = (
        "trace-root-added",
        Severity.DEGRADED,
        "A trace has several roots, or spans whose parent is missing; MLflow needs one root.",
        "Nothing; a span named after the trace holds them together.",
    )
    TRACE_SPAN_CLOSED = (
        "trace-span-closed",
        Severity.DEGRADED,
        "A span or trace was never closed, or ends before it starts.",
        "Nothing; it ends at its last child or event.",
    )
    TRACE_VALUE_CHANGED = (
        "trace-value-changed",
        Severity.DEGRADED,
        "A value in a trace breaks MLflow's API (an integer beyond 64 bits, deep nesting, …) or is "
        "longer than it lets through.",
        "Nothing; the value is kept as text, cut where the message says so.",
    )
    # transformer: experiments
    EXPERIMENT_ID_CHANGED = (
        "experiment-id-changed",
        Severity.NOTE,
        "An experiment's id is not a number that the database can hold, or is taken there.",
        "Search for the old id in the experiment's tag migrator.source_experiment_id.",
    )
    EXPERIMENT_RENAMED = (
        "experiment-renamed",
        Severity.DEGRADED,
        "An experiment has another name in the target: another experiment has its name (of several "
        "in one source the active one keeps it, then the one with most runs, then the newest), or "
        "the target can't hold it.",
        "Find it by its new name; the old one is in its tag migrator.source_experiment_name.",
    )
    EXPERIMENT_MERGED = (
        "experiment-merged",
        Severity.NOTE,
        "Two experiments of one name from different sources became one.",
        "Convert the sources into separate databases if they should stay apart.",
    )
    # -- extractor: what lies in the store beside MLflow's files
    DIRECTORY_IGNORED = (
        "directory-ignored",
        Severity.NOTE,
        "A directory that is not part of MLflow's layout (a version control's, an editor's, a "
        "user's own).",
        "Nothing; it stays where it is. If it holds runs, move them into an experiment's "
        "directory.",
    )
    RUNS_IGNORED = (
        "runs-ignored",
        Severity.DEGRADED,
        "A directory that is not part of MLflow's layout holds files called meta.yaml, as runs and "
        "experiments do. It was not read.",
        "If those runs are missed, move them into an experiment's directory and convert again.",
    )
    STAND_IN_READ = (
        "stand-in-read",
        Severity.DEGRADED,
        "A file or folder of MLflow's is missing, and one of nearly its name lies there "
        "(META.YAML, meta.yml, meta (1).yaml, meta.yaml.bak, Params); that was read in its place.",
        "Look whether it is the right one, and give it the right name.",
    )
    SPECIAL_FILE_IGNORED = (
        "special-file-ignored",
        Severity.NOTE,
        "A socket, pipe or device where MLflow keeps nothing; it was not opened.",
        "Nothing.",
    )
    LINK_INSIDE_STORE = (
        "link-inside-store",
        Severity.NOTE,
        "A link to a directory of the same store that is not followed here: what it leads to is "
        "read where it really lies. Links to params, tags, traces and the like are followed.",
        "Nothing.",
    )
    LINK_NOT_FOLLOWED = (
        "link-not-followed",
        Severity.REJECTED,
        "A symbolic link that leads out of the store, in a circle, or nowhere. Links are never "
        "followed out of a store.",
        "Put the files themselves in place of the link, or convert the store it leads to as a "
        "second source.",
    )
    ARTIFACT_LINK = (
        "artifact-link-not-followed",
        Severity.DEGRADED,
        "A symbolic link or special file among the artifacts; it is not listed as an artifact.",
        "Put the file itself in its place if you need it as an artifact.",
    )
    SPECIAL_FILE = (
        "special-file",
        Severity.REJECTED,
        "A socket, pipe or device where a value should be; it was not opened.",
        "Remove it, or put a regular file in its place.",
    )
    CONFLICT_COPY = (
        "conflict-copy",
        Severity.DEGRADED,
        "A copy that a sync tool or a file manager made beside the original; only the original "
        "was read.",
        "Compare the two, keep the right one under the original's name, and convert again.",
    )
    FILE_UNREADABLE = (
        "file-unreadable",
        Severity.REJECTED,
        "A file that the operating system refuses to read.",
        "Check its permissions and the disk, then convert again.",
    )
    FILE_VANISHED = (
        "file-vanished",
        Severity.REJECTED,
        "A file was there when its directory was listed and gone when it was to be read.",
        "Convert again when nothing else changes the store.",
    )
    FILE_TOO_LARGE = (
        "file-too-large",
        Severity.REJECTED,
        "A file that is far larger than anything of its kind can be; it was not read.",
        "Check what the file is.",
    )
    DIRECTORY_UNREADABLE = (
        "directory-unreadable",
        Severity.REJECTED,
        "A directory that the operating system refuses to list: what is in it could not be "
        "counted.",
        "Check its permissions and the disk, then convert again.",
    )
    FOLDER_IS_A_FILE = (
        "folder-is-a-file",
        Severity.DEGRADED,
        "A file, pipe, socket or device stands where MLflow keeps a directory (params, metrics, "
        "tags, ...).",
        "Nothing can be read from it; restore the directory from a backup if there is one.",
    )
    NAME_UNDECODABLE = (
        "name-undecodable",
        Severity.DEGRADED,
        "A file's or directory's name is not UTF-8; its bytes are shown as \\xff.",
        "Rename it if the key matters to you, then convert again.",
    )
    NAME_TWICE = (
        "name-twice",
        Severity.REJECTED,
        "Two files have the same key once their names are made readable.",
        "Rename one of them.",
    )
    TEXT_UNDECODABLE = (
        "text-undecodable",
        Severity.DEGRADED,
        "A text is not UTF-8; the replacement character stands for each byte that can't be "
        "decoded.",
        "--values shows the raw bytes; write the file as UTF-8 and convert again if you need them.",
    )
    LOST_WITH_OWNER = (
        "lost-with-its-owner",
        Severity.REJECTED,
        "It belongs to a run, trace or model of which nothing could be kept.",
        "Mend what the other issue of the same id names.",
    )
    NOTHING_READABLE = (
        "nothing-readable",
        Severity.REJECTED,
        "Nothing of a run, trace or model could be read, because the operating system refuses it "
        "or it has vanished; another issue says what.",
        "Check its permissions and the disk, then convert again.",
    )

    # -- extractor: meta.yaml and its like
    META_MISSING = (
        "meta-missing",
        Severity.DEGRADED,
        "A meta.yaml is missing, or a directory stands in its place.",
        "What could be told from the other files was kept; restore the file from a backup if "
        "there is one.",
    )
    META_EMPTY = (
        "meta-empty",
        Severity.DEGRADED,
        "A meta.yaml is empty, or holds only NUL bytes (as after a crash or a full disk).",
        "What could be told from the other files was kept; restore the file from a backup if "
        "there is one.",
    )
    META_UNREADABLE = (
        "meta-unreadable",
        Severity.DEGRADED,
        "A meta.yaml can't be read: no permission, a disk error, far too large.",
        "Check its permissions and the disk, then convert again.",
    )
    META_DAMAGED = (
        "meta-damaged",
        Severity.DEGRADED,
        "A meta.yaml is not YAML (binary, cut off, tabs, merge conflict markers, ...). Lines that"
        " are whole were kept.",
        "Mend the file by the message and convert again.",
    )
    META_NOT_A_MAPPING = (
        "meta-not-a-mapping",
        Severity.DEGRADED,
        "A meta.yaml is YAML, but a list or a single value instead of keys and values.",
        "Mend the file and convert again.",
    )
    META_UNSAFE = (
        "meta-unsafe",
        Severity.DEGRADED,
        "A meta.yaml has aliases, or is nested very deeply: MLflow never writes that, and it can "
        "be made to blow up. It was not loaded.",
        "Write the values out and convert again.",
    )
    META_TRUNCATED = (
        "meta-truncated",
        Severity.DEGRADED,
        "A meta.yaml ends in the middle: its last line has no end and keys are missing. The last "
        "line was not trusted.",
        "Mend the file and convert again.",
    )
    META_DUPLICATE_KEY = (
        "meta-duplicate-key",
        Severity.DEGRADED,
        "A key stands twice in a meta.yaml; the last one counts, as it does for MLflow.",
        "Remove the wrong one.",
    )
    META_VALUE_UNUSABLE = (
        "meta-value-unusable",
        Severity.DEGRADED,
        "A value in a meta.yaml has a type or range that it can't have; it was left out.",
        "Mend the value and convert again.",
    )
    META_VALUE_CONVERTED = (
        "meta-value-converted",
        Severity.DEGRADED,
        "A value in a meta.yaml has an unusual form (a time as text, a fraction of a millisecond,"
        " ...) and was converted.",
        "Check the value that was kept.",
    )
    META_VALUE_UNKNOWN = (
        "meta-value-unknown",
        Severity.DEGRADED,
        "A value in a meta.yaml is none of those that MLflow knows there (a source_type, a "
        "logged model's status, ...); the nearest one was taken.",
        "Check the value that was kept; --values shows the one in the file.",
    )
    META_KEY_UNKNOWN = (
        "meta-key-unknown",
        Severity.NOTE,
        "A key in a meta.yaml or another YAML file has no place in MLflow's database: a plugin, a "
        "person or a newer MLflow wrote it. There is one note for each key, with the number of "
        "files that have it and the path of the first.",
        "Nothing, if you do not need it; the source keeps it. A tag keeps what you do need.",
    )
    ID_MISMATCH = (
        "id-differs-from-directory",
        Severity.DEGRADED,
        "The id in a meta.yaml is not the name of its directory. The directory's name was taken.",
        "If the directory was copied or renamed by hand, rename it back.",
    )
    TIME_NOT_MS = (
        "time-not-in-milliseconds",
        Severity.NOTE,
        "Times that can't be milliseconds of our era: before 1973 (seconds, perhaps) or after "
        "5138 (micro- or nanoseconds, perhaps). They were kept as they are.",
        "Nothing, if you know of it.",
    )

    # -- extractor: experiments and runs
    EXPERIMENT_REBUILT = (
        "experiment-rebuilt",
        Severity.DEGRADED,
        "An experiment's meta.yaml told nothing; the experiment was made from its directory, so "
        "that its runs are kept.",
        "Rename the experiment in MLflow if you know its name.",
    )
    EXPERIMENT_IN_FOLDER = (
        "experiment-in-folder",
        Severity.DEGRADED,
        "An experiment lies in a directory of its own making below the store, where MLflow does "
        "not see it.",
        "Nothing; if it is a backup that you do not want, convert with --experiment.",
    )
    RUN_OUTSIDE_EXPERIMENT = (
        "run-outside-experiment",
        Severity.DEGRADED,
        "A run's directory lies beside the experiments instead of in one. It was read as a run of"
        " the experiment that its meta.yaml names.",
        "Move it into its experiment's directory.",
    )
    RUN_WITHOUT_EXPERIMENT = (
        "run-without-experiment",
        Severity.REJECTED,
        "A run's directory lies beside the experiments instead of in one, and the experiment that "
        "its meta.yaml names is not there.",
        "Move it into its experiment's directory and convert again.",
    )
    RUN_REBUILT = (
        "run-rebuilt",
        Severity.DEGRADED,
        "A run's meta.yaml told nothing; the run was made from its params, metrics, tags and "
        "files. Its status is taken to be FINISHED, its times are those of its metrics.",
        "Check the run; restore its meta.yaml from a backup if there is one.",
    )
    RUN_EMPTY = (
        "run-empty",
        Severity.REJECTED,
        "A run's directory holds nothing: no meta.yaml that can be read, no param, metric, tag, "
        "input, output or artifact.",
        "Remove the directory.",
    )
    RUN_START_UNKNOWN = (
        "run-start-unknown",
        Severity.DEGRADED,
        "A run has no start time. MLflow needs one: that of its first metric, else its end, else "
        "0 (1 January 1970) was taken.",
        "Write start_time into its meta.yaml if you know it, and convert into a new database.",
    )
    RUN_ID_CHANGED = (
        "run-id-changed",
        Severity.NOTE,
        "A run's directory has a name that MLflow takes for no run id (a file manager's copy, "
        "mostly), so that the run was given an id made from that name.",
        "Delete the run in MLflow if it is a copy that you do not want.",
    )
    STATUS_UNKNOWN = (
        "status-unknown",
        Severity.DEGRADED,
        "A status that MLflow does not know. A run with an end is taken to be FINISHED, one "
        "without to be RUNNING, a model version to be READY, a trace's state is unspecified.",
        "Check it in MLflow.",
    )
    RUN_ENDS_BEFORE_START = (
        "run-ends-before-start",
        Severity.NOTE,
        "A run's end lies before its start; both were kept.",
        "Nothing.",
    )
    INLINE_TAGS_USED = (
        "inline-tags-used",
        Severity.DEGRADED,
        "The directory with the tags is missing; the tags in meta.yaml were taken, which may be "
        "older.",
        "Nothing.",
    )
    INPUT_DAMAGED = (
        "input-damaged",
        Severity.REJECTED,
        "A run's input does not say which dataset or model it is.",
        "Mend its meta.yaml and convert again.",
    )
    OUTPUT_DAMAGED = (
        "output-damaged",
        Severity.DEGRADED,
        "A run's output does not say its step; step 0 was taken.",
        "Mend its meta.yaml and convert again.",
    )
    DATASET_DAMAGED = (
        "dataset-damaged",
        Severity.REJECTED,
        "A dataset has no name or no digest.",
        "Mend its meta.yaml and convert again.",
    )
    ARTIFACTS_IN_TWO_PLACES = (
        "artifacts-in-two-places",
        Severity.DEGRADED,
        "Artifacts of one run lie both in its directory and in a server's mlartifacts; only the "
        "former are referred to.",
        "Move the others into the run's artifacts directory.",
    )
    ARTIFACT_UNREADABLE = (
        "artifact-unreadable",
        Severity.DEGRADED,
        "An artifact that was to be read as text can't be read.",
        "Check its permissions and the disk; it stays listed as an artifact.",
    )
    ARTIFACT_NOT_TEXT = (
        "artifact-not-text",
        Severity.NOTE,
        "An artifact that was to be read as text is binary or very large; it stays an artifact.",
        "Nothing.",
    )

    # artifact locations: --artifacts copy:DIR
    ARTIFACT_NOT_COPIED = (
        "artifact-not-copied",
        Severity.REJECTED,
        "An artifact could not be read, so it is not among the copies.",
        "Make the file readable and convert again: what was copied is not copied twice.",
    )
    ARTIFACT_COPY_REPLACED = (
        "artifact-copy-replaced",
        Severity.NOTE,
        "A file in the directory for copies was not the same as the artifact and was replaced by "
        "it: half a copy, or one that was changed.",
        "Nothing.",
    )

    # -- extractor: metrics
    METRIC_LINE_MALFORMED = (
        "metric-line-malformed",
        Severity.REJECTED,
        "A line of a metric file that is not a time, a value and a step.",
        "Mend the lines and convert again; the numbers of the first ones are in the message.",
    )
    METRIC_LINE_TRUNCATED = (
        "metric-line-truncated",
        Severity.REJECTED,
        "The last line of a metric file is cut off: it has no line end and fewer fields than the "
        "others.",
        "Nothing, if the process was killed while writing.",
    )
    METRIC_LINE_UNFINISHED = (
        "metric-line-unfinished",
        Severity.DEGRADED,
        "The last line of a metric file has no line end; its last field may be cut. It was kept.",
        "Check the last point.",
    )
    METRIC_POINT_REPEATED = (
        "metric-point-repeated",
        Severity.NOTE,
        "Equal points of a metric (same time, value and step) are one point. MLflow 3.x repeats "
        "lines whenever a model is logged.",
        "Nothing.",
    )
    METRIC_NUMBER_REPAIRED = (
        "metric-number-repaired",
        Severity.DEGRADED,
        "A step or time that is not a whole number; its fraction was cut off.",
        "Nothing.",
    )
    METRIC_VALUE_BOOLEAN = (
        "metric-value-boolean",
        Severity.NOTE,
        "A metric value of True or False (MLflow 1.x wrote these) became 1 or 0.",
        "Nothing.",
    )
    METRIC_OUT_OF_RANGE = (
        "metric-out-of-range",
        Severity.DEGRADED,
        "A step or time beyond 64 bits became the nearest number that fits.",
        "Check the metric.",
    )
    METRIC_FILE_EMPTY = (
        "metric-file-empty",
        Severity.NOTE,
        "A metric file without a line: the metric has no point.",
        "Nothing.",
    )
    METRIC_DATASET_DROPPED = (
        "metric-dataset-dropped",
        Severity.NOTE,
        "Points of a run's metric name a dataset. MLflow's database has no place for it; the "
        "points were kept.",
        "Nothing; log the metric on the logged model to keep the link.",
    )

    # -- extractor: traces
    TRACE_EMPTY = (
        "trace-empty",
        Severity.REJECTED,
        "A trace's directory holds nothing that could be read.",
        "Remove the directory.",
    )
    TRACE_REBUILT = (
        "trace-rebuilt",
        Severity.DEGRADED,
        "A trace's trace_info.yaml told nothing; the trace was made from its tags, metadata and "
        "spans.",
        "Check the trace.",
    )
    TRACE_TIME_MISSING = (
        "trace-time-missing",
        Severity.DEGRADED,
        "A trace does not say when it began; the first span's start was taken, or 1970.",
        "Nothing.",
    )
    SPANS_MISSING = (
        "spans-missing",
        Severity.DEGRADED,
        "No traces.json was found for a trace, neither in its directory nor among a server's "
        "artifacts: its spans are missing.",
        "If the artifacts lie elsewhere, put them beside the store as mlartifacts and convert "
        "again.",
    )
    TRACE_NEVER_ENDED = (
        "trace-never-ended",
        Severity.NOTE,
        "A trace was never ended, so MLflow wrote no spans for it.",
        "Nothing.",
    )
    SPANS_DAMAGED = (
        "spans-damaged",
        Severity.DEGRADED,
        "A traces.json can't be read whole (cut off, not JSON, binary). Spans that are whole were"
        " kept.",
        "Restore the file from a backup if there is one.",
    )
    SPAN_DAMAGED = (
        "span-damaged",
        Severity.REJECTED,
        "A span in a traces.json is not an object, or is cut off.",
        "Restore the file from a backup if there is one.",
    )
    SPAN_REPAIRED = (
        "span-repaired",
        Severity.DEGRADED,
        "A span lacks its id, times or name, or they have an unusual form; they were derived or "
        "converted.",
        "Check the trace.",
    )
    SPAN_TWICE = (
        "span-twice",
        Severity.DEGRADED,
        "Two different spans of a trace have one id; the second was given another.",
        "Check the trace.",
    )
    ASSESSMENT_DAMAGED = (
        "assessment-damaged",
        Severity.REJECTED,
        "An assessment has no name, or neither a value nor an error.",
        "Mend the file and convert again.",
    )
    ASSESSMENT_REPAIRED = (
        "assessment-repaired",
        Severity.DEGRADED,
        "An assessment lacks its source or times; they were filled in as the message says.",
        "Check the assessment.",
    )

    # -- extractor: models
    MODEL_REBUILT = (
        "model-rebuilt",
        Severity.DEGRADED,
        "A model's meta.yaml told nothing; the model was made from its directory.",
        "Check the model.",
    )
    MODEL_EMPTY = (
        "model-empty",
        Severity.REJECTED,
        "A model's directory holds nothing that could be read.",
        "Remove the directory.",
    )
    MODEL_VERSION_REBUILT = (
        "model-version-rebuilt",
        Severity.DEGRADED,
        "A model version's meta.yaml told nothing; the version was made from its directory.",
        "Check the version.",
    )
    MODEL_VERSION_TIME_MISSING = (
        "model-version-time-missing",
        Severity.DEGRADED,
        "A model version does not say when it was created; its last update was taken, else the "
        "model's creation, else 1970. Without one MLflow could not list it.",
        "Nothing.",
    )
    MODEL_VERSION_DAMAGED = (
        "model-version-damaged",
        Severity.REJECTED,
        "A model version's directory is not named version- and a number.",
        "Rename the directory and convert again.",
    )
    ALIAS_DAMAGED = (
        "alias-damaged",
        Severity.REJECTED,
        "An alias does not hold the number of a version.",
        "Mend the file and convert again.",
    )
    ALIAS_DANGLING = (
        "alias-dangling",
        Severity.DEGRADED,
        "An alias names a version that the model does not have; it was kept.",
        "Set the alias again in MLflow.",
    )


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
    kind: Kind | None = None  # None for a plain file
    entity_id: str = ""
    count: int = 1
    sample: str = ""  # the source's own words, which are shown only with --values

    @property
    def severity(self) -> Severity:
        return self.code.severity
