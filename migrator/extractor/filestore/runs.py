"""Reading experiments, runs and datasets (``mlflow.store.tracking.file_store``, 1.x to 3.x).

Every function takes what the index found and returns what the directory holds. None raises for
anything that lies on the disk: what can't be read is an issue of the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from migrator import conventions
from migrator.extractor.filestore.artifacts import TEXT_LIMIT_BYTES, list_artifacts, read_texts
from migrator.extractor.filestore.files import Account, Listing, Odd, follow, scan
from migrator.extractor.filestore.metrics import (
    EARLIEST_MS,
    LATEST_MS,
    plain_point,
    points_in,
    read_points,
)
from migrator.extractor.filestore.store import bound_of, store_of
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
_TELLING = _RUN_KEYS | {"run_id", "run_uuid", "end_time"}  # any of these tells of a run
_EXPERIMENT_FOLDERS = ("tags", "datasets", "traces", "models")
_RUN_FOLDERS = frozenset({"params", "metrics", "tags", "artifacts", "inputs", "outputs"})


def read_experiment(entry: Entry) -> Extracted[ExperimentRecord]:
    """Read an experiment's own files: its meta.yaml and its tags.

    Without a usable meta.yaml the experiment is made from its directory, so that its runs have
    one. In ``.trash`` it is deleted, whatever it says (MLflow before 2.3 left ``active`` there).
    """
    account = Account(Kind.EXPERIMENT, entry.entity_id, store_of(entry, 1))
    path = entry.path
    file = _regular(account, path, META)
    if file is None and not os.path.isdir(os.path.join(path, META)):
        file = account.as_named(scan(path, account.bound), path, META, frozenset()).file(META)
    meta = read_meta(account, file, os.path.join(path, META), needed=_EXPERIMENT_KEYS)
    known = bool(meta.values.keys() & (_EXPERIMENT_KEYS | {"experiment_id"}))
    meta.same_id(("experiment_id",), entry.entity_id)
    meta.name_unknown(_KNOWN_OF_EXPERIMENT, Kind.EXPERIMENT)
    name = meta.name("name")
    if not name:
        name = "Default" if entry.entity_id == "0" else entry.entity_id
        account.add(
            Code.EXPERIMENT_REBUILT,
            path,
            "The experiment's name is not known." if known else "Its meta.yaml tells nothing.",
            kept=f"as an experiment named {name!r}",
            kind=Kind.EXPERIMENT,
        )
    folder = os.path.join(path, "tags")
    for part in _EXPERIMENT_FOLDERS:
        place = os.path.join(path, part)
        if os.path.exists(place) and not os.path.isdir(place):  # a file, or a pipe
            account.add(Code.FOLDER_IS_A_FILE, place, f"{part} should be a directory.")
    if os.path.isdir(folder) and not _is_refused(folder, account.bound):
        tags = account.values(folder, Kind.EXPERIMENT_TAG)
    else:
        tags = meta.mapping("tags")
        if tags:
            account.found[Kind.EXPERIMENT_TAG] += len(tags)
            account.add(
                Code.INLINE_TAGS_USED, meta.path, f"{len(tags)} tags.", kind=Kind.EXPERIMENT_TAG
            )
    _keep_description(account, meta, tags, Kind.EXPERIMENT_TAG)
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
    return account.close(record)


def read_run(
    entry: RunEntry,
    wanted: Callable[[str], bool],
    text_limit_bytes: int = TEXT_LIMIT_BYTES,
    artifact_roots: Sequence[str] = (),
) -> Extracted[RunRecord]:
    """Read a run's directory.

    ``wanted`` says of an artifact's path (relative, with ``/``) whether its text is to be read
    into ``texts``. ``artifact_roots`` are a server's artifact directories (``mlartifacts``).

    A run whose meta.yaml tells nothing is made from the rest: its name from tag
    ``mlflow.runName``, its times from its metrics, its status FINISHED, because RUNNING would
    be untrue of history and nothing says that it failed. One that holds nothing is rejected.
    """
    path, run_id = entry.path, entry.entity_id
    account = Account(Kind.RUN, run_id, bound_of(entry))
    listing = account.as_named(account.list(path), path, META, _RUN_FOLDERS)
    meta = read_meta(account, listing.file(META), os.path.join(path, META), needed=_RUN_KEYS)
    folders = _folders(account, path, listing)
    params = account.values(folders.get("params"), Kind.PARAM)
    tags = account.values(folders.get("tags"), Kind.TAG)
    metrics = _metrics(account, folders.get("metrics"))
    inputs = _inputs(account, folders.get("inputs"), entry)
    outputs = _outputs(account, folders.get("outputs"))

    experiment_id = entry.experiment_id or ""
    meta.name_unknown(_KNOWN_OF_RUN, Kind.RUN)
    if meta.values.get("tags") and not meta.mapping("tags").items() <= tags.items():
        meta.name_key("tags", Kind.RUN)  # MLflow leaves it empty and keeps tags in files
    _keep_description(account, meta, tags, Kind.TAG)
    meta.same_id(("run_id", "run_uuid"), run_id)
    meta.same_id(("experiment_id",), experiment_id)
    artifact_uri = meta.text("artifact_uri") or ""
    artifacts = list_artifacts(
        account,
        folders.get("artifacts"),
        (experiment_id, run_id, "artifacts"),
        artifact_roots,
        artifact_uri,
    )
    texts = read_texts(account, artifacts, wanted, text_limit_bytes)

    rebuilt = _TELLING.isdisjoint(meta.values)
    if rebuilt and not (params or tags or metrics or inputs or outputs or artifacts.files):
        account.nothing(Code.RUN_EMPTY, path, "The directory holds nothing of a run.")
        return account.close(None)
    start_ms, end_ms = meta.ms("start_time"), meta.ms("end_time")
    status = _status(meta.text("status"))
    if rebuilt or (meta.damaged and (status is None or start_ms is None)):
        first_ms, last_ms = _times_of(metrics)
        start_ms = first_ms if start_ms is None else start_ms
        end_ms = last_ms if end_ms is None and status != "RUNNING" else end_ms
        status = status or "FINISHED"
        account.add(
            Code.RUN_REBUILT,
            path,
            f"Its meta.yaml tells {'nothing' if rebuilt else 'not all'}; there are "
            f"{len(params)} params, {len(metrics)} metrics, {len(tags)} tags and "
            f"{len(artifacts.files)} artifacts.",
            kept=f"as a run made from them, with status {status}",
            kind=Kind.RUN,
        )
    elif start_ms is not None and end_ms is not None and end_ms < start_ms:
        account.add(
            Code.RUN_ENDS_BEFORE_START,
            meta.path,
            f"It starts at {start_ms} and ends at {end_ms} ms.",
            kept="both",
            kind=Kind.RUN,
        )
    if start_ms is None:
        # MLflow's client refuses a run without a start, and with it every search that finds it.
        start_ms = _times_of(metrics)[0] or end_ms or 0
        account.add(
            Code.RUN_START_UNKNOWN,
            path,
            "Nothing says when the run started.",
            kept=f"as started at {start_ms} ms",
            kind=Kind.RUN,
        )
    if status is None:
        status = "RUNNING" if end_ms is None else "FINISHED"
        value = meta.text("status")
        account.add(
            Code.STATUS_UNKNOWN,
            meta.path,
            "It has no status." if value is None else "Its status is none of MLflow's.",
            kept=f"as {status}",
            kind=Kind.RUN,
            sample=(value or "")[:100],
        )
    says_deleted = meta.is_deleted()
    deleted_ms = meta.ms("deleted_time")
    record = RunRecord(
        run_id=run_id,
        experiment_id=experiment_id,
        name=meta.text("run_name") or meta.text("name") or tags.get("mlflow.runName", ""),
        status=status,
        start_ms=start_ms,
        end_ms=end_ms,
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
        and (not says_deleted or _deleted_with(entry, deleted_ms)),
    )
    return account.close(record)


def read_dataset(entry: Entry) -> Extracted[DatasetRecord]:
    """Read a dataset of an experiment (2.4 and later). Without name or digest it is rejected."""
    account = Account(Kind.DATASET, entry.entity_id, store_of(entry, 3))
    listing = account.as_named(account.list(entry.path), entry.path, META, frozenset())
    meta = read_meta(account, listing.file(META), os.path.join(entry.path, META))
    _ignore_rest(account, entry.path, listing, frozenset())
    meta.name_unknown(_KNOWN_OF_DATASET, Kind.DATASET)
    name, digest = meta.name("name"), meta.name("digest")
    if not name or digest is None:
        missing = "name" if not name else "digest"
        account.add(Code.DATASET_DAMAGED, entry.path, f"It has no {missing}.", kind=Kind.DATASET)
        return account.close(None)
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
    return account.close(record)


# ------------------------------------------------------------------------------ directories


def _regular(account: Account, folder: str, name: str) -> str | None:
    """Return the path of a regular file in a directory that is too large to be listed for it."""
    path = os.path.join(folder, name)
    if os.path.islink(path):
        return scan(folder, account.bound).file(name)
    return path if os.path.isfile(path) else None


def _is_refused(folder: str, bound: str) -> bool:
    """Tell whether a directory is a link that is not followed; the index has named it."""
    return os.path.islink(folder) and isinstance(follow(folder, bound), Odd)


def _folders(account: Account, path: str, listing: Listing) -> dict[str, str]:
    """Return the run's own folders by name; everything else in the listing is named."""
    folders = {name: child for name, child in listing.dirs if name in _RUN_FOLDERS}
    for name, child in listing.files:
        if name in _RUN_FOLDERS:
            account.add(Code.FOLDER_IS_A_FILE, child, f"{name} should be a directory.")
    _ignore_rest(account, path, listing, _RUN_FOLDERS)
    return folders


