"""Trackers for tests: throw-away databases, and MLflow's process-wide state put back afterwards."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import mlflow
import mlflow.tracking.fluent
from mlflow import MlflowClient

from migrator.tracker import MLFlowTracker

KEPT = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
EXPERIMENT = "configurable_agents"
_on_databases: list[MLFlowTracker] = []  # of the test that runs


@lru_cache(maxsize=1)
def _template() -> Path:
    """An empty database of the installed MLflow. Building one takes seconds; copying, none."""
    folder = Path(tempfile.mkdtemp(prefix="tracker-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


def database(folder: Path, name: str = "new.db") -> str:
    """Make an empty database in ``folder`` and return its URI."""
    shutil.copy(_template(), folder / name)
    return f"sqlite:///{folder / name}"


@contextmanager
def restored() -> Iterator[None]:
    """Put MLflow's tracking URI, active experiment and tracing back as they were.

    Before that, what trackers still write arrives: their databases go with the test's directory.
    """
    kept = {key: os.environ.get(key) for key in KEPT}
    uri = mlflow.get_tracking_uri() if mlflow.tracking.is_tracking_uri_set() else None
    try:
        yield
    finally:
        while _on_databases:
            _on_databases.pop().flush(60)
        mlflow.set_tracking_uri(uri)  # builds tracing anew, without our exporter
        mlflow.tracing.reset()
        mlflow.tracking.fluent._active_experiment_id = None
        for key, value in kept.items():
            os.environ.pop(key, None) if value is None else os.environ.update({key: value})


def workflow(name: str = "article_writer", **llm: Any) -> dict[str, Any]:
    """Return what a workflow's configuration gives the tracker."""
    return {
        "flow": {"name": name, "version": "1.0.0"},
        "schema_version": "1.0",
        "config": {
            "llm": {"provider": "google", "model": "gemini-1.5-flash", "temperature": 0.7, **llm}
        },
        "nodes": ["research", "write", "edit"],
    }


def tracker(folder: Path, name: str = "article_writer", **settings: Any) -> MLFlowTracker:
    """Return an enabled tracker on a database in ``folder``, which is made if it isn't there."""
    uri = f"sqlite:///{folder / 'new.db'}"
    if "tracking_uri" not in settings and not (folder / "new.db").exists():
        database(folder)
    made = MLFlowTracker({"enabled": True, "tracking_uri": uri, **settings}, workflow(name))
    if "tracking_uri" not in settings:
        _on_databases.append(made)
    return made


def traces(tracker: MLFlowTracker) -> list[Any]:
    """Return all traces of the tracker's experiment, the oldest first, with their spans."""
    assert tracker.flush(60)
    status = tracker.status()
    assert status.tracking_uri is not None
    return stored(status.tracking_uri, tracker.config.experiment_name)


def stored(uri: str, experiment: str = EXPERIMENT) -> list[Any]:
    """Return all traces of an experiment in a database, the oldest first, with their spans."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    return sorted(
        client.search_traces(locations=[found.experiment_id], max_results=500), key=_began
    )


def _began(trace: Any) -> int:
    """The start in nanoseconds: MLflow's order leaves open which of one millisecond is first."""
    starts: list[int] = [span.start_time_ns for span in trace.data.spans]
    return min(starts, default=int(trace.info.timestamp_ms) * 1_000_000)


def only(tracker: MLFlowTracker) -> Any:
    """Return the one trace of the tracker's experiment."""
    found = traces(tracker)
    assert len(found) == 1, [trace.info.trace_id for trace in found]
    return found[0]


def spans(trace: Any) -> dict[str, Any]:
    """Return a trace's spans by name, each name once."""
    names = [span.name for span in trace.data.spans]
    assert len(set(names)) == len(names), names
    return {span.name: span for span in trace.data.spans}


def parent(trace: Any, name: str) -> str | None:
    """Return the name of a span's parent."""
    by_id = {span.span_id: span.name for span in trace.data.spans}
    found: str | None = by_id.get(spans(trace)[name].parent_id)
    return found
