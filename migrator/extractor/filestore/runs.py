"""Reading experiments, runs and datasets (``mlflow.store.tracking.file_store``, 1.x to 3.x).

Every function takes an entry of the index and reads its directory. None of them raises for
anything that lies on the disk: what can't be read is an issue in the result.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from migrator import conventions
from migrator.counting import counted
from migrator.extractor.filestore.artifacts import (
    NO_PLACES,
    ArtifactPlaces,
    list_artifacts,
    read_texts,
)
from migrator.extractor.filestore.layout import bound_of, store_of
from migrator.extractor.filestore.metrics import (
    EARLIEST_MS,
    LATEST_MS,
    plain_point,
    points_in,
    read_points,
)
from migrator.extractor.filestore.read_log import ReadLog
from migrator.extractor.filestore.scanning import Listing, SpecialEntry, follow, scan
from migrator.extractor.filestore.yamlfile import Meta, read_meta
from migrator.issues import Code, Kind
from migrator.model import (
    DatasetRecord,
    Entry,
    ExperimentRecord,
    Extracted,
    InputRecord,
    MetricPoint,
    OutputRecord,
    RunEntry,
    RunRecord,
)
from migrator.paths import openable_path

Metrics: TypeAlias = "Mapping[str, tuple[MetricPoint, ...]]"  # by key

META = "meta.yaml"
# mlflow.entities.RunStatus and SourceType: what meta.yaml holds as a number
RUN_STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
SOURCE_TYPE = {1: "NOTEBOOK", 2: "JOB", 3: "PROJECT", 4: "LOCAL", 5: "UNKNOWN"}

_EXPERIMENT_KEYS = frozenset({"name", "lifecycle_stage", "artifact_location"})
_RUN_KEYS = frozenset({"status", "lifecycle_stage", "artifact_uri", "user_id", "start_time"})
# All that MLflow has written into these files (1.26 to 3.17), and that has a place in a record.
_KNOWN_OF_EXPERIMENT = _EXPERIMENT_KEYS | {
    *("experiment_id", "creation_time", "last_update_time", "tags", "description")
}
_KNOWN_OF_RUN = _RUN_KEYS | {
    *("run_id", "run_uuid", "run_name", "name", "experiment_id", "end_time", "deleted_time"),
    *("source_type", "source_name", "source_version", "entry_point_name", "description"),
    "tags",
}
_KNOWN_OF_DATASET = frozenset({"name", "digest", "source_type", "source", "schema", "profile"})
_KNOWN_OF_EDGE = frozenset({"source_type", "source_id", "destination_type", "destination_id"})
_KNOWN_OF_INPUT = _KNOWN_OF_EDGE | {"tags"}
_KNOWN_OF_OUTPUT = _KNOWN_OF_EDGE | {"step"}
_RECOGNISED_BY = _RUN_KEYS | {"run_id", "run_uuid", "end_time"}  # any of these makes a run
_EXPERIMENT_FOLDERS = ("tags", "datasets", "traces", "models")
_RUN_FOLDERS = frozenset({"params", "metrics", "tags", "artifacts", "inputs", "outputs"})


def read_experiment(entry: Entry) -> Extracted[ExperimentRecord]:
    """Read an experiment's own files: its meta.yaml and its tags.

    Without a usable meta.yaml the experiment is made from its directory, so that its runs have
    one. In ``.trash`` it is deleted, whatever it says (MLflow before 2.3 left ``active`` there).
    """
    log = ReadLog(Kind.EXPERIMENT, entry.entity_id, store_of(entry, 1))
    path = sys.intern(entry.path)  # the entries of its runs have it, too
    file = _regular(log, path, META)
    if file is None and not os.path.isdir(os.path.join(path, META)):
        file = log.with_stand_ins(scan(path, log.bound), path, META, frozenset()).file(META)
    meta = read_meta(log, file, os.path.join(path, META), needed=_EXPERIMENT_KEYS)
    known = bool(meta.values.keys() & (_EXPERIMENT_KEYS | {"experiment_id"}))
    meta.same_id(("experiment_id",), entry.entity_id)
    meta.name_unknown(_KNOWN_OF_EXPERIMENT, Kind.EXPERIMENT)
    name = meta.name("name")
    if not name:
        name = "Default" if entry.entity_id == "0" else entry.entity_id
        log.add(
            Code.EXPERIMENT_REBUILT,
            path,
            "The experiment's name is not known." if known else "Its meta.yaml has no facts.",
            kept=f"as an experiment named {name!r}",
            kind=Kind.EXPERIMENT,
        )
    folder = os.path.join(path, "tags")
    for part in _EXPERIMENT_FOLDERS:
        place = os.path.join(path, part)
        if os.path.exists(place) and not os.path.isdir(place):  # a file, or a pipe
            log.add(Code.FOLDER_IS_A_FILE, place, f"{part} should be a directory.")
    if os.path.isdir(folder) and not _is_refused(folder, log.bound):
        tags = log.values(folder, Kind.EXPERIMENT_TAG)
    else:
        tags = meta.mapping("tags")
        if tags:
            log.found[Kind.EXPERIMENT_TAG] += len(tags)
            log.add(
                Code.INLINE_TAGS_USED,
                meta.path,
                f"{counted(len(tags), 'tag')}.",
                kind=Kind.EXPERIMENT_TAG,
            )
    _keep_description(log, meta, tags, Kind.EXPERIMENT_TAG)
    deleted = meta.is_deleted() or entry.in_trash
    record = ExperimentRecord(
        experiment_id=entry.entity_id,
        name=name,
        artifact_location=meta.text("artifact_location") or "",
        lifecycle_stage="deleted" if deleted else "active",
        creation_ms=meta.ms("creation_time"),
        last_update_ms=meta.ms("last_update_time"),
        tags=tags,
        path=path,
    )
    return log.close(record)


def read_run(
    entry: RunEntry,
    wanted: Callable[[str], bool],
    places: ArtifactPlaces = NO_PLACES,
) -> Extracted[RunRecord]:
    """Read a run's directory.

    ``wanted`` chooses by path (relative, with ``/``) the artifacts whose text is read into
    ``texts``. ``places`` are where artifacts may lie apart from the run.

    A run without a usable meta.yaml is made from the rest: its name from tag ``mlflow.runName``,
    its times from its metrics, its status FINISHED, because nothing says that it failed or still
    runs. A directory that holds nothing of a run is rejected.
    """
    path, run_id, experiment_id = entry.path, entry.entity_id, entry.experiment_id or ""
    log = ReadLog(Kind.RUN, run_id, bound_of(entry))
    listing = log.with_stand_ins(log.list(path), path, META, _RUN_FOLDERS)
    meta = read_meta(log, listing.file(META), os.path.join(path, META), needed=_RUN_KEYS)
    folders = log.own_folders(path, listing, _RUN_FOLDERS, META)
    params = log.values(folders.get("params"), Kind.PARAM)
    tags = log.values(folders.get("tags"), Kind.TAG)
    metrics = _metrics(log, folders.get("metrics"))
    inputs = _inputs(log, folders.get("inputs"), entry)
    outputs = _outputs(log, folders.get("outputs"))
    _name_what_meta_adds(log, meta, tags, run_id, experiment_id)
    artifact_uri = meta.text("artifact_uri") or ""
    artifacts = list_artifacts(
        log,
        folders.get("artifacts"),
        (experiment_id, run_id, "artifacts"),
        places,
        artifact_uri,
    )
    texts = read_texts(log, artifacts, wanted)

    has_meta = not _RECOGNISED_BY.isdisjoint(meta.values)
    if not (has_meta or params or tags or metrics or inputs or outputs or artifacts.files):
        log.reject_empty(Code.RUN_EMPTY, path, "The directory holds nothing of a run.")
        return log.close(None)
    counts = (
        f"{counted(len(params), 'param')}, {counted(len(metrics), 'metric')}, "
        f"{counted(len(tags), 'tag')} and {counted(len(artifacts.files), 'artifact')}"
    )
    state = _run_state(log, meta, path, metrics, counts)
    says_deleted = meta.is_deleted()
    deleted_ms = meta.ms("deleted_time")
    record = RunRecord(
        run_id=run_id,
        experiment_id=experiment_id,
        name=meta.text("run_name") or meta.text("name") or tags.get("mlflow.runName", ""),
        status=state.status,
        start_ms=state.start_ms,
        end_ms=state.end_ms,
        lifecycle_stage="deleted" if says_deleted or entry.in_trash else "active",
        deleted_ms=deleted_ms,
        user_id=meta.text("user_id") or "",
        source_type=_source_type(meta),
        source_name=meta.text("source_name") or "",
        source_version=meta.text("source_version") or "",
        entry_point_name=meta.text("entry_point_name") or "",
        artifact_uri=artifact_uri,
        params=params,
        tags=tags,
        metrics=metrics,
        artifacts=artifacts.files,
        texts=texts,
        inputs=inputs,
        outputs=outputs,
        path=path,
        artifact_dir=artifacts.directory,
        deleted_with_experiment=entry.in_trash
        and (not says_deleted or _was_deleted_with_experiment(entry, deleted_ms)),
    )
    return log.close(record)


def _name_what_meta_adds(
    log: ReadLog, meta: Meta, tags: dict[str, str], run_id: str, experiment_id: str
) -> None:
    """Name keys of a run's meta.yaml that are unknown, contradict the directory or are tags."""
    meta.name_unknown(_KNOWN_OF_RUN, Kind.RUN)
    if meta.values.get("tags") and not meta.mapping("tags").items() <= tags.items():
        meta.name_key("tags", Kind.RUN)  # MLflow leaves it empty and keeps tags in files
    _keep_description(log, meta, tags, Kind.TAG)
    meta.same_id(("run_id", "run_uuid"), run_id)
    meta.same_id(("experiment_id",), experiment_id)