def _ignore_rest(
    account: Account, path: str, listing: Listing, folders: frozenset[str], meta: str = META
) -> None:
    account.ignore_files(path, [name for name, _ in listing.files if name != meta])
    account.ignore_odd(listing, folders)
    for name, child in listing.dirs:
        if name not in folders:
            account.ignore_tree(child)


def _metrics(account: Account, folder: str | None) -> dict[str, tuple[MetricPoint, ...]]:
    metrics: dict[str, tuple[MetricPoint, ...]] = {}
    if folder is None:
        return metrics
    kind, single = Kind.METRIC_POINT, 0
    for name, path, data in account.contents(folder, kind, counted=False):
        points: tuple[MetricPoint, ...]
        if data is not None and (point := plain_point(data)) is not None:
            single += 1
            points = (point,)
        else:
            points = read_points(account, path) if data is None else points_in(account, path, data)
            if not points:
                continue
        key = name if name.isascii() else account.name(name, path, Kind.METRIC_POINT)
        if key in metrics:
            account.add(
                Code.NAME_TWICE,
                path,
                f"Another file has the key {key!r} once its name is made readable.",
                kind=Kind.METRIC_POINT,
                count=len(points),
            )
        else:
            metrics[key] = points
    account.found[kind] += single
    return dict(sorted(metrics.items()))


