"""Reading logged models (3.0 and later) and registered models from their tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from migrator.conventions import DEFAULT_WORKSPACE
from migrator.extractor.database import rows as r
from migrator.extractor.database.artifacts import ArtifactFolders
from migrator.extractor.database.connection import Database, Row
from migrator.extractor.database.rows import Fields, RowLog
from migrator.extractor.database.schema import CHILDREN, KNOWN
from migrator.extractor.filestore.artifacts import list_artifacts
from migrator.issues import Code, Kind
from migrator.model import (
    Entry,
    Extracted,
    LoggedModelMetric,
    LoggedModelRecord,
    ModelVersionRecord,
    RegisteredModelRecord,
    RegistryEntry,
)

_VERSION_STATUS = frozenset({"PENDING_REGISTRATION", "FAILED_REGISTRATION", "READY"})
_METRIC_COLUMNS = tuple(sorted(KNOWN["logged_model_metrics"] - {"model_id"}))


def read_logged_model(
    database: Database, name: str, places: ArtifactFolders, entry: Entry
) -> Extracted[LoggedModelRecord]:
    """Read a logged model's row, params, tags and metrics."""
    model_id = entry.entity_id
    log = RowLog(Kind.LOGGED_MODEL, model_id, name)
    columns = sorted(KNOWN["logged_models"] - {"model_id"})
    found = r.select(database, "logged_models", columns, "model_id", [model_id])
    row = r.one_row(log, entry.path, Kind.LOGGED_MODEL, found[model_id])
    if row is None:
        return log.close(None)
    for child in CHILDREN:
        if child.owner == "logged_models":
            log.found[child.kind] += r.count(database, child, [model_id]).get(model_id, 0)
    params = _pairs(database, log, "logged_model_params", "param", Kind.LOGGED_MODEL_PARAM)
    tags = _pairs(database, log, "logged_model_tags", "tag", Kind.LOGGED_MODEL_TAG)
    metrics = _metrics(database, log)
    location = row.text("artifact_location") or ""
    artifacts = list_artifacts(
        log, None, places.tail(Kind.LOGGED_MODEL, entry), places.elsewhere, location
    )
    updated_ms = row.integer("last_updated_timestamp_ms")
    created_ms = row.integer("creation_timestamp_ms")
    if created_ms is None:
        first_ms = min((metric.timestamp_ms for metric in metrics), default=0)
        created_ms = first_ms if updated_ms is None else updated_ms
    status = row.integer("status")
    if status not in (0, 1, 2, 3):
        row.unknown("status", "as UNSPECIFIED")
        status = 0
    return log.close(
        LoggedModelRecord(
            model_id=model_id,
            experiment_id=entry.experiment_id or "",
            name=row.text("name") or model_id,
            artifact_location=location,
            creation_ms=created_ms,
            last_updated_ms=created_ms if updated_ms is None else updated_ms,
            status=status,
            status_message=row.text("status_message"),
            lifecycle_stage="deleted" if row.text("lifecycle_stage") == "deleted" else "active",
            model_type=row.text("model_type"),
            source_run_id=row.text("source_run_id"),
            params=params,
            tags=tags,
            metrics=tuple(metrics),
            path=entry.path,
            artifact_dir=artifacts.directory,
        )
    )


def _pairs(database: Database, log: RowLog, table: str, prefix: str, kind: Kind) -> dict[str, str]:
    columns = (f"{prefix}_key", f"{prefix}_value")
    pairs = r.select_pairs(database, table, columns, "model_id", [log.entity_id])
    return r.key_values(log, log.place(table, log.entity_id), pairs[log.entity_id], kind)


def _metrics(database: Database, log: RowLog) -> list[LoggedModelMetric]:
    table, model_id, kind = "logged_model_metrics", log.entity_id, Kind.LOGGED_MODEL_METRIC
    found = r.select(database, table, _METRIC_COLUMNS, "model_id", [model_id])
    metrics: dict[LoggedModelMetric, None] = {}
    for values in found[model_id]:
        path = log.place(table, model_id, values["metric_name"])
        row = Fields(log, path, kind, values)
        key, time_ms = row.text("metric_name"), row.integer("metric_timestamp_ms")
        value = row.raw("metric_value")
        if not isinstance(value, (int, float)):
            value = r.number_of(log, path, "metric_value", value, kind)
            if value is None:
                continue
        if key is None or time_ms is None:
            missing = "name" if key is None else "time"
            log.add(Code.ROW_DAMAGED, path, f"It has no {missing}.", kind=kind)
            continue
        metric = LoggedModelMetric(
            key=key,
            timestamp_ms=time_ms,
            value=float(value),
            step=row.integer("metric_step") or 0,
            run_id=row.text("run_id") or "",
            dataset_name=row.text("dataset_name"),
            dataset_digest=row.text("dataset_digest"),
        )
        if metric in metrics:
            r.repeated(log, path, kind, is_equal=True)
        metrics[metric] = None
    return sorted(metrics, key=lambda m: (m.key, m.step, m.timestamp_ms, m.run_id))


# ------------------------------------------------------------------------------ the registry


def registry_folder(name: str, workspace: object) -> str:
    """The folder of an entry of the registry; it names a workspace other than the default."""
    if workspace in (None, DEFAULT_WORKSPACE):
        return f"{name}/registered_models"
    return f"{name}/registered_models/{workspace}"


