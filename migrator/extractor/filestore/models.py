"""Reading logged models (3.x) and the file registry with its prompts (2.1 and later).

Formats: ``mlflow.store.tracking.file_store`` (``<experiment>/models/m-…``) and
``mlflow.store.model_registry.file_store`` (``models/<name>/version-<n>``).
"""

from __future__ import annotations

import os
import re

from migrator.counting import counted
from migrator.extractor.filestore.artifacts import NO_PLACES, ArtifactPlaces, list_artifacts
from migrator.extractor.filestore.layout import META, store_of
from migrator.extractor.filestore.metrics import read_model_points
from migrator.extractor.filestore.read_log import VALUE_LIMIT_BYTES, ReadLog
from migrator.extractor.filestore.yamlfile import Meta, read_meta
from migrator.issues import Code, Kind
from migrator.model import (
    Entry,
    Extracted,
    LoggedModelMetric,
    LoggedModelRecord,
    ModelVersionRecord,
    RegisteredModelRecord,
)

# mlflow.entities.LoggedModelStatus, and what its protocol calls them
_MODEL_STATUS = {"UNSPECIFIED": 0, "STATUS_UNSPECIFIED": 0, "PENDING": 1, "READY": 2}
_MODEL_STATUS |= {"FAILED": 3, "UPLOAD_FAILED": 3}
_VERSION_STATUS = frozenset({"PENDING_REGISTRATION", "FAILED_REGISTRATION", "READY"})
_MODEL_FOLDERS = frozenset({"params", "tags", "metrics", "artifacts"})
_MODEL_KEYS = frozenset({"model_id", "name", "creation_timestamp", "artifact_location", "status"})
_VERSION_KEYS = frozenset({"version", "name", "creation_timestamp", "source", "current_stage"})
_REGISTERED_KEYS = frozenset({"name", "creation_timestamp", "last_updated_timestamp"})


# Every key that MLflow has written into these files (2.1 to 3.17) and that has a place in a record
# or is recorded elsewhere as well (aliases, the id of a version's model).
_KNOWN_OF_MODEL = _MODEL_KEYS | {
    *("experiment_id", "last_updated_timestamp", "status_message", "lifecycle_stage"),
    *("model_type", "source_run_id"),
}
_KNOWN_OF_REGISTERED = _REGISTERED_KEYS | {"description", "aliases"}
_KNOWN_OF_VERSION = _VERSION_KEYS | {
    *("last_updated_timestamp", "description", "user_id", "run_id", "status", "status_message"),
    *("run_link", "storage_location", "aliases", "model_id"),
}


def read_logged_model(
    entry: Entry, places: ArtifactPlaces = NO_PLACES
) -> Extracted[LoggedModelRecord]:
    """Read a logged model's directory. Never raises; one that holds nothing is rejected."""
    log = ReadLog(Kind.LOGGED_MODEL, entry.entity_id, store_of(entry, 3))
    listing = log.with_stand_ins(log.list(entry.path), entry.path, META, _MODEL_FOLDERS)
    meta = read_meta(log, listing.file(META), os.path.join(entry.path, META))
    folders = log.own_folders(entry.path, listing, _MODEL_FOLDERS, META)
    params = log.values(folders.get("params"), Kind.LOGGED_MODEL_PARAM)
    tags = log.values(folders.get("tags"), Kind.LOGGED_MODEL_TAG)
    metrics: list[LoggedModelMetric] = []
    if "metrics" in folders:
        kind = Kind.LOGGED_MODEL_METRIC
        for name, path in log.keys(folders["metrics"], kind, counted=False):
            metrics += read_model_points(log, path, log.name(name, path, kind))
    experiment_id = entry.experiment_id or ""
    location = meta.text("artifact_location") or ""
    artifacts = list_artifacts(
        log,
        folders.get("artifacts"),
        (experiment_id, "models", entry.entity_id, "artifacts"),
        places,
        location,
    )
    rebuilt = not meta.values.keys() & _MODEL_KEYS
    if rebuilt and not (params or tags or metrics or artifacts.files):
        log.reject_empty(Code.MODEL_EMPTY, entry.path, "The directory holds nothing of a model.")
        return log.close(None)
    meta.name_unknown(_KNOWN_OF_MODEL, Kind.LOGGED_MODEL)
    meta.same_id(("model_id",), entry.entity_id)
    meta.same_id(("experiment_id",), experiment_id)
    times = [metric.timestamp_ms for metric in metrics]
    updated_ms = meta.ms("last_updated_timestamp")
    created_ms = meta.ms("creation_timestamp")
    if created_ms is None:
        created_ms = updated_ms if updated_ms is not None else min(times, default=0)
    if rebuilt:
        log.add(
            Code.MODEL_REBUILT,
            entry.path,
            f"Its {META} has no facts. Found: {counted(len(params), 'param')}, "
            f"{counted(len(metrics), 'metric point')}, {counted(len(tags), 'tag')} and "
            f"{counted(len(artifacts.files), 'artifact')}.",
            kept=f"as a model made from them, of {created_ms} ms since 1970",
            kind=Kind.LOGGED_MODEL,
        )
    deleted = meta.is_deleted() or entry.in_trash
    record = LoggedModelRecord(
        model_id=entry.entity_id,
        experiment_id=experiment_id,
        name=meta.name("name") or entry.entity_id,
        artifact_location=location,
        creation_ms=created_ms,
        last_updated_ms=created_ms if updated_ms is None else updated_ms,
        status=_model_status(meta),
        status_message=meta.text("status_message"),
        lifecycle_stage="deleted" if deleted else "active",
        model_type=meta.text("model_type"),
        source_run_id=meta.text("source_run_id"),
        params=params,
        tags=tags,
        metrics=tuple(metrics),
        path=entry.path,
        artifact_dir=artifacts.directory,
    )
    return log.close(record)