def _inputs(account: Account, folder: str | None, run: RunEntry) -> tuple[InputRecord, ...]:
    """Read ``inputs/<md5>/meta.yaml``. The run is the directory: MLflow writes a wrong
    ``destination_id`` for datasets."""
    inputs: list[InputRecord] = []
    for name, path, listing in _members(account, folder, Kind.INPUT):
        meta = read_meta(account, listing.file(META), os.path.join(path, META), kind=Kind.INPUT)
        meta.name_unknown(_KNOWN_OF_INPUT, Kind.INPUT)
        source_id = meta.text("source_id")
        if not source_id:
            account.add(
                Code.INPUT_DAMAGED, path, f"The input {name} has no source_id.", kind=Kind.INPUT
            )
            continue
        source_type = _input_type(account, meta, source_id, run)
        if source_type is not None:
            meta.expect("destination_type", "RUN")
            inputs.append(InputRecord(source_type, source_id, meta.mapping("tags")))
    return tuple(inputs)


# mlflow.entities.LoggedModelInput and the datasets of a run, as FileStore names them
_INPUT_FOLDERS = {"DATASET": "datasets", "MODEL": "models"}


def _input_type(account: Account, meta: Meta, source_id: str, run: RunEntry) -> str | None:
    """Return what kind of thing an input is, None (and named) where nothing tells.

    A type that MLflow does not know is replaced by that of what has the id in the experiment.
    """
    given = meta.text("source_type")
    word = (given or "DATASET").strip().upper()
    if word in _INPUT_FOLDERS:
        return word
    for source_type, folder in _INPUT_FOLDERS.items():
        if os.path.isdir(os.path.join(run.folder, folder, openable_path(source_id))):
            meta.unknown_value("source_type", given, f"as {source_type}, which has this id")
            return source_type
    account.add(
        Code.INPUT_DAMAGED,
        meta.path,
        "Its source_type is none of MLflow's, and no dataset or model here has its source_id.",
        kind=Kind.INPUT,
        sample=(given or "")[:100],
    )
    return None