def read_registered_model(
    database: Database, name: str, entry: RegistryEntry
) -> Extracted[RegisteredModelRecord]:
    """Read a registered model or prompt with its versions. Deleted versions stay, in the stage
    ``Deleted_Internal``."""
    model = entry.entity_id
    log = RowLog(Kind.REGISTERED_MODEL, model, name)
    registry = _Registry(database, log, entry)
    columns = ("creation_time", "last_updated_time", "description")
    row = r.one_row(
        log, entry.path, Kind.REGISTERED_MODEL, registry.select("registered_models", columns)
    )
    if row is None:
        return log.close(None)
    tags = registry.tags("registered_model_tags", Kind.REGISTERED_MODEL_TAG)
    created_ms = row.integer("creation_time")
    versions = registry.versions(created_ms)
    aliases = registry.aliases({version.version for version in versions})
    return log.close(
        RegisteredModelRecord(
            name=model,
            creation_ms=created_ms,
            last_updated_ms=row.integer("last_updated_time"),
            description=row.text("description"),
            tags=tags,
            aliases=aliases,
            versions=versions,
            path=entry.path,
            workspace=entry.workspace,
        )
    )


class _Registry:
    """The rows of one registered model, in its workspace."""

    def __init__(self, database: Database, log: RowLog, entry: Entry) -> None:
        self._database = database
        self._log = log
        self._model = entry.entity_id
        self._path = entry.path
        below = entry.folder.removeprefix(registry_folder(log.bound, None))
        self._workspace = below.removeprefix("/") or DEFAULT_WORKSPACE

    def select(self, table: str, columns: Sequence[str]) -> list[dict[str, Any]]:
        database = self._database
        names = (*columns, "workspace") if database.has(table, "workspace") else columns
        found = r.select(database, table, names, "name", [self._model])[self._model]
        return [
            row for row in found if (row.get("workspace") or DEFAULT_WORKSPACE) == self._workspace
        ]

    def tags(self, table: str, kind: Kind) -> dict[str, str]:
        rows = self.select(table, ("key", "value"))
        self._log.found[kind] += len(rows)
        pairs: list[Row] = [(row["key"], row["value"]) for row in rows]
        return r.key_values(self._log, self._log.place(table, self._model), pairs, kind)

    def versions(self, model_created_ms: int | None) -> tuple[ModelVersionRecord, ...]:
        log, kind = self._log, Kind.MODEL_VERSION
        columns = sorted(KNOWN["model_versions"] - {"name", "workspace"})
        rows = self.select("model_versions", columns)
        log.found[kind] += len(rows)
        tags = self._version_tags()
        seen: dict[int, dict[str, Any]] = {}
        versions = []
        for values in rows:
            path = f"{log.place('model_versions', self._model)}/{values['version']}"
            row = Fields(log, path, kind, values)
            number = row.integer("version")
            if number is None or number < 1:
                log.add(Code.MODEL_VERSION_DAMAGED, path, "It has no number.", kind=kind)
            elif number in seen:
                r.repeated(log, path, kind, is_equal=seen[number] == values)
            else:
                seen[number] = values
                versions.append(self._version(row, number, tags.pop(number, {}), model_created_ms))
        return tuple(sorted(versions, key=lambda version: version.version))

    def _version_tags(self) -> dict[int, dict[str, str]]:
        """Tags by version. Those of versions that are not there are named with the index."""
        table, kind = "model_version_tags", Kind.MODEL_VERSION_TAG
        of_version: dict[int, list[Row]] = {}
        there = {row["version"] for row in self.select("model_versions", ("version",))}
        for row in self.select(table, ("version", "key", "value")):
            if row["version"] in there:
                of_version.setdefault(row["version"], []).append((row["key"], row["value"]))
        found = {}
        for number, pairs in of_version.items():
            self._log.found[kind] += len(pairs)
            path = f"{self._log.place(table, self._model)}/{number}"
            found[number] = r.key_values(self._log, path, pairs, kind)
        return found

    def _version(
        self, row: Fields, number: int, tags: dict[str, str], model_created_ms: int | None
    ) -> ModelVersionRecord:
        updated_ms = row.integer("last_updated_time")
        created_ms = row.integer("creation_time")
        if created_ms is None:
            created_ms = next((ms for ms in (updated_ms, model_created_ms) if ms is not None), 0)
            self._log.add(
                Code.MODEL_VERSION_TIME_MISSING,
                row.path,
                "The version does not say when it was created.",
                kept=f"as created at {created_ms} ms",
                kind=Kind.MODEL_VERSION,
            )
        status = row.text("status")
        if status is not None and status not in _VERSION_STATUS:
            row.unknown("status", "as READY")
            status = None
        return ModelVersionRecord(
            name=self._model,
            version=number,
            creation_ms=created_ms,
            last_updated_ms=updated_ms,
            description=row.text("description"),
            user_id=row.text("user_id"),
            current_stage=row.text("current_stage"),
            source=row.text("source"),
            run_id=row.text("run_id"),
            status=status or "READY",
            status_message=row.text("status_message"),
            run_link=row.text("run_link"),
            storage_location=row.text("storage_location"),
            tags=tags,
        )

    def aliases(self, versions: set[int]) -> dict[str, int]:
        log, kind = self._log, Kind.ALIAS
        rows = self.select("registered_model_aliases", ("alias", "version"))
        log.found[kind] += len(rows)
        aliases: dict[str, int] = {}
        for values in rows:
            path = log.place("registered_model_aliases", self._model, values["alias"])
            row = Fields(log, path, kind, values)
            alias, number = row.text("alias"), row.integer("version")
            if alias is None or number is None:
                log.add(Code.ALIAS_DAMAGED, path, "It is not a name and a number.", kind=kind)
            elif alias in aliases:
                r.repeated(log, path, kind, is_equal=aliases[alias] == number)
            else:
                aliases[alias] = number
                if number not in versions:
                    message = f"There is no version {number}."
                    log.add(Code.ALIAS_DANGLING, path, message, kept="the alias", kind=kind)
        return dict(sorted(aliases.items()))
