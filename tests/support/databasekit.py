"""Ways in which a tracking database is broken, by SQL on databases of real releases."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from migrator.issues import Code

TABLES = {  # the kind that the ledger counts -> the rows that are of it
    "experiment": "experiments",
    "experiment tag": "experiment_tags",
    "run": "runs",
    "param": "params",
    "metric point": "metrics",
    "run tag": "tags",
    "dataset": "datasets",
    "run input": "inputs WHERE source_type IN ('DATASET', 'RUN_INPUT')",
    "run output": "inputs WHERE source_type = 'RUN_OUTPUT'",
    "logged model": "logged_models",
    "logged model param": "logged_model_params",
    "logged model metric": "logged_model_metrics",
    "logged model tag": "logged_model_tags",
    "registered model": "registered_models",
    "registered model tag": "registered_model_tags",
    "alias": "registered_model_aliases",
    "model version": "model_versions",
    "model version tag": "model_version_tags",
    "trace": "trace_info",
    "trace tag": "trace_tags",
    "trace metadata": "trace_request_metadata",
    "assessment": "assessments",
    "trace link": "entity_associations WHERE source_type = 'trace'",
    "evaluation dataset link": "entity_associations WHERE source_type <> 'trace'",
    "evaluation dataset": "evaluation_datasets",
    "evaluation dataset tag": "evaluation_dataset_tags",
    "evaluation record": "evaluation_dataset_records",
    "scorer": "scorers",
    "scorer version": "scorer_versions",
    "webhook": "webhooks",
    "webhook event": "webhook_events",
}


def execute(path: Path, *statements: str) -> None:
    """Run SQL on a database, with foreign keys off, as a tool without them would."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    """Run a query on a database."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def counts(path: Path) -> dict[str, int]:
    """Count the rows of each kind by SQL; a kind without a table or rows is left out."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        there = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        found = {
            kind: db.execute(f"SELECT COUNT(*) FROM {source}").fetchone()[0]
            for kind, source in TABLES.items()
            if source.split()[0] in there
        }
    return {kind: number for kind, number in found.items() if number}


_DATASET = (
    "INSERT INTO evaluation_datasets (dataset_id, name, schema, profile, digest, created_time, "
    "last_update_time, created_by, last_updated_by) VALUES "
)
_ITEM = (
    "INSERT INTO evaluation_dataset_records (dataset_record_id, dataset_id, inputs, expectations, "
    "outputs, tags, source, source_id, source_type, created_time, last_update_time, created_by, "
    "last_updated_by, input_hash) VALUES "
)
_LINK = (
    "INSERT INTO entity_associations (association_id, source_type, source_id, destination_type, "
    "destination_id, created_time) "
)
_SOME_TRACE = "FROM trace_info ORDER BY request_id LIMIT 1"
ASSETS: tuple[str, ...] = (
    f"""{_DATASET}('d-1', 'questions', '{{"inputs": {{}}}}', '{{"num_records": 2}}', 'abc',
    1760000000000, 1760000000001, 'ada', 'bob')""",
    f"{_DATASET}('d-2', 'empty', NULL, NULL, NULL, 1760000000009, 1760000000010, NULL, NULL)",
    "INSERT INTO evaluation_dataset_tags (dataset_id, key, value) "
    "VALUES ('d-1', 'team', 'a'), ('d-1', 'hard', 'yes')",
    f"""{_ITEM}('r-1', 'd-1', '{{"question": "Who?"}}', '{{"answer": "Ada"}}',
    '{{"answer": "Bob"}}', '{{"hard": "yes"}}', '{{"source_type": "HUMAN"}}', 's-1', 'HUMAN',
    1760000000002, 1760000000003, 'ada', 'bob', 'aaaa')""",
    f"""{_ITEM}('r-2', 'd-1', '{{"question": "Wann?"}}', NULL, NULL, NULL, NULL, NULL, NULL,
    1760000000004, 1760000000005, NULL, NULL, 'bbbb')""",
    f"{_LINK} VALUES ('a-1', 'evaluation_dataset', 'd-1', 'experiment', '1', 1760000000006)",
    f"{_LINK} VALUES ('a-2', 'evaluation_dataset', 'd-1', 'experiment', '2', 1760000000007)",
    f"{_LINK} SELECT 'a-3', 'trace', request_id, 'run', 'f00d' , 1760000000008 {_SOME_TRACE}",
    f"{_LINK} SELECT 'a-4', 'trace', request_id, 'prompt_version', 'greeting/1', 1760000000009 "
    f"{_SOME_TRACE}",
    "INSERT INTO scorers (experiment_id, scorer_name, scorer_id) "
    "VALUES (1, 'polite', 's-1'), (2, 'short', 's-2')",
    "INSERT INTO scorer_versions (scorer_id, scorer_version, serialized_scorer, creation_time) "
    "VALUES ('s-1', 1, '{\"name\": \"polite\"}', 1760000000010), "
    '(\'s-1\', 2, \'{"name": "polite", "v": 2}\', 1760000000011), '
    "('s-2', 1, '{}', 1760000000012)",
    "INSERT INTO webhooks (webhook_id, name, description, url, status, "
    "secret, creation_timestamp, last_updated_timestamp, deleted_timestamp) "
    "VALUES ('w-1', 'notify', 'tells us', 'https://example.com/hook', "
    "'ACTIVE', NULL, 1760000000013, 1760000000014, NULL), ('w-2', 'old', NULL, "
    "'https://example.com/old', 'DISABLED', NULL, 1760000000015, 1760000000016, 1760000000017)",
    "INSERT INTO webhook_events (webhook_id, entity, action) "
    "VALUES ('w-1', 'model_version', 'created'), "
    "('w-1', 'prompt_alias', 'deleted')",
)
"""What MLflow 3.5 keeps beside runs and traces, for a database of that release."""


WORKSPACES: tuple[str, ...] = (
    "CREATE TABLE IF NOT EXISTS workspaces (name TEXT PRIMARY KEY)",
    "INSERT OR IGNORE INTO workspaces (name) VALUES ('default')",
    "INSERT INTO workspaces (name) VALUES ('team-a')",
)
"""Workspaces in a database of MLflow 3.10 and later."""


def workspace_columns(*tables: str) -> tuple[str, ...]:
    """The column that MLflow 3.10 adds to some tables, for a database of an older release."""
    column = "workspace VARCHAR(63) NOT NULL DEFAULT 'default'"
    return tuple(f"ALTER TABLE {table} ADD COLUMN {column}" for table in tables)


def without_constraints(table: str) -> tuple[str, ...]:
    """SQL that makes a table anew without keys, checks and types that convert."""
    return (
        f"CREATE TABLE copy_of_it AS SELECT * FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE copy_of_it RENAME TO {table}",
    )


@dataclass(frozen=True)
class Damage:
    """Something that is wrong with a database, and what has to be said of it."""

    name: str
    fixture: str
    statements: Sequence[str]
    code: Code
    place: str  # what the issue's path must hold: the table, and the key or column
    rejected: int = 0  # how many entities are lost
    count: int = 1


RUN = "(SELECT run_uuid FROM runs WHERE experiment_id = 2 LIMIT 1)"  # of 1.30.1: "forest"
TRACE = "(SELECT trace_id FROM spans GROUP BY trace_id HAVING COUNT(*) > 1 LIMIT 1)"
OLD, LLM, TRACES, NEW = "1.30.1-database", "2.9.2-database", "2.22.5-database", "3.5.1-database"

DAMAGES: tuple[Damage, ...] = (
    # rows that belong to nothing
    Damage("params of no run", OLD, ["INSERT INTO params VALUES ('a', 'b', 'gone')"],
           Code.ROW_LEFT_OVER, "/params"),
    Damage("tags of no run", OLD, ["INSERT INTO tags VALUES ('a', 'b', 'gone')"],
           Code.ROW_LEFT_OVER, "/tags"),
    Damage("metrics of no run", OLD,
           ["INSERT INTO metrics VALUES ('a', 1.0, 1, 'gone', 0, 0)",
            "INSERT INTO metrics VALUES ('a', 2.0, 1, 'gone', 1, 0)"],
           Code.ROW_LEFT_OVER, "/metrics", 0, 2),
    Damage("tags of no experiment", OLD, ["INSERT INTO experiment_tags VALUES ('a', 'b', 77)"],
           Code.ROW_LEFT_OVER, "/experiment_tags"),
    Damage("runs of no experiment", OLD, ["UPDATE runs SET experiment_id = 77 WHERE "
           "experiment_id = 4", "DELETE FROM params WHERE run_uuid IN (SELECT run_uuid FROM runs "
           "WHERE experiment_id = 77)"],
           Code.ROW_WITHOUT_OWNER,  "/runs", 3),
    Damage("a run without experiment id", OLD,
           ["UPDATE runs SET experiment_id = NULL WHERE experiment_id = 4"],
           Code.ROW_WITHOUT_OWNER, "/runs", 4),
    Damage("an experiment deleted by hand", NEW, ["DELETE FROM experiments WHERE name = 'chat'"],
           Code.ROW_WITHOUT_OWNER, "/trace_info", 114, 4),
    Damage("tags of no trace", TRACES, ["INSERT INTO trace_tags VALUES ('a', 'b', 'gone')"],
           Code.ROW_LEFT_OVER, "/trace_tags"),
    Damage("metadata of no trace", TRACES,
           ["INSERT INTO trace_request_metadata VALUES ('a', 'b', 'gone')"],
           Code.ROW_LEFT_OVER, "/trace_request_metadata"),
    Damage("spans of no trace", NEW,
           ["INSERT INTO spans (trace_id, experiment_id, span_id, status, start_time_unix_nano, "
            "content) VALUES ('gone', 1, '00000000000000aa', 'OK', 1, '{}')"],
           Code.ROW_LEFT_OVER, "/spans"),
    Damage("assessments of no trace", NEW, ["UPDATE assessments SET trace_id = 'gone' WHERE "
           "rowid = (SELECT MIN(rowid) FROM assessments)"],
           Code.ROW_LEFT_OVER, "/assessments"),
    Damage("params of no model", NEW,
           ["INSERT INTO logged_model_params VALUES ('m-gone', 1, 'a', 'b')"],
           Code.ROW_LEFT_OVER, "/logged_model_params"),
    Damage("tags of no model", NEW,
           ["INSERT INTO logged_model_tags VALUES ('m-gone', 1, 'a', 'b')"],
           Code.ROW_LEFT_OVER, "/logged_model_tags"),
    Damage("versions of no registered model", TRACES,
           ["INSERT INTO model_versions (name, version) VALUES ('gone', 1)"],
           Code.ROW_LEFT_OVER, "/model_versions"),
    Damage("aliases of no registered model", TRACES,
           ["INSERT INTO registered_model_aliases (alias, version, name) VALUES ('a', 1, 'gone')"],
           Code.ROW_LEFT_OVER, "/registered_model_aliases"),
    Damage("tags of no registered model", TRACES,
           ["INSERT INTO registered_model_tags VALUES ('a', 'b', 'gone')"],
           Code.ROW_LEFT_OVER, "/registered_model_tags"),
    Damage("tags of no version", TRACES,
           ["INSERT INTO model_version_tags VALUES ('a', 'b', 'gone', 1)"],
           Code.ROW_LEFT_OVER, "/model_version_tags"),
    Damage("an input of no run", TRACES,
           ["UPDATE inputs SET destination_id = 'gone' WHERE rowid = 1"],
           Code.ROW_LEFT_OVER, "/inputs"),
    Damage("a dataset of no experiment", TRACES, ["UPDATE datasets SET experiment_id = 77 WHERE "
           "rowid = 1"], Code.ROW_WITHOUT_OWNER, "/datasets", 2),
    # a constraint was lost
    Damage("a param twice", OLD, [*without_constraints("params"),
           f"INSERT INTO params VALUES ('n_estimators', '100', {RUN})"],
           Code.ROW_REPEATED, "/params/"),
    Damage("a param with two values", OLD, [*without_constraints("params"),
           f"INSERT INTO params VALUES ('n_estimators', '200', {RUN})"],
           Code.ROW_TWICE, "/params/", 1),
    Damage("a metric point twice", OLD, [*without_constraints("metrics"),
           "INSERT INTO metrics SELECT * FROM metrics WHERE key = 'loss' AND step = 1"],
           Code.ROW_REPEATED, "/metrics/"),
    Damage("a run twice", OLD, [*without_constraints("runs"),
           f"INSERT INTO runs SELECT * FROM runs WHERE run_uuid = {RUN}"],
           Code.ROW_REPEATED, "/runs:"),
    Damage("a run twice, with two names", OLD, [*without_constraints("runs"),
           f"INSERT INTO runs SELECT * FROM runs WHERE run_uuid = {RUN}",
           "UPDATE runs SET name = 'other' WHERE rowid = (SELECT MAX(rowid) FROM runs)"],
           Code.ROW_TWICE, "/runs:", 1),
    Damage("an experiment twice", OLD, [*without_constraints("experiments"),
           "INSERT INTO experiments SELECT * FROM experiments WHERE experiment_id = 2"],
           Code.ROW_REPEATED, "/experiments/2"),
    Damage("an assessment twice", NEW, [*without_constraints("assessments"),
           "INSERT INTO assessments SELECT * FROM assessments LIMIT 1"],
           Code.ROW_REPEATED, "/assessments/"),
    Damage("a version twice, of two runs", TRACES, [*without_constraints("model_versions"),
           "INSERT INTO model_versions SELECT * FROM model_versions LIMIT 1",
           "UPDATE model_versions SET run_id = 'x' WHERE rowid = (SELECT MAX(rowid) FROM "
           "model_versions)"], Code.ROW_TWICE, "/model_versions/", 1),
    # values of a wrong type
    Damage("a text for a start", OLD,
           [f"UPDATE runs SET start_time = 'soon' WHERE run_uuid = {RUN}"],
           Code.COLUMN_VALUE_UNUSABLE, ".start_time"),
    Damage("a run without a start", OLD,
           [f"UPDATE runs SET start_time = NULL WHERE run_uuid = {RUN}"],
           Code.RUN_START_UNKNOWN, "/runs:"),
    Damage("a run that ends before it starts", OLD,
           [f"UPDATE runs SET end_time = 5 WHERE run_uuid = {RUN}"],
           Code.RUN_ENDS_BEFORE_START, "/runs:"),
    Damage("a status that is none", OLD, [*without_constraints("runs"),
           f"UPDATE runs SET status = 'DONE' WHERE run_uuid = {RUN}"],
           Code.STATUS_UNKNOWN, ".status"),
    Damage("a lifecycle stage that is none", OLD, [*without_constraints("runs"),
           f"UPDATE runs SET lifecycle_stage = 'gone' WHERE run_uuid = {RUN}"],
           Code.STATUS_UNKNOWN, ".lifecycle_stage"),
    Damage("bytes for a param", OLD,
           ["UPDATE params SET value = X'ff61' WHERE key = 'n_estimators'"],
           Code.TEXT_UNDECODABLE, "/params/"),
    Damage("a text that is not UTF-8", OLD,
           ["UPDATE params SET value = CAST(X'ff61' AS TEXT) WHERE key = 'n_estimators'"],
           Code.TEXT_UNDECODABLE, "/params/"),
    Damage("a tag without a value", OLD,
           [f"UPDATE tags SET value = NULL WHERE key = 'note/crlf' AND run_uuid = {RUN}"],
           Code.COLUMN_VALUE_CONVERTED, "/tags/"),
    Damage("a param without a key", OLD, [*without_constraints("params"),
           "UPDATE params SET key = NULL WHERE key = 'n_estimators'"],
           Code.ROW_DAMAGED, "/params/", 1),
    Damage("a text for a metric", OLD,
           ["UPDATE metrics SET value = 'high' WHERE key = 'loss' AND step = 1"],
           Code.ROW_DAMAGED, "/metrics/", 1),
    Damage("a text with a number for a metric", OLD, [*without_constraints("metrics"),
           "UPDATE metrics SET value = CAST('0.25' AS BLOB) WHERE key = 'loss' AND step = 1",
           ], Code.ROW_DAMAGED, "/metrics/", 1),
    Damage("a text for a step", OLD,
           ["UPDATE metrics SET step = 'two' WHERE key = 'loss' AND step = 1"],
           Code.COLUMN_VALUE_UNUSABLE, ".step"),
    Damage("a metric without a time", OLD, [*without_constraints("metrics"),
           "UPDATE metrics SET timestamp = NULL WHERE key = 'loss' AND step = 1"],
           Code.ROW_DAMAGED, "/metrics/", 1),
    Damage("a dataset without a digest", TRACES, [*without_constraints("datasets"),
           "UPDATE datasets SET digest = NULL WHERE rowid = 1"],
           Code.DATASET_DAMAGED, "/datasets:", 2),
    Damage("a version without a number", TRACES, [*without_constraints("model_versions"),
           "UPDATE model_versions SET version = 'one' WHERE rowid = 1"],
           Code.MODEL_VERSION_DAMAGED, "/model_versions/", 1),
    Damage("an alias that leads nowhere", TRACES,
           ["UPDATE registered_model_aliases SET version = 99 WHERE rowid = 1"],
           Code.ALIAS_DANGLING, "/registered_model_aliases/"),
    Damage("an experiment whose id is a text", OLD, [*without_constraints("experiments"),
           "UPDATE experiments SET experiment_id = 'four' WHERE experiment_id = 4"],
           Code.ROW_DAMAGED, "/experiments/", 5),
    # ids
    Damage("a run id that leads elsewhere", OLD,
           ["INSERT INTO runs (run_uuid, experiment_id, lifecycle_stage, status, start_time) "
            "VALUES ('../../../secret', 2, 'active', 'FINISHED', 1)",
            "INSERT INTO params VALUES ('a', 'b', '../../../secret')"],
           Code.ROW_DAMAGED, "/runs/'../../../secret'", 1),
    Damage("a run with an empty id", OLD,
           ["INSERT INTO runs (run_uuid, experiment_id, lifecycle_stage, status, start_time) "
            "VALUES ('', 2, 'active', 'FINISHED', 1)"],
           Code.ROW_DAMAGED, "/runs/''", 1),
    Damage("a run without an id", OLD,
           [*without_constraints("runs"), "INSERT INTO runs (experiment_id) VALUES (2)"],
           Code.ROW_DAMAGED, "/runs/None", 1),
    Damage("a trace id that leads elsewhere", TRACES,
           ["INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, status) "
            "VALUES ('..', 1, 1, 'OK')"],
           Code.ROW_DAMAGED, "/trace_info/'..'", 1),
    # traces
    Damage("half a trace's spans", NEW, [f"DELETE FROM spans WHERE parent_span_id IS NULL AND "
           f"trace_id = {TRACE}"], Code.SPANS_DAMAGED, "/trace_info:"),
    Damage("a trace without its spans", NEW, [f"UPDATE trace_info SET experiment_id = 0 WHERE "
           f"request_id = {TRACE}", f"DELETE FROM spans WHERE trace_id = {TRACE}"],
           Code.SPANS_MISSING, "/trace_info:"),
    Damage("a span that is not JSON", NEW,
           [f"UPDATE spans SET content = '{{\"name' WHERE trace_id = {TRACE} AND parent_span_id "
            "IS NULL"], Code.SPAN_REPAIRED, "/spans/"),
    Damage("a state that is none", NEW, [f"UPDATE trace_info SET status = 'FINE' WHERE "
           f"request_id = {TRACE}"], Code.STATUS_UNKNOWN, ".status"),
    Damage("a trace without a time", NEW, [*without_constraints("trace_info"),
           f"UPDATE trace_info SET timestamp_ms = NULL WHERE request_id = {TRACE}"],
           Code.TRACE_TIME_MISSING, "/trace_info:"),
    Damage("an assessment whose value is not JSON", NEW,
           ["UPDATE assessments SET value = 'oh no' WHERE rowid = 1"],
           Code.ASSESSMENT_REPAIRED, "/assessments/"),
    Damage("an assessment of an unknown type", NEW,
           ["UPDATE assessments SET assessment_type = 'guess' WHERE rowid = 1"],
           Code.ASSESSMENT_DAMAGED, "/assessments/", 1),
    Damage("an assessment of an unknown source", NEW,
           ["UPDATE assessments SET source_type = 'ORACLE' WHERE rowid = 1"],
           Code.STATUS_UNKNOWN, ".source_type"),
    # the schema
    Damage("a revision from the future", OLD, ["UPDATE alembic_version SET version_num = 'feed'"],
           Code.SCHEMA_UNEXPECTED, "/alembic_version"),
    Damage("no revision", OLD, ["DELETE FROM alembic_version"],
           Code.SCHEMA_UNEXPECTED, "/alembic_version"),
    Damage("a revision whose tables are missing", OLD,
           ["UPDATE alembic_version SET version_num = '7f2a7d5fae7d'"],
           Code.SCHEMA_UNEXPECTED, "/datasets"),
    Damage("tables of a later revision", TRACES,
           ["UPDATE alembic_version SET version_num = '97727af70f4d'"],
           Code.SCHEMA_UNEXPECTED, "/trace_info"),
    Damage("a view in the place of a table", OLD,
           ["ALTER TABLE params RENAME TO own_params",
            "CREATE VIEW params AS SELECT * FROM own_params"],
           Code.SCHEMA_UNEXPECTED, "/params"),
    Damage("what an interrupted upgrade left", OLD,
           ["CREATE TABLE _alembic_tmp_runs AS SELECT * FROM runs"],
           Code.SCHEMA_UNEXPECTED, "/_alembic_tmp_runs"),
    Damage("a table of someone's own", OLD,
           ["CREATE TABLE my_notes (note TEXT)", "INSERT INTO my_notes VALUES ('x'), ('y')"],
           Code.TABLE_NOT_CARRIED, "/my_notes", 0, 2),
    Damage("a column of someone's own", OLD,
           ["ALTER TABLE runs ADD COLUMN mood TEXT",
            f"UPDATE runs SET mood = 'good' WHERE run_uuid = {RUN}"],
           Code.COLUMN_NOT_CARRIED, "/runs.mood"),
    Damage("a job", NEW,
           ["INSERT INTO jobs VALUES ('j', 1, 'f', '{}', NULL, 0, NULL, 0, 1)"],
           Code.TABLE_NOT_CARRIED, "/jobs"),
    Damage("a webhook's secret", NEW,
           ["INSERT INTO webhooks (webhook_id, name, url, secret) VALUES ('w', 'n', 'u', "
            "'s3cr3t')"], Code.WEBHOOK_SECRET_LEFT, "/webhooks/w"),
    Damage("a webhook without an address", NEW,
           [*without_constraints("webhooks"),
            "INSERT INTO webhooks (webhook_id, name) VALUES ('w', 'n')"],
           Code.ROW_DAMAGED, "/webhooks/w", 1),
    Damage("a record without inputs", NEW,
           [*ASSETS, *without_constraints("evaluation_dataset_records"),
            "UPDATE evaluation_dataset_records SET inputs = NULL WHERE input_hash = 'aaaa'"],
           Code.ROW_DAMAGED, "/evaluation_dataset_records/r-1", 1),
    Damage("a record whose inputs are not JSON", NEW,
           [*ASSETS, "UPDATE evaluation_dataset_records SET inputs = '{' WHERE "
            "input_hash = 'aaaa'"],
           Code.ROW_DAMAGED, "/evaluation_dataset_records/r-1", 1),
    Damage("a record whose outputs are a list", NEW,
           [*ASSETS, "UPDATE evaluation_dataset_records SET outputs = '[1]' WHERE "
            "input_hash = 'aaaa'"],
           Code.COLUMN_VALUE_UNUSABLE, "/evaluation_dataset_records/r-1.outputs"),
    Damage("scorers of no experiment", NEW, ["INSERT INTO scorers VALUES (77, 'polite', 's-9')"],
           Code.ROW_WITHOUT_OWNER, "/scorers", 1),
    Damage("versions of no scorer", NEW,
           ["INSERT INTO scorer_versions VALUES ('s-9', 1, '{}', 1)"],
           Code.ROW_LEFT_OVER, "/scorer_versions"),
    Damage("records of no dataset", NEW, [*ASSETS, "DELETE FROM evaluation_datasets"],
           Code.ROW_LEFT_OVER, "/evaluation_dataset_records", 0, 2),
    Damage("links of a deleted trace", NEW, [*ASSETS, "UPDATE entity_associations SET "
           "source_id = 'tr-gone' WHERE association_id = 'a-3'"],
           Code.ROW_LEFT_OVER, "/entity_associations"),
    Damage("links of other entities", NEW, [*ASSETS, "UPDATE entity_associations SET "
           "source_type = 'run' WHERE association_id = 'a-3'"],
           Code.TABLE_NOT_CARRIED, "/entity_associations"),
)  # fmt: skip
"""One of each, on databases of real releases."""

HARMLESS: tuple[Damage, ...] = (
    Damage("missing indexes", LLM, ["DROP INDEX index_params_run_uuid",
           "DROP INDEX index_metrics_run_uuid", "DROP INDEX index_tags_run_uuid"],
           Code.ROW_DAMAGED, ""),
    Damage("a number in a text column", OLD,
           [*without_constraints("params"), "UPDATE params SET value = 100 WHERE key = "
            "'n_estimators'"], Code.COLUMN_VALUE_CONVERTED, ""),
    Damage("spans that are only in artifacts", NEW, ["DELETE FROM spans"], Code.SPANS_MISSING, ""),
    Damage("a table whose rows have no number", OLD,
           ["CREATE TABLE copy_of_it (experiment_id INTEGER PRIMARY KEY, name, artifact_location, "
            "lifecycle_stage, creation_time, last_update_time) WITHOUT ROWID",
            "INSERT INTO copy_of_it SELECT experiment_id, name, artifact_location, "
            "lifecycle_stage, creation_time, last_update_time FROM experiments",
            "DROP TABLE experiments", "ALTER TABLE copy_of_it RENAME TO experiments"],
           Code.ROW_DAMAGED, ""),
    Damage("names in capitals", OLD,
           ["ALTER TABLE runs RENAME COLUMN run_uuid TO RUN_UUID",
            "ALTER TABLE params RENAME TO other", "ALTER TABLE other RENAME TO PARAMS"],
           Code.ROW_DAMAGED, ""),
    Damage("views of someone's own, one of them broken", OLD,
           ["CREATE TABLE gone (a)", "CREATE VIEW broken AS SELECT a FROM gone", "DROP TABLE gone",
            "CREATE VIEW dashboard AS SELECT COUNT(*) FROM runs"], Code.ROW_DAMAGED, ""),
    Damage("a generated column and a foreign collation", OLD,
           ["ALTER TABLE runs ADD COLUMN none INTEGER GENERATED ALWAYS AS (NULL) VIRTUAL",
            "CREATE TABLE copy_of_it (key TEXT COLLATE NOCASE, value TEXT, run_uuid TEXT)",
            "INSERT INTO copy_of_it SELECT key, value, run_uuid FROM tags", "DROP TABLE tags",
            "ALTER TABLE copy_of_it RENAME TO tags"], Code.ROW_DAMAGED, ""),
    Damage("an empty table that is gone", OLD, ["DROP TABLE registered_model_tags"],
           Code.ROW_DAMAGED, ""),
)  # fmt: skip
"""What costs nothing: the conversion is that of the fixture itself."""
