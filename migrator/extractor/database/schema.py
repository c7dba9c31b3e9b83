"""What MLflow's databases hold, by release: which tables are read, and which are derived.

The columns that are there decide how a database is read, not its revision. The revision only
helps to name a schema that is newer than this program, or one that an upgrade left half done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from migrator import conventions
from migrator.counting import counted
from migrator.errors import SourceError
from migrator.extractor.database.connection import Database
from migrator.issues import Code, Issue, Kind

# What every release since 1.0 has; without one of these there is nothing to read.
REQUIRED: Mapping[str, frozenset[str]] = {
    "experiments": frozenset({"experiment_id", "name"}),
    "runs": frozenset({"run_uuid", "experiment_id"}),
    "params": frozenset({"run_uuid", "key", "value"}),
    "metrics": frozenset({"run_uuid", "key", "value", "timestamp"}),
    "tags": frozenset({"run_uuid", "key", "value"}),
}

# Tables that are read, with the columns that are carried or follow from others.
KNOWN: Mapping[str, frozenset[str]] = {
    table: frozenset(columns.split())
    for table, columns in {
        "experiments": "experiment_id name artifact_location lifecycle_stage creation_time "
        "last_update_time workspace",
        "experiment_tags": "experiment_id key value",
        "runs": "run_uuid name source_type source_name entry_point_name user_id status start_time "
        "end_time deleted_time source_version lifecycle_stage artifact_uri experiment_id",
        "params": "run_uuid key value",
        "metrics": "run_uuid key value timestamp step is_nan",
        "tags": "run_uuid key value",
        "datasets": "dataset_uuid experiment_id name digest dataset_source_type dataset_source "
        "dataset_schema dataset_profile",
        "inputs": "input_uuid source_type source_id destination_type destination_id step",
        "input_tags": "input_uuid name value",
        "logged_models": "model_id experiment_id name artifact_location creation_timestamp_ms "
        "last_updated_timestamp_ms status lifecycle_stage model_type source_run_id status_message",
        "logged_model_params": "model_id experiment_id param_key param_value",
        "logged_model_tags": "model_id experiment_id tag_key tag_value",
        "logged_model_metrics": "model_id metric_name metric_timestamp_ms metric_step "
        "metric_value experiment_id run_id dataset_uuid dataset_name dataset_digest",
        "registered_models": "name creation_time last_updated_time description workspace",
        "registered_model_tags": "name key value workspace",
        "registered_model_aliases": "name alias version workspace",
        "model_versions": "name version creation_time last_updated_time description user_id "
        "current_stage source run_id status status_message run_link storage_location workspace",
        "model_version_tags": "name version key value workspace",
        "trace_info": "request_id experiment_id timestamp_ms execution_time_ms status "
        "client_request_id request_preview response_preview db_payload_generation trace_name "
        "session_id input_tokens output_tokens total_tokens cache_read_input_tokens "
        "cache_creation_input_tokens cache_creation_input_tokens_above_1hr input_cost "
        "output_cost total_cost",
        "trace_tags": "request_id key value",
        "trace_request_metadata": "request_id key value",
        "spans": "trace_id experiment_id span_id parent_span_id name type status "
        "start_time_unix_nano end_time_unix_nano duration_ns content input_cost output_cost "
        "total_cost model_name model_provider dimension_attributes",
        "assessments": "assessment_id trace_id name assessment_type value error "
        "created_timestamp last_updated_timestamp source_type source_id run_id span_id rationale "
        "overrides valid assessment_metadata experiment_id trace_timestamp_ms aggregate_value "
        "is_numeric_value",
        "entity_associations": "association_id source_type source_id destination_type "
        "destination_id created_time",
        "evaluation_datasets": "dataset_id name schema profile digest created_time "
        "last_update_time created_by last_updated_by workspace",
        "evaluation_dataset_tags": "dataset_id key value",
        "evaluation_dataset_records": "dataset_record_id dataset_id inputs expectations outputs "
        "tags source source_id source_type created_time last_update_time created_by "
        "last_updated_by input_hash",
        "scorers": "experiment_id scorer_name scorer_id",
        "scorer_versions": "scorer_id scorer_version serialized_scorer creation_time",
        "webhooks": "webhook_id name description url status secret creation_timestamp "
        "last_updated_timestamp deleted_timestamp workspace",
        "webhook_events": "webhook_id entity action",
        "workspaces": "name description default_artifact_root trace_archival_location "
        "trace_archival_retention",
    }.items()
}

# Tables whose rows follow from others, or are MLflow's own bookkeeping.
DERIVED = frozenset(
    {"alembic_version", "latest_metrics", "trace_metrics", "span_metrics"}
    | {"scheduler_leases", "job_locks", "sql_trace_rollup_rebuild_queue"}
    | {"sql_assessment_daily_rollups", "sql_span_cost_daily_rollups"}
    | {"sql_trace_metric_daily_rollups", conventions.MIGRATOR_SEEN_TABLE}
)

# MLflow's revisions from 0.9 to 3.17, in their order.
_CHAIN = """
    451aebb31d03 90e64c465722 181f10493468 df50e92ffc5e 7ac759974ad8 89d4b8295536 2b4d017a5e9b
    cfd24bdc0731 0a8213491aaa 728d730b5ebd 27a6a02d2cf1 84291f40a231 a8c4a736bde6 39d1c3be5f05
    c48cb773bb87 bd07f7e963c5 0c779009ac13 cc1f77228345 97727af70f4d 3500859a5d39 7f2a7d5fae7d
    2d6e25af4d3e acf3f17fdcc7 867495a8f9d4 5b0e9adcef9c 4465047574b1 f5a4f2784254 0584bdc529eb
    400f98739977 6953534de441 bda7b8c39065 cbc13b556ace 770bee3ae1dd a1b2c3d4e5f6 de4033877273
    1a0cddfcaa16 534353b11cbc 71994744cf8e 3da73c924c2f bf29a5ff90ea 1bd49d398cd23 b7c8d9e0f1a2
    5d2d30f0abce c9d4e5f6a7b8 2c33131f4dae d3e4f5a6b7c8 d0e1f2a3b4c5 c8d9e0f1a2b3 1b5f0d9ad7c1
    e1f2a3b4c5d6 76601a5f987d c3d6457b6d8a a5b4c3d2e1f0 ae8bbe7743c9 7d34483879f0 da6fb0208061
    89d3d66ed43f b7e4c1a90f23 a8b9c0d1e2f3 c1d2e3f4a5b6 c3d9e7f1a2b4 6f8d9c3b2a1e 1971f2d9a75b
    17e22815139b b7e2c1a4d9f3 75868b020152 dc11669786a5