class _RunState(NamedTuple):
    status: str
    start_ms: int
    end_ms: int | None


def _run_state(log: ReadLog, meta: Meta, path: str, metrics: Metrics, counts: str) -> _RunState:
    """A run's status and times. What its meta.yaml lacks is derived, with an issue.

    ``counts`` says in words what else there is of the run.
    """
    start_ms, end_ms = meta.ms("start_time"), meta.ms("end_time")
    status = _status(meta.text("status"))
    has_meta = not _RECOGNISED_BY.isdisjoint(meta.values)
    if not has_meta or (meta.damaged and (status is None or start_ms is None)):
        first_ms, last_ms = _times_of(metrics)
        start_ms = first_ms if start_ms is None else start_ms
        end_ms = last_ms if end_ms is None and status != "RUNNING" else end_ms
        status = status or "FINISHED"
        log.add(
            Code.RUN_REBUILT,
            path,
            f"Its meta.yaml {'lacks some facts' if has_meta else 'has no facts'}. Found: {counts}.",
            kept=f"as a run made from them, with status {status}",
            kind=Kind.RUN,
        )
    elif start_ms is not None and end_ms is not None and end_ms < start_ms:
        log.add(
            Code.RUN_ENDS_BEFORE_START,
            meta.path,
            f"It starts at {start_ms} and ends at {end_ms} ms.",
            kept="both",
            kind=Kind.RUN,
        )
    if start_ms is None:
        # MLflow's client fails on a run without a start, and so does every search that finds it.
        start_ms = _times_of(metrics)[0] or end_ms or 0
        log.add(
            Code.RUN_START_UNKNOWN,
            path,
            "Nothing says when the run started.",
            kept=f"as started at {start_ms} ms",
            kind=Kind.RUN,
        )
    if status is None:
        status = "RUNNING" if end_ms is None else "FINISHED"
        value = meta.text("status")
        log.add(
            Code.STATUS_UNKNOWN,
            meta.path,
            "It has no status." if value is None else "MLflow does not know its status.",
            kept=f"as {status}",
            kind=Kind.RUN,
            sample=(value or "")[:100],
        )
    return _RunState(status, start_ms, end_ms)