def _model_status(meta: Meta) -> int:
    """A logged model's status as MLflow's number; one that MLflow does not know is named."""
    given = meta.text("status")
    text = (given or "").strip().upper().removeprefix("LOGGED_MODEL_")
    if text in ("0", "1", "2", "3"):
        return int(text)
    if text in _MODEL_STATUS:
        return _MODEL_STATUS[text]
    if text:
        meta.unknown_value("status", given, "as UNSPECIFIED")
    return 0


def read_registered_model(entry: Entry) -> Extracted[RegisteredModelRecord]:
    """Read a registered model or prompt with its versions. Never raises.

    The files in ``aliases/`` are the truth about aliases; deleted versions stay, in the stage
    ``Deleted_Internal``.
    """
    log = ReadLog(Kind.REGISTERED_MODEL, entry.entity_id, store_of(entry, 2))
    listing = log.list(entry.path)
    listing = log.with_stand_ins(listing, entry.path, META, frozenset({"tags", "aliases"}))
    meta = read_meta(log, listing.file(META), os.path.join(entry.path, META))
    versions_found = {name for name, _ in listing.dirs if name.startswith("version-")}
    folders = log.own_folders(entry.path, listing, versions_found | {"tags", "aliases"}, META)
    tags = log.values(folders.get("tags"), Kind.REGISTERED_MODEL_TAG)
    created_ms = meta.ms("creation_timestamp")
    versions = []
    for name in sorted(versions_found):
        version = _version(log, entry.entity_id, name, folders[name], created_ms)
        versions += [] if version is None else [version]
    versions.sort(key=lambda version: version.version)
    numbers = {version.version for version in versions}
    aliases = _aliases(log, folders.get("aliases"), numbers)
    rebuilt = not meta.values.keys() & _REGISTERED_KEYS
    if rebuilt and not (tags or aliases or versions):
        log.reject_empty(
            Code.MODEL_EMPTY, entry.path, "The directory holds nothing of a registered model."
        )
        return log.close(None)
    if rebuilt:
        log.add(
            Code.MODEL_REBUILT,
            entry.path,
            f"Its {META} has no facts. Found: {counted(len(versions), 'version')}, "
            f"{counted(len(tags), 'tag')} and {counted(len(aliases), 'alias', 'aliases')}.",
            kept="as a registered model made from them",
            kind=Kind.REGISTERED_MODEL,
        )
    meta.name_unknown(_KNOWN_OF_REGISTERED, Kind.REGISTERED_MODEL)
    meta.same_id(("name",), entry.entity_id)
    record = RegisteredModelRecord(
        name=entry.entity_id,
        creation_ms=created_ms,
        last_updated_ms=meta.ms("last_updated_timestamp"),
        description=meta.text("description"),
        tags=tags,
        aliases=aliases,
        versions=tuple(versions),
        path=entry.path,
    )
    return log.close(record)