"""
REVISIONS = tuple(_CHAIN.split())

# The tables that a revision made: there from it on, and not before.
_MADE_BY = {
    "89d4b8295536": ("latest_metrics",),
    "2b4d017a5e9b": ("registered_models", "model_versions"),
    "7f2a7d5fae7d": ("datasets", "inputs", "input_tags"),
    "867495a8f9d4": ("trace_info", "trace_tags", "trace_request_metadata"),
    "400f98739977": ("logged_models", "logged_model_metrics", "logged_model_params"),
    "770bee3ae1dd": ("assessments",),
    "a1b2c3d4e5f6": ("spans",),
    "1b5f0d9ad7c1": ("workspaces",),
}
_LEFT_BY_ALEMBIC = "_alembic_tmp_"


def check(database: Database, name: str) -> None:
    """Raise SourceError for a database that is not MLflow's, or lacks what every one has."""
    halves = sorted(table for table in database.tables if table.startswith(_LEFT_BY_ALEMBIC))
    for half in halves:
        table = half.removeprefix(_LEFT_BY_ALEMBIC)
        if table not in database.tables:
            raise SourceError(
                f"{name}: an upgrade of this database was interrupted. The rows of table {table} "
                f"are in {half}, and {table} is gone.",
                todo="Restore the backup from before the upgrade, or rename the table back: "
                f"ALTER TABLE {half} RENAME TO {table}",
            )
    missing = sorted(table for table in REQUIRED if table not in database.tables)
    # Other programs have tables of these names as well.
    ours = [each for each in REQUIRED if REQUIRED[each] <= set(database.tables.get(each, ()))]
    if not ours:
        there = ", ".join(sorted(database.tables)[:5])
        raise SourceError(
            f"{name} is a database, but not one of MLflow's tracking store"
            + (f": it has the tables {there}." if there else ": it has no tables."),
            todo="Give the database that the server was started with (--backend-store-uri).",
        )
    if missing:
        raise SourceError(
            f"{name} is not a whole MLflow database: it has no table {' and no '.join(missing)}.",
            todo="Restore a backup, or, on a server, let this user read all of MLflow's tables.",
        )
    for table, columns in REQUIRED.items():
        lost = sorted(columns - set(database.tables[table]))
        if lost:
            raise SourceError(
                f"{name}: table {table} has no column {' and no '.join(lost)}, which every "
                "release of MLflow has.",
                todo="Restore a backup; the schema was changed by hand or an upgrade not finished.",
            )


