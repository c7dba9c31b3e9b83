"""Builders that write small file stores in the layouts of MLflow 1.26, 2.9 and 3.x.

The layouts are those of ``mlflow.store.tracking.file_store`` and
``mlflow.store.model_registry.file_store``. Everything is written byte for byte, so a test can
damage it afterwards. Times are milliseconds since the epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

Layout = Literal["1.26", "2.9", "3"]
START_MS = 1_700_000_000_000
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the one that MLflow takes; much faster
FINISHED = 3


def write_yaml(path: Path, data: Mapping[str, Any]) -> None:
    """Write a YAML file as MLflow does: block style, keys sorted, unicode as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(yaml.dump(dict(data), Dumper=DUMPER, allow_unicode=True).encode())


def write_values(folder: Path, values: Mapping[str, str | bytes]) -> None:
    """Write one file for each key; a ``/`` in a key makes a directory."""
    for key, value in values.items():
        file = folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(value if isinstance(value, bytes) else value.encode())


def experiment_dir(root: Path, exp: str) -> Path:
    """Return an experiment's directory, active or in ``.trash``."""
    trashed = root / ".trash" / exp
    return trashed if trashed.is_dir() and not (root / exp).is_dir() else root / exp


def write_experiment(
    root: Path,
    exp: str,
    name: str,
    *,
    tags: Mapping[str, str | bytes] | None = None,
    deleted: bool = False,
    in_trash: bool | None = None,
    artifact_location: str | None = None,
    creation_ms: int | None = START_MS,
    last_update_ms: int | None = None,
    layout: Layout = "2.9",
    **meta: Any,
) -> Path:
    """Write an experiment and return its directory. ``meta`` overrides keys of meta.yaml.

    ``in_trash`` is ``deleted`` unless given. Before MLflow 2.3 an experiment in ``.trash`` still
    said ``active``: ``deleted=False, in_trash=True`` writes that.
    """
    trashed = deleted if in_trash is None else in_trash
    path = (root / ".trash" if trashed else root) / exp
    path.mkdir(parents=True, exist_ok=True)
    data: dict[str, Any] = {
        "artifact_location": artifact_location or f"file:///home/ana/mlruns/{exp}",
        "experiment_id": exp,
        "lifecycle_stage": "deleted" if deleted else "active",
        "name": name,
    }
    if layout != "1.26":
        data["creation_time"] = creation_ms
        data["last_update_time"] = creation_ms if last_update_ms is None else last_update_ms
    data.update(meta)
    write_yaml(path / "meta.yaml", data)
    write_values(path / "tags", tags or {})
    return path


def metric_lines(points: Iterable[Sequence[object]]) -> bytes:
    """Return a metric file's content: one line for each ``(timestamp_ms, value, step, ...)``."""
    return "".join(" ".join(str(part) for part in point) + "\n" for point in points).encode()