def _version(
    log: ReadLog, model: str, name: str, path: str, model_created_ms: int | None
) -> ModelVersionRecord | None:
    """Read a version. It always has a creation time and a status that MLflow knows: the REST API
    (``ModelVersion.to_proto``, 3.9) fails on a version without, and with it the list it is in."""
    log.found[Kind.MODEL_VERSION] += 1
    listing = log.list(path)
    meta = read_meta(log, listing.file(META), os.path.join(path, META), kind=Kind.MODEL_VERSION)
    folders = log.own_folders(path, listing, frozenset({"tags"}), META)
    number = re.fullmatch(r"version-([1-9][0-9]{0,8})", name)
    tags = log.values(folders.get("tags"), Kind.MODEL_VERSION_TAG)
    if number is None:
        log.add(
            Code.MODEL_VERSION_DAMAGED,
            path,
            f"{log.name(name, path, Kind.MODEL_VERSION)} has no number.",
            kind=Kind.MODEL_VERSION,
        )
        if tags:
            log.add(
                Code.LOST_WITH_OWNER,
                path,
                f"The tags of {name}, which was rejected.",
                kind=Kind.MODEL_VERSION_TAG,
                count=len(tags),
            )
        return None
    meta.name_unknown(_KNOWN_OF_VERSION, Kind.MODEL_VERSION)
    model_id = meta.text("model_id")
    if model_id and model_id not in (meta.text("source") or ""):
        meta.name_key("model_id", Kind.MODEL_VERSION)  # a database knows it by the source only
    meta.same_id(("version",), number[1])
    if not meta.values.keys() & _VERSION_KEYS:
        log.add(
            Code.MODEL_VERSION_REBUILT,
            path,
            f"Its {META} has no facts. Found: {counted(len(tags), 'tag')}.",
            kept="as a version without source, run and times",
            kind=Kind.MODEL_VERSION,
        )
    created_ms, updated_ms = meta.ms("creation_timestamp"), meta.ms("last_updated_timestamp")
    if created_ms is None:
        created_ms = next((ms for ms in (updated_ms, model_created_ms) if ms is not None), 0)
        log.add(
            Code.MODEL_VERSION_TIME_MISSING,
            path,
            "The version does not say when it was created.",
            kept=f"as created at {created_ms} ms",
            kind=Kind.MODEL_VERSION,
        )
    status = meta.text("status")
    if status is not None and status not in _VERSION_STATUS:
        log.add(
            Code.STATUS_UNKNOWN,
            meta.path,
            "MLflow does not know its status.",
            kept="as READY",
            kind=Kind.MODEL_VERSION,
            sample=status[:100],
        )
        status = None
    return ModelVersionRecord(
        name=model,
        version=int(number[1]),
        creation_ms=created_ms,
        last_updated_ms=updated_ms,
        description=meta.text("description"),
        user_id=meta.text("user_id"),
        current_stage=meta.text("current_stage"),
        source=meta.text("source"),
        run_id=meta.text("run_id"),
        status=status or "READY",
        status_message=meta.text("status_message"),
        run_link=meta.text("run_link"),
        storage_location=meta.text("storage_location"),
        tags=tags,
    )


def _aliases(log: ReadLog, folder: str | None, versions: set[int]) -> dict[str, int]:
    aliases: dict[str, int] = {}
    if folder is None:
        return aliases
    for name, path in log.keys(folder, Kind.ALIAS):
        data = log.read(path, VALUE_LIMIT_BYTES, Kind.ALIAS)
        if data is None:
            continue
        number = re.fullmatch(rb"\s*([1-9][0-9]{0,8})\s*", data)
        alias = log.name(name, path, Kind.ALIAS)
        if number is None or alias in aliases:
            log.add(
                Code.ALIAS_DAMAGED,
                path,
                "It is not a number." if number is None else "Another file has its name.",
                kind=Kind.ALIAS,
                sample=repr(data[:60]),
            )
            continue
        aliases[alias] = int(number[1])
        if aliases[alias] not in versions:
            log.add(
                Code.ALIAS_DANGLING,
                path,
                f"There is no version {aliases[alias]}.",
                kept="the alias",
                kind=Kind.ALIAS,
            )
    return dict(sorted(aliases.items()))