@dataclass(frozen=True, slots=True)
class SchemaReport:
    """Names what of a database's schema is unknown, and counts what is not carried.

    ``name`` is the database's, which begins the paths of the issues.
    """

    database: Database
    name: str

    def issues(self) -> Iterator[Issue]:
        """Yield an issue for each table or column that is not carried, and for an odd schema."""
        yield from self._revision()
        for table in sorted(self.database.tables):
            is_view = table in self.database.views
            if table in KNOWN and is_view:
                yield self._schema_issue(f"{self.name}/{table}", "It is a view, not a table.")
            if table in KNOWN:
                yield from self._columns(table)
            elif table not in DERIVED and not is_view:
                yield from self._table(table)
        yield from self._other_links()

    def _other_links(self) -> Iterator[Issue]:
        """Name links whose source is neither a trace nor an evaluation dataset."""
        table = "entity_associations"
        if not self.database.has(table, "source_type", "source_id"):
            return
        count = self._count(table, " WHERE source_type NOT IN ('trace', 'evaluation_dataset')")
        if count:
            yield Issue(
                Code.TABLE_NOT_CARRIED,
                f"{self.name}/{table}",
                f"{counted(count, 'link')} of other entities than traces and evaluation datasets "
                "have no place in what is converted.",
                count=count,
            )

    def _revision(self) -> Iterator[Issue]:
        database = self.database
        found = []
        if database.has("alembic_version", "version_num"):
            found = [
                str(row[0]) for row in database.rows("SELECT version_num FROM alembic_version")
            ]
        place = f"{self.name}/alembic_version"
        if len(found) != 1:
            yield self._schema_issue(place, f"It names {len(found)} revisions instead of one.")
            return
        if found[0] not in REVISIONS:
            yield self._schema_issue(
                place, f"Revision {found[0]!r} is newer than this program, or not MLflow's."
            )
            return
        position = REVISIONS.index(found[0])
        for revision, tables in _MADE_BY.items():
            for table in tables:
                is_due = REVISIONS.index(revision) <= position
                if is_due and table not in database.tables:
                    yield self._schema_issue(
                        f"{self.name}/{table}",
                        f"Revision {found[0]} has this table, but it is not there.",
                    )
                elif not is_due and table in database.tables:
                    yield self._schema_issue(
                        f"{self.name}/{table}",
                        f"The table is there, but revision {found[0]} does not have it yet.",
                    )

    def _schema_issue(self, place: str, message: str) -> Issue:
        kept = "what the tables and columns hold that are there"
        return Issue(Code.SCHEMA_UNEXPECTED, place, message, kept)

    def _columns(self, table: str) -> Iterator[Issue]:
        for column in self.database.tables[table]:
            if column in KNOWN[table]:
                continue
            count = self._count(table, f" WHERE {self.database.name(column)} IS NOT NULL")
            if count:
                yield Issue(
                    Code.COLUMN_NOT_CARRIED,
                    f"{self.name}/{table}.{column}",
                    "This program does not know the column; "
                    f"{counted(count, 'row has', 'rows have')} a value in it.",
                    count=count,
                )

    def _table(self, table: str) -> Iterator[Issue]:
        count = self._count(table)
        if not count:
            return
        if table.startswith(_LEFT_BY_ALEMBIC):
            yield self._schema_issue(
                f"{self.name}/{table}",
                "An interrupted upgrade left this copy of a table; it holds "
                f"{counted(count, 'row')}.",
            )
            return
        yield Issue(
            Code.TABLE_NOT_CARRIED,
            f"{self.name}/{table}",
            f"The table has {counted(count, 'row')}, which have no place in what is converted.",
            count=count,
        )

    def _count(self, table: str, where: str = "") -> int:
        return self.database.number(f"SELECT COUNT(*) FROM {self.database.name(table)}{where}")