def read_dataset(entry: Entry) -> Extracted[DatasetRecord]:
    """Read a dataset of an experiment (2.4 and later). Without name or digest it is rejected."""
    log = ReadLog(Kind.DATASET, entry.entity_id, store_of(entry, 3))
    listing = log.with_stand_ins(log.list(entry.path), entry.path, META, frozenset())
    meta = read_meta(log, listing.file(META), os.path.join(entry.path, META))
    log.own_folders(entry.path, listing, frozenset(), META)
    meta.name_unknown(_KNOWN_OF_DATASET, Kind.DATASET)
    name, digest = meta.name("name"), meta.name("digest")
    if not name or digest is None:
        missing = "name" if not name else "digest"
        log.add(Code.DATASET_DAMAGED, entry.path, f"It has no {missing}.", kind=Kind.DATASET)
        return log.close(None)
    record = DatasetRecord(
        dataset_id=entry.entity_id,
        experiment_id=entry.experiment_id or "",
        name=name,
        digest=digest,
        source_type=meta.text("source_type") or "",
        source=meta.text("source") or "",
        schema=meta.text("schema"),
        profile=meta.text("profile"),
    )
    return log.close(record)


# ------------------------------------------------------------------------------ directories


def _regular(log: ReadLog, folder: str, name: str) -> str | None:
    """The path of a regular file in a directory that is too large to list for it, else None."""
    path = os.path.join(folder, name)
    if os.path.islink(path):
        return scan(folder, log.bound).file(name)
    return path if os.path.isfile(path) else None


