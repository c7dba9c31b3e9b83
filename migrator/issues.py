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
    TRACE_LINK = "trace link"
    EVALUATION_DATASET = "evaluation dataset"
    EVALUATION_DATASET_TAG = "evaluation dataset tag"
    EVALUATION_ITEM = "evaluation record"
    EVALUATION_DATASET_LINK = "evaluation dataset link"
    SCORER = "scorer"
    SCORER_VERSION = "scorer version"
    WEBHOOK = "webhook"
    WEBHOOK_EVENT = "webhook event"


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
        "A file is not part of MLflow's layout: an editor's or sync tool's file, a README.",
        "No action needed. The file stays where it is.",
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
        "A table of a database holds rows that have no place in what is converted (jobs, gateway "
        "endpoints, review queues, a table of someone's own).",
        "Nothing if you don't need them; else keep the old database, or copy them by MLflow's API.",
    )
    COLUMN_NOT_CARRIED = (
        "column-not-carried",
        Severity.DEGRADED,
        "A table of a database has a column with values that this program does not know.",
        "Nothing if you don't need it; else use a newer release of this program.",
    )
    WORKSPACE_LEFT = (
        "workspace-left",
        Severity.REJECTED,
        "A database has several workspaces (MLflow 3.10 and later), of which one is converted at a "
        "time: names are unique in a workspace only, and may be seen by others.",
        "Convert each into a database of its own: MLFLOW_WORKSPACE=NAME mlflow-migrate convert … "
        "With that variable, the other workspaces are left out on request.",
    )
    WORKSPACE_NOT_CHOSEN = (
        "workspace-not-chosen",
        Severity.NOTE,
        "The variable MLFLOW_WORKSPACE chooses one workspace of a database; this is in another.",
        "Nothing, or convert the other workspaces as well.",
    )
    ROW_WITHOUT_OWNER = (
        "row-without-owner",
        Severity.REJECTED,
        "Runs, traces, models, datasets or scorers of a database belong to an experiment that is "
        "not there.",
        "Restore the experiment's row from a backup, or insert one with that id in a copy of the "
        "database, and convert that.",
    )
    ROW_LEFT_OVER = (
        "row-left-over",
        Severity.DEGRADED,
        "Rows of a database are parts (params, tags, metrics, links, …) of a run, model, trace or "
        "experiment that is not there: it was deleted, and they were left behind. MLflow shows "
        "them nowhere, and they are not converted.",
        "Nothing if the owner was deleted on purpose; else restore it from a backup.",
    )
    WEBHOOK_SECRET_LEFT = (
        "webhook-secret-left",
        Severity.DEGRADED,
        "A webhook has a secret, which is encrypted with a key of the old server; the webhook was "
        "converted without it, and its calls are not signed.",
        "Set the secret again: MlflowClient.update_webhook(webhook_id, secret=…).",
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

    # extractor: servers
    SERVER_WITHHOLDS = (
        "server-withholds",
        Severity.NOTE,
        "The API of an MLflow server does not give this, so it can't be converted from a server.",
        "Nothing if you don't need it; else convert the database behind the server, which has it.",
    )
    SERVER_ARTIFACTS_UNREADABLE = (
        "server-artifacts-unreadable",
        Severity.DEGRADED,
        "An MLflow server does not list the artifacts of a run or logged model, or does not send "
        "one of the files. Profiles don't see them, and they are not copied.",
        "See the server's log: it may lack access to the bucket or directory. Or give the files "
        "with --artifacts-at.",
    )

    # pipeline: the same entity more than once
    ENTITY_REPEATED = (
        "entity-repeated",
        Severity.NOTE,
        "The same run, trace, dataset or model is in two places, with equal content or in two "
        "states (it went on after one of them was copied).",
        "No action needed. It was converted once, with everything that either place has.",
    )
    ENTITY_DIFFERS = (
        "entity-differs",
        Severity.DEGRADED,
        "The same run, trace, dataset or model is in two places, with different values of "
        "something that may change (a tag, a name, a status). The values of the first were kept, "
        "and anything that only the second has was added.",
        "Compare the two, and correct the value in the database if it is the wrong one.",
    )
    ENTITY_CLASHES = (
        "entity-clashes",
        Severity.REJECTED,
        "Two runs, traces, datasets or models have the same id, which must be unique in a "
        "database, but differ in something that MLflow never changes: experiment, start or "
        "creation time, params, metric points. Only one was converted. In order of preference "
        "that is the one in the target, the one in the first source, the active one, the one with "
        "the shorter path.",
        "Decide which of the two is right. To keep the other, convert it into a separate "
        "database, or delete the one in the target and convert again.",
    )
    EXPERIMENT_TAG_DIFFERS = (
        "experiment-tag-differs",
        Severity.DEGRADED,
        "Two sources share an experiment, and one of its tags has different values in them. The "
        "value of the first source was kept.",
        "If the other value is right, set the tag in the database.",
    )
    STORE_CHANGED = (
        "store-changed",
        Severity.DEGRADED,
        "Files appeared or vanished while the store was read, because another program writes into "
        "it. Everything that was there when it was read was converted.",
        "Convert again when nothing writes into the store; the missing items are added.",
    )

    STORE_BESIDE = (
        "store-beside",
        Severity.DEGRADED,
        "The source is a folder whose mlruns was read. Another file store lies in the same folder "
        "and was not read.",
        "Give its path as a second source, or take all stores below the folder with --each.",
    )

    # sources that are fetched
    OBJECT_NAME_UNUSABLE = (
        "object-name-unusable",
        Severity.REJECTED,
        "An object in a bucket has a name that a local file can't have: an empty part, .., the "
        "name of a folder, too many characters, or a name that differs from another only in case. "
        "It was not fetched.",
        "If it belongs to MLflow, copy it to another key and convert again. Otherwise no action "
        "is needed.",
    )

    # archives
    ARCHIVE_ENTRY_REFUSED = (
        "archive-entry-refused",
        Severity.REJECTED,
        "An entry of an archive leads out of it (an absolute name, .., a link), is a device or "
        "pipe, or has the name of an entry of another kind. It was not unpacked.",
        "If it belongs to MLflow, pack it under a plain name and convert again. Otherwise no "
        "action is needed.",
    )

    # loader
    TARGET_DIFFERS = (
        "target-differs",
        Severity.DEGRADED,
        "The target already has this item with other values. It was not changed.",
        "Compare the two. To use the source's values, delete the item in the target and convert "
        "again, or convert into a new database.",
    )
    TARGET_UPDATED = (
        "target-updated",
        Severity.NOTE,
        "The source changed this item since the last conversion and nobody changed it in the "
        "target, or the target had it in an unfinished state. It was updated from the source.",
        "No action needed.",
    )
    TARGET_RESTORED = (
        "restored-in-target",
        Severity.NOTE,
        "This item was marked as deleted in the target, and --restore brought it back.",
        "No action needed.",
    )
    TARGET_CHANGED = (
        "changed-on-both-sides",
        Severity.NOTE,
        "Since the last conversion this item was changed in the source, and people changed it in "
        "the target. It was left as people have it.",
        "Compare the two. To use the source's value, set it in MLflow.",
    )
    TARGET_DELETED = (
        "deleted-in-target",
        Severity.NOTE,
        "An earlier conversion wrote this item, and it was deleted in the target since. It stays "
        "away, with all that belongs to it.",
        "No action needed. To bring deleted items back, convert with --restore.",
    )
    LOAD_DUPLICATE = (
        "load-duplicate",
        Severity.REJECTED,
        "The sources have two items with the same id in different places. The first one was "
        "converted.",
        "If the second is a copy, no action is needed. Otherwise convert it into a separate "
        "database.",
    )
    LOAD_REFUSED = (
        "load-refused",
        Severity.REJECTED,
        "The database refuses this row: its key is taken, or a value is outside the range of its "
        "column.",
        "Correct the value in the source's file and convert again.",
    )
    LOAD_WITHOUT_PARENT = (
        "load-without-parent",
        Severity.REJECTED,
        "This item belongs to another one that is missing from the source, or was rejected.",
        "Restore the item that it belongs to and convert again.",
    )
    LOAD_TEXT_REPAIRED = (
        "load-text-repaired",
        Severity.DEGRADED,
        "A text has characters that this database can't store: lone surrogates (no database), NUL "
        "(PostgreSQL), or letters outside its charset (Greek in latin1). Each became a question "
        "mark; NUL characters were removed.",
        "No action needed. The source keeps the original text.",
    )
    LOAD_TEXT_CUT = (
        "load-text-cut",
        Severity.DEGRADED,
        "A text is longer than its column on this server, and was cut. SQLite files keep it whole.",
        "Read the whole text in the source. If a location was cut, its files can't be found: "
        "convert with --artifacts copy:DIR and a short DIR, or from a store with a shorter path.",
    )
    LOAD_MODEL_NAN = (
        "load-model-nan",
        Severity.DEGRADED,
        "A metric of a logged model is NaN. This table of MLflow's database can't store NaN, so "
        "it stores 0, as MLflow itself does. The run's own metric keeps NaN.",
        "Read this value from the run's metric instead of the model's.",
    )
    LOAD_DEFAULT_ADDED = (
        "load-default-added",
        Severity.NOTE,
        "An experiment with an id other than 0 is called Default. MLflow would try to create "
        "experiment 0 with that name and fail to open the database, so an empty, deleted "
        "experiment 0 was added.",
        "No action needed.",
    )

    # server: what goes through a server's API
    SERVER_REFUSED = (
        "server-refused",
        Severity.REJECTED,
        "The server's API refuses this item: a key or value breaks its rules, or the server "
        "failed.",
        "Follow the message. A SQLite target accepts everything that the API refuses.",
    )
    SERVER_VALUE_CUT = (
        "server-value-cut",
        Severity.DEGRADED,
        "A value is longer than the server's API accepts, and was cut.",
        "Read the whole value in the source. A SQLite target keeps it.",
    )
    SERVER_DATASET_UNUSED = (
        "server-dataset-unused",
        Severity.REJECTED,
        "No converted run uses this dataset, and the server's API creates datasets only as inputs "
        "of runs.",
        "No action needed. A SQLite target keeps it.",
    )
    SERVER_ARTIFACTS_LEFT = (
        "server-artifacts-left",
        Severity.DEGRADED,
        "Artifacts were not sent to the server. The tag migrator.source_fields has their recorded "
        "location.",
        "Follow the message and convert again; the missing files are sent then.",
    )
    SERVER_SOURCE_CHANGED = (
        "server-source-changed",
        Severity.DEGRADED,
        "The source of a model version is a path on the client's machine, or is in another run or "
        "logged model than the version's own. A server (from MLflow 3.17 on for the second) "
        "refuses it. Another source was written, and the tag migrator.source_fields has the "
        "recorded one.",
        "Send the model's files to the server and register them again.",
    )
    # transformer: trees of runs
    RUN_PARENT_MISSING = (
        "run-parent-missing",
        Severity.NOTE,
        "A run's parent is not in the store: it was deleted for good, or is in another store.",
        "If the parent is in another store, convert both stores in one command.",
    )
    RUN_PARENT_SELF = (
        "run-parent-self",
        Severity.NOTE,
        "A run names itself as its parent.",
        "No action needed. It became a root.",
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
        "A run and its parent are in different experiments.",
        "No action needed. The trace belongs to the root's experiment.",
    )
    # transformer: traces rebuilt from runs
    ARTIFACT_NOT_JSON = (
        "artifact-not-json",
        Severity.NOTE,
        "A trace is made from a .json artifact that is not valid JSON.",
        "No action needed. The trace has the text as it is.",
    )
    ARTIFACT_NOT_TABLE = (
        "artifact-not-a-table",
        Severity.NOTE,
        "A file that should hold a table of evaluations or predictions holds none, or has rows "
        "that do not fit its columns.",
        "No action needed. Readable rows became traces, and the file stays an artifact.",
    )
    TABLES_UNUSED = (
        "tables-unused",
        Severity.NOTE,
        "A tree of runs logged tables (mlflow.log_table) that no trace shows.",
        "No action needed if they are not evaluations or predictions. Else add --include tables: "
        "each row becomes a trace.",
    )
    PROFILE_AMBIGUOUS = (
        "profile-ambiguous",
        Severity.NOTE,
        "Several profiles recognise a tree of runs. The first one was used.",
        "Choose a profile with --profile, or make its [[recognise]] stricter.",
    )
    PROFILE_UNUSED = (
        "profile-takes-nothing",
        Severity.NOTE,
        "One of your profiles was not used for any tree of runs.",
        "Run 'mlflow-migrate profiles check FILE SOURCE' to see what it recognises.",
    )
    RUN_WITHOUT_TIME = (
        "run-without-time",
        Severity.DEGRADED,
        "A run has no start time, and nothing in it or around it has a time either.",
        "Nothing can be done. Its trace starts on 1 January 1970.",
    )
    SPAN_ENDS_BEFORE_START = (
        "span-ends-before-start",
        Severity.DEGRADED,
        "A run ends before it starts, because a clock was set back.",
        "No action needed. Its span ends when it starts.",
    )
    SESSION_ID_CHANGED = (
        "session-id-changed",
        Severity.DEGRADED,
        "MLflow can't open this session or user id: it has more than 250 characters, or a quote "
        "in it. It was changed.",
        "Use --values to see both ids.",
    )
    RUN_GROUPED_BY_TIME = (
        "run-grouped-by-time",
        Severity.NOTE,
        "A run without a parent became a step of the workflow during which it ran "
        "(--group-by-time).",
        "If it is not a step of that workflow, convert without --group-by-time.",
    )
    RUN_ADOPTED = (
        "run-adopted",
        Severity.NOTE,
        "A step without its workflow was attached to the workflow that ran just before it "
        "(--adopt-orphans).",
        "If it belongs elsewhere, convert without --adopt-orphans.",
    )
    TIME_IMPLAUSIBLE = (
        "time-implausible",
        Severity.DEGRADED,
        "A run or call has a time that a wrong clock or time zone must have caused: far outside "
        "the time of its root, or before 1973 when its neighbours are not. Its span was moved "
        "into the parent's time with its recorded duration, or got the times of its neighbours. "
        "The attributes legacy.recorded_start_ms and legacy.recorded_end_ms keep the recorded "
        "times.",
        "If the date of the trace is right, no action is needed. The run itself keeps its "
        "recorded times.",
    )
    ASSESSMENT_TYPES_MIXED = (
        "assessment-types-mixed",
        Severity.DEGRADED,
        "Assessments of the same name in one experiment have values of several types (boolean, "
        "number, text, JSON). MLflow's charts show only one type.",
        "Change `value` in the rule of your profile, or give each type its own name.",
    )
    # transformer: traces that MLflow wrote
    TRACE_ID_CHANGED = (
        "trace-id-changed",
        Severity.NOTE,
        "A trace's id does not have MLflow 3's form, and MLflow's pages would not open it. The "
        "trace got a new id.",
        "To find the trace, search for the old id in the metadata migrator.source_trace_id.",
    )
    TRACE_ROOT_ADDED = (
        "trace-root-added",
        Severity.DEGRADED,
        "A trace has several roots, or spans whose parent is missing. MLflow needs exactly one "
        "root.",
        "No action needed. A span named after the trace was added as the root.",
    )
    TRACE_SPAN_CLOSED = (
        "trace-span-closed",
        Severity.DEGRADED,
        "A span or trace was never closed, or ends before it starts.",
        "No action needed. It now ends with its last child or event.",
    )
    TRACE_VALUE_CHANGED = (
        "trace-value-changed",
        Severity.DEGRADED,
        "A value in a trace can't pass MLflow's API: an integer beyond 64 bits, deep nesting, or "
        "too many characters.",
        "No action needed. The value was kept as text, and cut if the message says so.",
    )
    # transformer: experiments
    EXPERIMENT_ID_CHANGED = (
        "experiment-id-changed",
        Severity.NOTE,
        "The target can't use an experiment's id: it is not a number that the database can hold, "
        "or it is taken. The experiment got a new id.",
        "To find the experiment, search for the old id in its tag migrator.source_experiment_id.",
    )
    EXPERIMENT_RENAMED = (
        "experiment-renamed",
        Severity.DEGRADED,
        "An experiment has a new name in the target, because another experiment has its name or "
        "the target can't hold it. If several in one source have the same name, the active one "
        "keeps it, then the one with the most runs, then the newest.",
        "Find it by its new name. Its tag migrator.source_experiment_name has the old one.",
    )
    EXPERIMENT_NAME_KEPT = (
        "experiment-name-kept",
        Severity.NOTE,
        "The target has an experiment of an earlier conversion under another name: it was renamed "
        "there. It keeps that name, and gets what is new in the source.",
        "No action needed. Its tag migrator.source_experiment_name has the name that the "
        "conversion gave it.",
    )
    MODEL_NAME_KEPT = (
        "registered-model-name-kept",
        Severity.NOTE,
        "The target has a registered model of an earlier conversion under another name: it was "
        "renamed there. It keeps that name, and gets what is new in the source.",
        "No action needed.",
    )
    MODEL_NAME_FOLLOWED = (
        "registered-model-name-followed",
        Severity.NOTE,
        "A registered model was renamed in the source since the last conversion, and nobody "
        "renamed it in the target. The target has the new name as well.",
        "No action needed.",
    )
    EXPERIMENT_NAME_FOLLOWED = (
        "experiment-name-followed",
        Severity.NOTE,
        "An experiment was renamed in the source since the last conversion, and nobody renamed it "
        "in the target. The target has the new name as well.",
        "No action needed.",
    )
    EXPERIMENT_MERGED = (
        "experiment-merged",
        Severity.NOTE,
        "Experiments with the same name in different sources became one experiment.",
        "To keep them apart, convert the sources into separate databases.",
    )
    # -- extractor: what lies in the store beside MLflow's files
    DIRECTORY_IGNORED = (
        "directory-ignored",
        Severity.NOTE,
        "A directory is not part of MLflow's layout: one of a version control system, of an "
        "editor, or a user's own.",
        "No action needed. The directory stays where it is. If it holds runs, move them into an "
        "experiment's directory.",
    )
    RUNS_IGNORED = (
        "runs-ignored",
        Severity.DEGRADED,
        "A directory that is not part of MLflow's layout has files called meta.yaml, as runs and "
        "experiments do. It was not read.",
        "If its runs are missing, move them into an experiment's directory and convert again.",
    )
    STAND_IN_READ = (
        "stand-in-read",
        Severity.DEGRADED,
        "A file or directory of MLflow's is missing, and one with a similar name was read instead "
        "(META.YAML, meta.yml, meta (1).yaml, meta.yaml.bak, Params).",
        "Check that it is the right one, and rename it.",
    )
    SPECIAL_FILE_IGNORED = (
        "special-file-ignored",
        Severity.NOTE,
        "A socket, pipe or device is in a place that MLflow does not use. It was not opened.",
        "No action needed.",
    )
    LINK_INSIDE_STORE = (
        "link-inside-store",
        Severity.NOTE,
        "A link leads to a directory of the same store. It was not followed, because that "
        "directory is read at its own place. Links to params, tags, traces and the like are "
        "followed.",
        "No action needed.",
    )
    LINK_NOT_FOLLOWED = (
        "link-not-followed",
        Severity.REJECTED,
        "A symbolic link leads out of the store, in a circle, or nowhere. Links out of a store "
        "are never followed.",
        "Replace the link by the files themselves, or convert the store that it leads to as a "
        "second source.",
    )
    LINKS_TOO_MANY = (
        "links-too-many",
        Severity.REJECTED,
        "A symbolic link to a directory is behind three others, or behind links by which more "
        "than 250 paths lead to it. It was not followed, because directories that link to one "
        "another would be read without end.",
        "Remove links that are not needed, or give the directory that the link leads to as a "
        "second source.",
    )
    ARTIFACT_LINK = (
        "artifact-link-not-followed",
        Severity.DEGRADED,
        "A symbolic link or special file is among the artifacts. It is not listed as an artifact.",
        "If you need it as an artifact, replace it by the file itself.",
    )
    SPECIAL_FILE = (
        "special-file",
        Severity.REJECTED,
        "A socket, pipe or device is in the place of a value. It was not opened.",
        "Remove it, or replace it by a regular file.",
    )
    CONFLICT_COPY = (
        "conflict-copy",
        Severity.DEGRADED,
        "A sync tool or file manager made a copy beside a file. Only the original was read.",
        "Compare the two, keep the right one under the original's name, and convert again.",
    )
    FILE_UNREADABLE = (
        "file-unreadable",
        Severity.REJECTED,
        "The operating system refuses to read a file.",
        "Check its permissions and the disk, then convert again.",
    )
    FILE_VANISHED = (
        "file-vanished",
        Severity.REJECTED,
        "A file was listed in its directory, but was gone when it was read.",
        "Convert again when nothing else changes the store.",
    )
    FILE_TOO_LARGE = (
        "file-too-large",
        Severity.REJECTED,
        "A file is far larger than such a file can be. It was not read.",
        "Check what the file contains.",
    )
    DIRECTORY_UNREADABLE = (
        "directory-unreadable",
        Severity.REJECTED,
        "The operating system refuses to list a directory, so its contents could not be counted.",
        "Check its permissions and the disk, then convert again.",
    )
    FOLDER_IS_A_FILE = (
        "folder-is-a-file",
        Severity.DEGRADED,
        "A file, pipe, socket or device is in the place of a directory (params, metrics, tags, "
        "...).",
        "Nothing can be read from it. Restore the directory from a backup if there is one.",
    )
    NAME_UNDECODABLE = (
        "name-undecodable",
        Severity.DEGRADED,
        "The name of a file or directory is not UTF-8. Its bytes are shown as \\xff.",
        "If the key matters to you, rename the file and convert again.",
    )
    NAME_TWICE = (
        "name-twice",
        Severity.REJECTED,
        "Two files have the same key when their names are decoded.",
        "Rename one of them and convert again.",
    )
    TEXT_UNDECODABLE = (
        "text-undecodable",
        Severity.DEGRADED,
        "A text is not UTF-8. Each byte that can't be decoded became the replacement character.",
        "Use --values to see the raw bytes. If you need them, write the file as UTF-8 and convert "
        "again.",
    )
    LOST_WITH_OWNER = (
        "lost-with-its-owner",
        Severity.REJECTED,
        "This item belongs to a run, trace or model that could not be converted at all.",
        "Fix the other issue with the same id.",
    )
    NOTHING_READABLE = (
        "nothing-readable",
        Severity.REJECTED,
        "Nothing of a run, trace or model could be read: the operating system refuses it, or it "
        "has vanished. Another issue gives the reason.",
        "Check its permissions and the disk, then convert again.",
    )

    # -- extractor: meta.yaml and its like
    META_MISSING = (
        "meta-missing",
        Severity.DEGRADED,
        "A meta.yaml is missing, or a directory is in its place. The facts that other files show "
        "were kept.",
        "Restore the file from a backup if there is one.",
    )
    META_EMPTY = (
        "meta-empty",
        Severity.DEGRADED,
        "A meta.yaml is empty, or has only NUL bytes, as after a crash or on a full disk. The "
        "facts that other files show were kept.",
        "Restore the file from a backup if there is one.",
    )
    META_UNREADABLE = (
        "meta-unreadable",
        Severity.DEGRADED,
        "A meta.yaml can't be read: permissions, a disk error, or far too large.",
        "Check its permissions and the disk, then convert again.",
    )
    META_DAMAGED = (
        "meta-damaged",
        Severity.DEGRADED,
        "A meta.yaml is not valid YAML: binary, cut off, tabs, merge conflict markers, ... Its "
        "complete lines were kept.",
        "Fix the file as the message says and convert again.",
    )
    META_NOT_A_MAPPING = (
        "meta-not-a-mapping",
        Severity.DEGRADED,
        "A meta.yaml is valid YAML, but has a list or a single value instead of keys and values.",
        "Fix the file and convert again.",
    )
    META_UNSAFE = (
        "meta-unsafe",
        Severity.DEGRADED,
        "A meta.yaml has aliases or is nested very deeply. MLflow never writes such a file, and "
        "loading it may exhaust the memory. It was not loaded.",
        "Write the values out without aliases and convert again.",
    )
    META_TRUNCATED = (
        "meta-truncated",
        Severity.DEGRADED,
        "A meta.yaml is cut off: its last line has no end, and keys are missing. The last line "
        "was not used.",
        "Fix the file and convert again.",
    )
    META_DUPLICATE_KEY = (
        "meta-duplicate-key",
        Severity.DEGRADED,
        "A meta.yaml has the same key twice. The last value was used, as MLflow does.",
        "Remove the wrong one.",
    )
    META_VALUE_UNUSABLE = (
        "meta-value-unusable",
        Severity.DEGRADED,
        "A value in a meta.yaml has an invalid type or range. It was left out.",
        "Fix the value and convert again.",
    )
    META_VALUE_CONVERTED = (
        "meta-value-converted",
        Severity.DEGRADED,
        "A value in a meta.yaml has an unusual form (a time as text, a fraction of a millisecond, "
        "...) and was converted.",
        "Check the converted value.",
    )
    META_VALUE_UNKNOWN = (
        "meta-value-unknown",
        Severity.DEGRADED,
        "MLflow does not know a value in a meta.yaml (a source_type, a logged model's status, "
        "...). The nearest known value was used.",
        "Check the value that was used. Use --values to see the one in the file.",
    )
    META_KEY_UNKNOWN = (
        "meta-key-unknown",
        Severity.NOTE,
        "MLflow's database has no column for a key in a meta.yaml or another YAML file. A plugin, "
        "a person or a newer MLflow wrote it. There is one note for each key, with the number of "
        "files that have it and the path of the first.",
        "If you do not need the value, no action is needed. Otherwise store it in a tag; the "
        "source keeps it too.",
    )
    ID_MISMATCH = (
        "id-differs-from-directory",
        Severity.DEGRADED,
        "The id in a meta.yaml differs from the name of its directory. The directory's name was "
        "used.",
        "If the directory was copied or renamed by hand, rename it back.",
    )
    TIME_NOT_MS = (
        "time-not-in-milliseconds",
        Severity.NOTE,
        "A time is not in milliseconds since 1970: it would be before 1973 (it may be seconds) or "
        "after 5138 (it may be micro- or nanoseconds). It was kept as it is.",
        "If the time is right, no action is needed.",
    )

    # -- extractor: experiments and runs
    EXPERIMENT_REBUILT = (
        "experiment-rebuilt",
        Severity.DEGRADED,
        "An experiment's meta.yaml has no usable facts. The experiment was rebuilt from its "
        "directory, so that its runs are kept.",
        "Rename the experiment in MLflow if you know its name.",
    )
    EXPERIMENT_IN_FOLDER = (
        "experiment-in-folder",
        Severity.DEGRADED,
        "An experiment is in a subdirectory of the store that somebody made. MLflow does not see "
        "it there.",
        "No action needed. If it is a backup that you do not want, choose experiments with "
        "--experiment.",
    )
    RUN_OUTSIDE_EXPERIMENT = (
        "run-outside-experiment",
        Severity.DEGRADED,
        "A run's directory is beside the experiments instead of in one. It was read as a run of "
        "the experiment that its meta.yaml names.",
        "Move it into its experiment's directory.",
    )
    RUN_WITHOUT_EXPERIMENT = (
        "run-without-experiment",
        Severity.REJECTED,
        "A run's directory is beside the experiments instead of in one, and the experiment that "
        "its meta.yaml names does not exist.",
        "Move it into its experiment's directory and convert again.",
    )
    RUN_REBUILT = (
        "run-rebuilt",
        Severity.DEGRADED,
        "A run's meta.yaml has no usable facts. The run was rebuilt from its params, metrics, "
        "tags and files, with status FINISHED and the times of its metrics.",
        "Check the run. Restore its meta.yaml from a backup if there is one.",
    )
    RUN_EMPTY = (
        "run-empty",
        Severity.REJECTED,
        "A run's directory is empty: no readable meta.yaml, no param, metric, tag, input, output "
        "or artifact.",
        "Remove the directory.",
    )
    RUN_START_UNKNOWN = (
        "run-start-unknown",
        Severity.DEGRADED,
        "A run has no start time, which MLflow needs. It got the time of its first metric, or its "
        "end, or 0 (1 January 1970).",
        "If you know it, write start_time into its meta.yaml and convert into a new database.",
    )
    RUN_ID_CHANGED = (
        "run-id-changed",
        Severity.NOTE,
        "The name of a run's directory is not a valid run id for MLflow (usually a file manager's "
        "copy). The run got an id derived from that name.",
        "If it is a copy that you do not want, delete the run in MLflow.",
    )
    STATUS_UNKNOWN = (
        "status-unknown",
        Severity.DEGRADED,
        "MLflow does not know a status. A run became FINISHED if it has an end, otherwise "
        "RUNNING; a model version became READY; a trace's state became unspecified.",
        "Check it in MLflow.",
    )
    RUN_ENDS_BEFORE_START = (
        "run-ends-before-start",
        Severity.NOTE,
        "A run ends before it starts. Both times were kept.",
        "No action needed.",
    )
    INLINE_TAGS_USED = (
        "inline-tags-used",
        Severity.DEGRADED,
        "The tags directory is missing. The tags in meta.yaml were used, which may be older.",
        "No action needed.",
    )
    INPUT_DAMAGED = (
        "input-damaged",
        Severity.REJECTED,
        "A run's input does not name its dataset or model.",
        "Fix its meta.yaml and convert again.",
    )
    OUTPUT_DAMAGED = (
        "output-damaged",
        Severity.DEGRADED,
        "A run's output has no step. Step 0 was used.",
        "Fix its meta.yaml and convert again.",
    )
    DATASET_DAMAGED = (
        "dataset-damaged",
        Severity.REJECTED,
        "A dataset has no name or no digest.",
        "Fix its meta.yaml and convert again.",
    )
    ARTIFACTS_IN_TWO_PLACES = (
        "artifacts-in-two-places",
        Severity.DEGRADED,
        "A run has artifacts both in its directory and, not the same, in another place: a server's "
        "mlartifacts, or where --artifacts-at says. The database points only to those in its "
        "directory.",
        "Move the others into the run's artifacts directory.",
    )
    ARTIFACT_UNREADABLE = (
        "artifact-unreadable",
        Severity.DEGRADED,
        "An artifact whose text is needed can't be read. It is still listed as an artifact.",
        "Check its permissions and the disk.",
    )
    ARTIFACT_NOT_TEXT = (
        "artifact-not-text",
        Severity.NOTE,
        "An artifact whose text is needed is binary or very large. It is still listed as an "
        "artifact.",
        "No action needed.",
    )

    # artifacts in object stores and behind servers
    ARTIFACTS_NOT_LOOKED_AT = (
        "artifacts-not-looked-at",
        Severity.DEGRADED,
        "Artifacts in an object store or behind a server could not be looked at: a package, the "
        "credentials or the network is missing, or the place does not exist. Runs were converted "
        "without them; the summary counts the traces that are hollow because of it.",
        "Do what the message says and convert into a new database; or give the place that has the "
        "files with --artifacts-at OLD=NEW.",
    )
    ARTIFACTS_BEYOND_LIMIT = (
        "artifacts-beyond-limit",
        Severity.DEGRADED,
        "Artifacts that a profile or trace needs, or that were to be sent to a server, were not "
        "fetched from an object store or server: all together have more bytes than --fetch-limit "
        "allows.",
        "Give a higher --fetch-limit and convert into a new database.",
    )
    ARTIFACT_CHANGED = (
        "artifact-changed",
        Severity.NOTE,
        "An artifact in an object store or behind a server changed between listing and reading. "
        "What was there when it was read was taken.",
        "Convert again when nothing writes there, if the earlier content matters.",
    )

    # artifact locations: --artifacts copy:DIR
    ARTIFACT_NOT_COPIED = (
        "artifact-not-copied",
        Severity.REJECTED,
        "An artifact was not copied: it could not be read, or the directory for copies takes its "
        "name for that of another file (as macOS and Windows do with A.txt and a.txt).",
        "Make the file readable, or copy to a directory that keeps both names, and convert again; "
        "files that were copied are not copied twice.",
    )
    ARTIFACT_COPY_REPLACED = (
        "artifact-copy-replaced",
        Severity.NOTE,
        "A file in the directory for copies differed from the artifact (an incomplete or changed "
        "copy), and was replaced.",
        "No action needed.",
    )

    # -- extractor: metrics
    METRIC_LINE_MALFORMED = (
        "metric-line-malformed",
        Severity.REJECTED,
        "A line of a metric file does not consist of a time, a value and a step.",
        "Fix the lines that the message lists and convert again.",
    )
    METRIC_LINE_TRUNCATED = (
        "metric-line-truncated",
        Severity.REJECTED,
        "The last line of a metric file is cut off: it has no line end, and fewer fields than the "
        "others.",
        "If the process was killed while it wrote the line, no action is needed.",
    )
    METRIC_LINE_UNFINISHED = (
        "metric-line-unfinished",
        Severity.DEGRADED,
        "The last line of a metric file has no line end, so its last field may be cut off. It was "
        "kept.",
        "Check the last point.",
    )
    METRIC_POINT_REPEATED = (
        "metric-point-repeated",
        Severity.NOTE,
        "Equal points of a metric (same time, value and step) became one point. MLflow 3.x "
        "repeats lines whenever a model is logged.",
        "No action needed.",
    )
    METRIC_NUMBER_REPAIRED = (
        "metric-number-repaired",
        Severity.DEGRADED,
        "A step or time is not a whole number. Its fraction was cut off.",
        "No action needed.",
    )
    METRIC_VALUE_BOOLEAN = (
        "metric-value-boolean",
        Severity.NOTE,
        "A metric value is True or False, as MLflow 1.x wrote it. It became 1 or 0.",
        "No action needed.",
    )
    METRIC_OUT_OF_RANGE = (
        "metric-out-of-range",
        Severity.DEGRADED,
        "A step or time is beyond 64 bits. It became the nearest number that fits.",
        "Check the metric.",
    )
    METRIC_FILE_EMPTY = (
        "metric-file-empty",
        Severity.NOTE,
        "A metric file is empty, so the metric has no points.",
        "No action needed.",
    )
    METRIC_DATASET_DROPPED = (
        "metric-dataset-dropped",
        Severity.NOTE,
        "Points of a run's metric name a dataset, for which MLflow's database has no column. The "
        "points were kept without it.",
        "No action needed. To keep the link, log the metric on the logged model.",
    )

    # -- extractor: traces
    TRACE_EMPTY = (
        "trace-empty",
        Severity.REJECTED,
        "A trace's directory has nothing that can be read.",
        "Remove the directory.",
    )
    TRACE_REBUILT = (
        "trace-rebuilt",
        Severity.DEGRADED,
        "A trace's trace_info.yaml has no usable facts. The trace was rebuilt from its tags, "
        "metadata and spans.",
        "Check the trace.",
    )
    TRACE_TIME_MISSING = (
        "trace-time-missing",
        Severity.DEGRADED,
        "A trace has no start time. It got the start of its first span, or 1 January 1970.",
        "No action needed.",
    )
    SPANS_MISSING = (
        "spans-missing",
        Severity.DEGRADED,
        "The spans of a trace are missing: there is no traces.json in its directory or among a "
        "server's artifacts. The trace got a root span with the facts that the trace itself "
        "records, marked as inferred.",
        "If the trace's artifacts are elsewhere, say where with --artifacts-at OLD=NEW and convert "
        "into a new database.",
    )
    TRACE_WITHOUT_SPANS = (
        "trace-without-spans",
        Severity.DEGRADED,
        "The list of spans in the traces.json of a trace is empty. The trace got a root span with "
        "the facts that the trace itself records, marked as inferred.",
        "Restore the file from a backup if there is one, and convert into a new database.",
    )
    TRACE_NEVER_ENDED = (
        "trace-never-ended",
        Severity.NOTE,
        "A trace was never ended, so MLflow wrote no spans for it. It got a root span with the "
        "facts that the trace itself records, marked as inferred.",
        "No action needed.",
    )
    SPANS_DAMAGED = (
        "spans-damaged",
        Severity.DEGRADED,
        "A traces.json is damaged: cut off, not JSON, or binary. Its complete spans were kept. "
        "Without any, the trace got a root span with the facts that the trace itself records.",
        "Restore the file from a backup if there is one.",
    )
    SPAN_DAMAGED = (
        "span-damaged",
        Severity.REJECTED,
        "A span in a traces.json is cut off, or is not a JSON object.",
        "Restore the file from a backup if there is one.",
    )
    SPAN_REPAIRED = (
        "span-repaired",
        Severity.DEGRADED,
        "A span's id, times or name are missing or have an unusual form. They were derived or "
        "converted.",
        "Check the trace.",
    )
    SPAN_TWICE = (
        "span-twice",
        Severity.DEGRADED,
        "Two different spans of a trace have the same id. The second got another id.",
        "Check the trace.",
    )
    ASSESSMENT_DAMAGED = (
        "assessment-damaged",
        Severity.REJECTED,
        "An assessment has no name, or neither a value nor an error.",
        "Fix the file and convert again.",
    )
    ASSESSMENT_REPAIRED = (
        "assessment-repaired",
        Severity.DEGRADED,
        "An assessment has no source or no times. They were filled in as the message says.",
        "Check the assessment.",
    )

    # -- extractor: models
    MODEL_REBUILT = (
        "model-rebuilt",
        Severity.DEGRADED,
        "A model's meta.yaml has no usable facts. The model was rebuilt from its directory.",
        "Check the model.",
    )
    MODEL_EMPTY = (
        "model-empty",
        Severity.REJECTED,
        "A model's directory has nothing that can be read.",
        "Remove the directory.",
    )
    MODEL_VERSION_REBUILT = (
        "model-version-rebuilt",
        Severity.DEGRADED,
        "A model version's meta.yaml has no usable facts. The version was rebuilt from its "
        "directory.",
        "Check the version.",
    )
    MODEL_VERSION_TIME_MISSING = (
        "model-version-time-missing",
        Severity.DEGRADED,
        "A model version has no creation time, and MLflow could not list it without one. It got "
        "its last update, or the model's creation, or 1 January 1970.",
        "No action needed.",
    )
    MODEL_VERSION_DAMAGED = (
        "model-version-damaged",
        Severity.REJECTED,
        "The name of a model version's directory is not version- and a number.",
        "Rename the directory and convert again.",
    )
    ALIAS_DAMAGED = (
        "alias-damaged",
        Severity.REJECTED,
        "An alias does not hold a version number.",
        "Fix the file and convert again.",
    )
    ALIAS_DANGLING = (
        "alias-dangling",
        Severity.DEGRADED,
        "An alias names a version that does not exist. It was kept.",
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