@dataclass(frozen=True, slots=True)
class Child:
    """A table whose rows belong to another's: ``column`` holds the ``key`` of the owner."""

    table: str
    kind: Kind
    column: str
    owner: str
    key: str
    where: str = ""  # which of its rows (``c``) are meant


CHILDREN: tuple[Child, ...] = (
    Child("experiment_tags", Kind.EXPERIMENT_TAG, "experiment_id", "experiments", "experiment_id"),
    Child("params", Kind.PARAM, "run_uuid", "runs", "run_uuid"),
    Child("tags", Kind.TAG, "run_uuid", "runs", "run_uuid"),
    Child("metrics", Kind.METRIC_POINT, "run_uuid", "runs", "run_uuid"),
    Child("inputs", Kind.INPUT, "destination_id", "runs", "run_uuid", "c.destination_type = 'RUN'"),
    Child("inputs", Kind.INPUT, "source_id", "runs", "run_uuid", "c.source_type = 'RUN_INPUT'"),
    Child("inputs", Kind.OUTPUT, "source_id", "runs", "run_uuid", "c.source_type = 'RUN_OUTPUT'"),
    Child("logged_model_params", Kind.LOGGED_MODEL_PARAM, "model_id", "logged_models", "model_id"),
    Child("logged_model_tags", Kind.LOGGED_MODEL_TAG, "model_id", "logged_models", "model_id"),
    Child(
        "logged_model_metrics", Kind.LOGGED_MODEL_METRIC, "model_id", "logged_models", "model_id"
    ),
    Child("registered_model_tags", Kind.REGISTERED_MODEL_TAG, "name", "registered_models", "name"),
    Child("registered_model_aliases", Kind.ALIAS, "name", "registered_models", "name"),
    Child("model_versions", Kind.MODEL_VERSION, "name", "registered_models", "name"),
    Child("trace_tags", Kind.TRACE_TAG, "request_id", "trace_info", "request_id"),
    Child("trace_request_metadata", Kind.TRACE_METADATA, "request_id", "trace_info", "request_id"),
    Child("spans", Kind.SPAN, "trace_id", "trace_info", "request_id"),
    Child("assessments", Kind.ASSESSMENT, "trace_id", "trace_info", "request_id"),
    Child("entity_associations", Kind.TRACE_LINK, "source_id", "trace_info", "request_id",
          "c.source_type = 'trace'"),
    Child("entity_associations", Kind.EVALUATION_DATASET_LINK, "source_id",
          "evaluation_datasets", "dataset_id", "c.source_type = 'evaluation_dataset'"),
    Child("evaluation_dataset_tags", Kind.EVALUATION_DATASET_TAG, "dataset_id",
          "evaluation_datasets", "dataset_id"),
    Child("evaluation_dataset_records", Kind.EVALUATION_ITEM, "dataset_id",
          "evaluation_datasets", "dataset_id"),
    Child("scorer_versions", Kind.SCORER_VERSION, "scorer_id", "scorers", "scorer_id"),
    Child("webhook_events", Kind.WEBHOOK_EVENT, "webhook_id", "webhooks", "webhook_id"),
)  # fmt: skip