def _is_refused(folder: str, bound: str) -> bool:
    """Whether a directory is a link that is not followed; the index has named it."""
    return os.path.islink(folder) and isinstance(follow(folder, bound), SpecialEntry)


def _metrics(log: ReadLog, folder: str | None) -> dict[str, tuple[MetricPoint, ...]]:
    metrics: dict[str, tuple[MetricPoint, ...]] = {}
    if folder is None:
        return metrics
    kind, single = Kind.METRIC_POINT, 0
    for name, path, data in log.contents(folder, kind, counted=False):
        points: tuple[MetricPoint, ...]
        if data is not None and (point := plain_point(data)) is not None:
            single += 1
            points = (point,)
        else:
            points = read_points(log, path) if data is None else points_in(log, path, data)
            if not points:
                continue
        key = name if name.isascii() else log.name(name, path, Kind.METRIC_POINT)
        if key in metrics:
            log.add(
                Code.NAME_TWICE,
                path,
                f"Another file has the key {key!r} once its name is made readable.",
                kind=Kind.METRIC_POINT,
                count=len(points),
            )
        else:
            metrics[key] = points
    log.found[kind] += single
    return dict(sorted(metrics.items()))


def _inputs(log: ReadLog, folder: str | None, run: RunEntry) -> tuple[InputRecord, ...]:
    """Read ``inputs/<md5>/meta.yaml``. The run is the directory: MLflow writes a wrong
    ``destination_id`` for datasets."""
    inputs: list[InputRecord] = []
    for name, path, listing in _members(log, folder, Kind.INPUT):
        meta = read_meta(log, listing.file(META), os.path.join(path, META), kind=Kind.INPUT)
        meta.name_unknown(_KNOWN_OF_INPUT, Kind.INPUT)
        source_id = meta.text("source_id")
        if not source_id:
            log.add(
                Code.INPUT_DAMAGED, path, f"The input {name} has no source_id.", kind=Kind.INPUT
            )
            continue
        source_type = _input_type(log, meta, source_id, run)
        if source_type is not None:
            meta.expect("destination_type", "RUN")
            inputs.append(InputRecord(source_type, source_id, meta.mapping("tags")))
    return tuple(inputs)


# mlflow.entities.LoggedModelInput and the datasets of a run, as FileStore names them
_INPUT_FOLDERS = {"DATASET": "datasets", "MODEL": "models"}


def _input_type(log: ReadLog, meta: Meta, source_id: str, run: RunEntry) -> str | None:
    """The type of an input: DATASET or MODEL. None, with an issue, where it can't be found out.

    A type that MLflow does not know is replaced by that of the thing with this id in the
    experiment.
    """
    given = meta.text("source_type")
    word = (given or "DATASET").strip().upper()
    if word in _INPUT_FOLDERS:
        return word
    for source_type, folder in _INPUT_FOLDERS.items():
        if os.path.isdir(os.path.join(run.folder, folder, openable_path(source_id))):
            meta.unknown_value("source_type", given, f"as {source_type}, which has this id")
            return source_type
    log.add(
        Code.INPUT_DAMAGED,
        meta.path,
        "MLflow does not know its source_type, and no dataset or model here has its source_id.",
        kind=Kind.INPUT,
        sample=(given or "")[:100],
    )
    return None