def write_run(
    root: Path,
    exp: str,
    run_id: str,
    *,
    name: str = "run",
    parent: str | None = None,
    params: Mapping[str, str | bytes] | None = None,
    tags: Mapping[str, str | bytes] | None = None,
    metrics: Mapping[str, Iterable[Sequence[object]] | bytes] | None = None,
    artifacts: Mapping[str, str | bytes] | None = None,
    status: int | str = FINISHED,
    start_ms: int | None = START_MS,
    end_ms: int | None = START_MS + 1000,
    deleted: bool = False,
    deleted_ms: int | None = None,
    user: str = "ana",
    layout: Layout = "2.9",
    **meta: Any,
) -> Path:
    """Write a run into an experiment and return its directory.

    ``metrics`` maps a key to points ``(timestamp_ms, value, step)`` or to the file's bytes.
    ``meta`` overrides keys of meta.yaml.
    """
    path = experiment_dir(root, exp) / run_id
    for folder in ("params", "tags", "metrics", "artifacts"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    data: dict[str, Any] = {
        "artifact_uri": f"file:///home/ana/mlruns/{exp}/{run_id}/artifacts",
        "end_time": end_ms,
        "entry_point_name": "",
        "experiment_id": exp,
        "lifecycle_stage": "deleted" if deleted else "active",
        "run_id": run_id,
        "source_name": "",
        "source_type": 4,
        "source_version": "",
        "start_time": start_ms,
        "status": status,
        "tags": [],
        "user_id": user,
    }
    data["name" if layout == "1.26" else "run_name"] = "" if layout == "1.26" else name
    if layout != "3":
        data["run_uuid"] = run_id
    if deleted and layout != "1.26":
        data["deleted_time"] = START_MS + 2000 if deleted_ms is None else deleted_ms
    data.update(meta)
    write_yaml(path / "meta.yaml", data)
    all_tags: dict[str, str | bytes] = {"mlflow.runName": name, "mlflow.user": user}
    if parent is not None:
        all_tags["mlflow.parentRunId"] = parent
    write_values(path / "tags", {**all_tags, **(tags or {})})
    write_values(path / "params", params or {})
    write_values(
        path / "metrics",
        {
            key: points if isinstance(points, bytes) else metric_lines(points)
            for key, points in (metrics or {}).items()
        },
    )
    write_values(path / "artifacts", artifacts or {})
    return path


def write_dataset(
    root: Path,
    exp: str,
    name: str,
    digest: str,
    *,
    runs: Iterable[str] = (),
    tags: Mapping[str, str] | None = None,
    schema: str | None = None,
    profile: str | None = None,
) -> str:
    """Write a dataset, and an input of it into each run; return the dataset's id (2.4 on)."""
    dataset_id = hashlib.md5(f"{name}{digest}".encode()).hexdigest()
    folder = experiment_dir(root, exp)
    write_yaml(
        folder / "datasets" / dataset_id / "meta.yaml",
        {
            "digest": digest,
            "name": name,
            "profile": profile,
            "schema": schema,
            "source": '{"url": "https://example.com/data.csv"}',
            "source_type": "http",
        },
    )
    for run_id in runs:
        input_id = hashlib.md5(f"{dataset_id}{run_id}".encode()).hexdigest()
        write_yaml(
            folder / run_id / "inputs" / input_id / "meta.yaml",
            {
                "destination_id": dataset_id,  # as MLflow writes it, though it is not the run
                "destination_type": "RUN",
                "source_id": dataset_id,
                "source_type": "DATASET",
                "tags": dict(tags or {}),
            },
        )
    return dataset_id


def write_logged_model(
    root: Path,
    exp: str,
    model_id: str,
    *,
    name: str = "model",
    source_run_id: str | None = None,
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    metrics: Mapping[str, Iterable[Sequence[object]] | bytes] | None = None,
    artifacts: Mapping[str, str | bytes] | None = None,
    output_step: int | None = None,
    **meta: Any,
) -> Path:
    """Write a logged model (3.x); ``output_step`` also makes it an output of its source run.

    Metric points are ``(timestamp_ms, value, step, run_id[, dataset name, digest])``.
    """
    path = experiment_dir(root, exp) / "models" / model_id
    data: dict[str, Any] = {
        "artifact_location": f"file:///home/ana/mlruns/{exp}/models/{model_id}/artifacts",
        "creation_timestamp": START_MS,
        "experiment_id": exp,
        "last_updated_timestamp": START_MS + 1,
        "model_id": model_id,
        "model_type": "agent",
        "name": name,
        "source_run_id": source_run_id,
        "status": 2,
        "status_message": None,
    }
    data.update(meta)
    write_yaml(path / "meta.yaml", data)
    write_values(path / "params", params or {})
    write_values(path / "tags", tags or {})
    write_values(
        path / "metrics",
        {
            key: points if isinstance(points, bytes) else metric_lines(points)
            for key, points in (metrics or {}).items()
        },
    )
    write_values(path / "artifacts", artifacts or {})
    if output_step is not None and source_run_id is not None:
        write_yaml(
            experiment_dir(root, exp) / source_run_id / "outputs" / model_id / "meta.yaml",
            {
                "destination_id": model_id,
                "destination_type": "MODEL_OUTPUT",
                "source_id": model_id,
                "source_type": "RUN_OUTPUT",
                "step": output_step,
                "tags": {},
            },
        )
    return path


def write_registered_model(
    root: Path,
    name: str,
    *,
    versions: Sequence[Mapping[str, Any]] = ({},),
    tags: Mapping[str, str] | None = None,
    aliases: Mapping[str, int | str] | None = None,
    **meta: Any,
) -> Path:
    """Write a registered model or prompt (2.1 on).

    Each of ``versions`` overrides keys of its meta.yaml; its key ``tags`` makes tag files.
    """
    path = root / "models" / name
    write_yaml(
        path / "meta.yaml",
        {
            "aliases": {key: str(value) for key, value in (aliases or {}).items()},
            "creation_timestamp": START_MS,
            "description": None,
            "last_updated_timestamp": START_MS + 1,
            "name": name,
            **meta,
        },
    )
    write_values(path / "tags", tags or {})
    write_values(path / "aliases", {key: str(value) for key, value in (aliases or {}).items()})
    for number, overrides in enumerate(versions, 1):
        folder = path / f"version-{number}"
        data: dict[str, Any] = {
            "creation_timestamp": START_MS,
            "current_stage": "None",
            "description": None,
            "last_updated_timestamp": START_MS + 1,
            "name": name,
            "run_id": None,
            "run_link": None,
            "source": "dummy-source",
            "status": "READY",
            "status_message": None,
            "user_id": None,
            "version": number,
        }
        data.update({key: value for key, value in overrides.items() if key != "tags"})
        write_yaml(folder / "meta.yaml", data)
        write_values(folder / "tags", overrides.get("tags", {}))
    return path


def write_trace(
    root: Path,
    exp: str,
    trace_id: str,
    *,
    spans: object = (),
    tags: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
    source_run_id: str | None = None,
    assessments: Mapping[str, Mapping[str, Any]] | None = None,
    schema: Literal[2, 3] = 3,
    traces_json: bytes | None = None,
    artifact_root: Path | None = None,
    **info: Any,
) -> Path:
    """Write a native trace and return its directory (2.14 on).

    ``spans`` is what ``traces.json`` holds under ``spans``; ``traces_json`` replaces the whole
    file. ``artifact_root`` is a server's ``mlartifacts``, to which the spans go instead.
    ``info`` overrides keys of trace_info.yaml, which has the layout of ``schema``.
    """
    path = experiment_dir(root, exp) / "traces" / trace_id
    data: dict[str, Any]
    if schema == 2:
        data = {
            "execution_time_ms": 5,
            "experiment_id": exp,
            "request_id": trace_id,
            "status": "OK",
            "timestamp_ms": START_MS,
        }
    else:
        data = {
            "execution_duration_ms": 5,
            "request_preview": "{}",
            "request_time": "2023-11-14T22:13:20Z",
            "response_preview": "",
            "state": "OK",
            "trace_id": trace_id,
            "trace_location": {
                "mlflow_experiment": {"experiment_id": exp},
                "type": "MLFLOW_EXPERIMENT",
            },
        }
    data.update(info)
    write_yaml(path / "trace_info.yaml", data)
    all_metadata = {"mlflow.trace_schema.version": str(schema), **(metadata or {})}
    if source_run_id is not None:
        all_metadata["mlflow.sourceRun"] = source_run_id
    write_values(path / "request_metadata", all_metadata)
    write_values(
        path / "tags",
        {
            "mlflow.artifactLocation": f"file:///home/ana/mlruns/{exp}/traces/{trace_id}/artifacts",
            "mlflow.traceName": "trace",
            **(tags or {}),
        },
    )
    for assessment_id, assessment in (assessments or {}).items():
        write_yaml(path / "assessments" / f"{assessment_id}.yaml", assessment)
    holder = path if artifact_root is None else artifact_root / exp / "traces" / trace_id
    content = json.dumps({"spans": spans}).encode() if traces_json is None else traces_json
    write_values(holder / "artifacts", {"traces.json": content})
    return path