# Owners that belong to an experiment themselves.
OF_EXPERIMENT: Mapping[str, tuple[str, Kind]] = {
    "runs": ("run_uuid", Kind.RUN),
    "datasets": ("dataset_uuid", Kind.DATASET),
    "logged_models": ("model_id", Kind.LOGGED_MODEL),
    "trace_info": ("request_id", Kind.TRACE),
    "scorers": ("scorer_id", Kind.SCORER),
}


@dataclass(frozen=True, slots=True)
class Orphans:
    """Finds rows that belong to nothing, and names them; ``name`` is the database's.

    Parts whose owner is gone are left over from a deletion: MLflow itself leaves links and inputs
    behind, and a tool without foreign keys leaves the others. An entity whose experiment is gone
    is lost history, together with its parts.
    """

    database: Database
    name: str

    def issues(self) -> Iterator[Issue]:
        """Yield an issue for each table with such rows."""
        for table, (key, kind) in OF_EXPERIMENT.items():
            if table in self.database.tables:
                entity = Child(table, kind, "experiment_id", "experiments", "experiment_id")
                yield from self._of(entity, key, Code.ROW_WITHOUT_OWNER)
        for child in CHILDREN:
            if self.database.has(child.table, child.column):
                yield from self._of(child, child.column, Code.ROW_LEFT_OVER)
        if self.database.has("model_version_tags", "name", "version"):
            yield from self._version_tags()

    def _of(self, child: Child, shown: str, code: Code) -> Iterator[Issue]:
        n = self.database.name
        conditions = [child.where] if child.where else []
        source = f"FROM {n(child.table)} c"
        if child.owner not in self.database.tables:
            yield from self._found(child, shown, code, source, conditions)
            return
        source += f" LEFT JOIN {n(child.owner)} o ON o.{n(child.key)} = c.{n(child.column)}"
        gone = [*conditions, f"o.{n(child.key)} IS NULL"]
        yield from self._found(child, shown, code, source, gone)
        if child.owner in OF_EXPERIMENT:
            source += f" LEFT JOIN {n('experiments')} e ON e.experiment_id = o.experiment_id"
            lost = [*conditions, f"o.{n(child.key)} IS NOT NULL", "e.experiment_id IS NULL"]
            yield from self._found(child, shown, Code.ROW_WITHOUT_OWNER, source, lost)

    def _found(
        self, child: Child, shown: str, code: Code, source: str, conditions: Sequence[str]
    ) -> Iterator[Issue]:
        where = " AND ".join(f"({each})" for each in conditions) or "1 = 1"
        rows = f"{source} WHERE {where}"
        count = self.database.number(f"SELECT COUNT(*) {rows}")
        if not count:
            return
        column = self.database.name(shown)
        sample = self.database.rows(f"SELECT DISTINCT c.{column} {rows} LIMIT 4")
        listed = sorted(str(row[0]) for row in sample)
        text = ", ".join(listed[:3]) + (", …" if len(listed) > 3 else "")
        rows_belong = counted(count, "row belongs", "rows belong")
        why = f"{child.column} names no row of {child.owner} that is there"
        if code is Code.ROW_WITHOUT_OWNER and child.owner != "experiments":
            why = f"the experiment of their row of {child.owner} is not there"
        path = f"{self.name}/{child.table}"
        message = f"{rows_belong} to nothing: {why} ({text})."
        yield Issue(code, path, message, "", child.kind, count=count)

    def _version_tags(self) -> Iterator[Issue]:
        child = Child(
            "model_version_tags", Kind.MODEL_VERSION_TAG, "name", "model_versions", "name"
        )
        source = (
            "FROM model_version_tags c LEFT JOIN model_versions o ON o.name = c.name "
            "AND o.version = c.version LEFT JOIN registered_models m ON m.name = o.name"
        )
        yield from self._found(child, "name", Code.ROW_LEFT_OVER, source, ["m.name IS NULL"])