def _outputs(log: ReadLog, folder: str | None) -> tuple[OutputRecord, ...]:
    """Read ``outputs/<model id>/meta.yaml`` (3.0 and later)."""
    outputs: list[OutputRecord] = []
    for name, path, listing in _members(log, folder, Kind.OUTPUT):
        meta = read_meta(log, listing.file(META), os.path.join(path, META), kind=Kind.OUTPUT)
        meta.name_unknown(_KNOWN_OF_OUTPUT, Kind.OUTPUT)
        meta.expect("source_type", "RUN_OUTPUT")
        meta.expect("destination_type", "MODEL_OUTPUT")
        step = meta.integer("step")
        if step is None:
            log.add(
                Code.OUTPUT_DAMAGED, path, "It has no step.", kept="as step 0", kind=Kind.OUTPUT
            )
        model_id = meta.text("destination_id") or log.name(name, path, Kind.OUTPUT)
        outputs.append(OutputRecord(model_id, step or 0))
    return tuple(outputs)


def _members(log: ReadLog, folder: str | None, kind: Kind) -> list[tuple[str, str, Listing]]:
    """Name, path and listing of each directory below ``folder``; each is counted as found."""
    if folder is None:
        return []
    listing = log.list(folder, kind)
    log.reject_special(listing, kind)
    log.ignore_files(folder, [name for name, _ in listing.files])
    members = []
    for name, path in listing.dirs:
        inner = log.list(path)
        if not inner.files and not inner.dirs and inner.error is None:
            continue  # an empty directory, as a sync tool leaves it
        log.found[kind] += 1
        log.own_folders(path, inner, frozenset(), META)
        members.append((name, path, inner))
    return members


# ----------------------------------------------------------------------------------- values


def _keep_description(log: ReadLog, meta: Meta, tags: dict[str, str], kind: Kind) -> None:
    """Keep a description as the tag in which MLflow has it; one beside such a tag is named."""
    if "description" not in meta.values:
        return  # nearly every file: MLflow itself writes none
    description = meta.text("description")
    if not description or tags.get(conventions.NOTE) == description:
        return
    if conventions.NOTE in tags:
        meta.name_key("description", log.kind)
    else:
        tags[conventions.NOTE] = description
        log.found[kind] += 1


def _was_deleted_with_experiment(entry: RunEntry, deleted_ms: int | None) -> bool:
    """Whether a run in ``.trash`` was deleted at the moment its experiment was."""
    aside = ReadLog(Kind.EXPERIMENT, "", store_of(entry, 2))  # its issues are the experiment's own
    folder = os.path.dirname(entry.path)
    meta = read_meta(aside, _regular(aside, folder, META), os.path.join(folder, META))
    return deleted_ms is not None and deleted_ms == meta.ms("last_update_time")


def _status(value: str | None) -> str | None:
    """A run's status by name; a number or a name may be recorded. None if unknown."""
    text = (value or "").strip().upper()
    if text.isdecimal() and len(text) < 10:
        return RUN_STATUS.get(int(text))
    return text if text in RUN_STATUS.values() else None


def _source_type(meta: Meta) -> str:
    given = meta.text("source_type")
    text = (given or "").strip().upper()
    if text.isdecimal() and len(text) < 10:
        text = SOURCE_TYPE.get(int(text), text)
    if text in SOURCE_TYPE.values():
        return text
    if text:
        meta.unknown_value("source_type", given, "as UNKNOWN")
    return "UNKNOWN"


def _times_of(metrics: Metrics) -> tuple[int | None, int | None]:
    """The first and the last time of all points, without times that can't be milliseconds."""
    times: list[int] = []
    for points in metrics.values():
        times += (p.timestamp_ms for p in points if EARLIEST_MS <= p.timestamp_ms < LATEST_MS)
    return (min(times), max(times)) if times else (None, None)