def _outputs(account: Account, folder: str | None) -> tuple[OutputRecord, ...]:
    """Read ``outputs/<model id>/meta.yaml`` (3.0 and later)."""
    outputs: list[OutputRecord] = []
    for name, path, listing in _members(account, folder, Kind.OUTPUT):
        meta = read_meta(account, listing.file(META), os.path.join(path, META), kind=Kind.OUTPUT)
        meta.name_unknown(_KNOWN_OF_OUTPUT, Kind.OUTPUT)
        meta.expect("source_type", "RUN_OUTPUT")
        meta.expect("destination_type", "MODEL_OUTPUT")
        step = meta.integer("step")
        if step is None:
            account.add(
                Code.OUTPUT_DAMAGED, path, "It has no step.", kept="as step 0", kind=Kind.OUTPUT
            )
        model_id = meta.text("destination_id") or account.name(name, path, Kind.OUTPUT)
        outputs.append(OutputRecord(model_id, step or 0))
    return tuple(outputs)


def _members(account: Account, folder: str | None, kind: Kind) -> list[tuple[str, str, Listing]]:
    """Return name, path and listing of each directory below ``folder``, found counted."""
    if folder is None:
        return []
    listing = account.list(folder, kind)
    account.refuse_odd(listing, kind)
    account.ignore_files(folder, [name for name, _ in listing.files])
    members = []
    for name, path in listing.dirs:
        inner = account.list(path)
        if not inner.files and not inner.dirs and inner.error is None:
            continue  # an empty directory, as a sync tool leaves it
        account.found[kind] += 1
        _ignore_rest(account, path, inner, frozenset())
        members.append((name, path, inner))
    return members


# ----------------------------------------------------------------------------------- values


def _keep_description(account: Account, meta: Meta, tags: dict[str, str], kind: Kind) -> None:
    """Keep a description as the tag in which MLflow has it; one beside such a tag is named."""
    if "description" not in meta.values:
        return  # nearly every file: MLflow itself writes none
    description = meta.text("description")
    if not description or tags.get(conventions.NOTE) == description:
        return
    if conventions.NOTE in tags:
        meta.name_key("description", account.kind)
    else:
        tags[conventions.NOTE] = description
        account.found[kind] += 1


def _deleted_with(entry: RunEntry, deleted_ms: int | None) -> bool:
    """Tell whether a run in ``.trash`` was deleted at the moment its experiment was."""
    aside = Account(Kind.EXPERIMENT, "", store_of(entry, 2))  # its issues are the experiment's own
    folder = os.path.dirname(entry.path)
    meta = read_meta(aside, _regular(aside, folder, META), os.path.join(folder, META))
    return deleted_ms is not None and deleted_ms == meta.ms("last_update_time")


def _status(value: str | None) -> str | None:
    """Return a run's status by name; a number or a name may be recorded. None if unknown."""
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


def _times_of(
    metrics: dict[str, tuple[MetricPoint, ...]],
) -> tuple[int | None, int | None]:
    times = [
        point.timestamp_ms
        for points in metrics.values()
        for point in points
        if EARLIEST_MS <= point.timestamp_ms < LATEST_MS
    ]
    return (min(times), max(times)) if times else (None, None)
