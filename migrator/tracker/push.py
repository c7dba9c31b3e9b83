"""Sends what was written to a local database on to a server, through MLflow's client.

Traces keep their ids, times and spans. Runs keep their times and contents; their ids are the
server's, because MLflow's API has no say in them, and the traces that belong to a run follow it.
What is there already is left alone, so a push that was interrupted can be made again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracing.client import TracingClient

from migrator import conventions as conv
from migrator.errors import SourceError, TargetError
from migrator.tracker.delivery import Place, why_silent

log = logging.getLogger("migrator.tracker")

PAGE = 100
BATCH = 500  # metrics, params or tags a call; the server takes 1,000 in all, 100 params and tags
PUSHED_RUN = "migrator.pushed_run_id"  # tag on a run: its id in the database it came from
# Tags that say where a trace's files are: the server's are its own.
PLACES = (conv.ARTIFACT_LOCATION, conv.SPANS_LOCATION)


@dataclass(slots=True)
class Pushed:
    """What became of a push."""

    runs: int = 0
    traces: int = 0
    there_already: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, int]:
        """Convert to a dictionary, for machines."""
        return asdict(self)


def push(source: str, target: str, *, limit_s: float = 3.0) -> Pushed:
    """Copy runs and traces of every experiment of ``source`` (a database) to ``target``.

    Raises ``SourceError`` for a source that isn't a database that is there, ``TargetError`` for a
    server that doesn't answer within ``limit_s``.
    """
    _check(source, target, limit_s)
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run
    here, there = MlflowClient(source), MlflowClient(target)
    place, pushed = Place(target), Pushed()
    for experiment in here.search_experiments(view_type=ViewType.ACTIVE_ONLY):
        runs = list(_runs(here, experiment.experiment_id))
        traces = _trace_ids(here, experiment.experiment_id)
        if not runs and not traces:
            continue
        target_id = place.experiment_id(experiment.name)
        names = {
            run.data.tags[PUSHED_RUN]: run.info.run_id
            for run in _runs(there, target_id)
            if PUSHED_RUN in run.data.tags
        }
        # Parents were created before their children, so their new ids are known in time.
        for run in sorted(runs, key=lambda run: (run.info.start_time or 0, run.info.run_id)):
            if run.info.run_id in names:
                pushed.there_already += 1
                continue
            with _counting(pushed, f"run {run.info.run_id}") as ok:
                names[run.info.run_id] = _push_run(here, there, target_id, run, names)
                pushed.runs += ok()
        known = set(_trace_ids(there, target_id))
        for trace_id in traces:
            if trace_id in known:
                pushed.there_already += 1
                continue
            with _counting(pushed, f"trace {trace_id}") as ok:
                trace = TracingClient(source).get_trace(trace_id)
                for key in PLACES:
                    trace.info.tags.pop(key, None)
                run_id = trace.info.trace_metadata.get(conv.SOURCE_RUN)
                if run_id in names:
                    trace.info.trace_metadata[conv.SOURCE_RUN] = names[run_id]
                place.write(experiment.name, trace)
                pushed.traces += ok()
    return pushed


class _counting:
    """A context in which what MLflow refuses is one failure, said and counted."""

    def __init__(self, pushed: Pushed, what: str) -> None:
        self._pushed = pushed
        self._what = what

    def __enter__(self) -> Callable[[], int]:
        return lambda: 1

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, MlflowException | OSError):
            return False
        self._pushed.failed += 1
        log.warning("%s was not sent: %s", self._what, str(error).partition("\n")[0])
        return True


def _check(source: str, target: str, limit_s: float) -> None:
    if not source.startswith("sqlite:"):
        raise SourceError(
            f"{source} is not a SQLite database.", todo="Give one, such as sqlite:///mlflow.db."
        )
    path = Path(source.removeprefix("sqlite:///"))
    if not path.is_file():
        raise SourceError(f"{path} isn't there.", todo="Give the database that the tracker named.")
    if source == target:
        raise TargetError("Source and target are the same database.")
    if Place(target).is_server and (reason := why_silent(target, limit_s)):
        raise TargetError(f"{target} can't take traces: {reason}.", todo="Nothing was sent.")


def _runs(client: MlflowClient, experiment_id: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], run_view_type=ViewType.ACTIVE_ONLY, max_results=PAGE, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _trace_ids(client: MlflowClient, experiment_id: str) -> list[str]:
    found: list[str] = []
    token = None
    while True:
        page = client.search_traces(
            locations=[experiment_id], max_results=PAGE, page_token=token, include_spans=False,
            order_by=["timestamp_ms ASC"],
        )  # fmt: skip
        found += [trace.info.trace_id for trace in page]
        token = page.token
        if not token:
            return found


def _push_run(
    here: MlflowClient, there: MlflowClient, experiment_id: str, run: Any, names: dict[str, str]
) -> str:
    """Copy a run; return its id at the target."""
    tags = dict(run.data.tags)
    parent = tags.get(conv.PARENT_RUN_ID)
    if parent in names:
        tags[conv.PARENT_RUN_ID] = names[parent]
    created = there.create_run(
        experiment_id, start_time=run.info.start_time, run_name=run.info.run_name
    )
    run_id: str = created.info.run_id
    for key, value in sorted(run.data.params.items()):
        there.log_batch(run_id, params=[Param(key, value)])
    points = [
        Metric(point.key, point.value, point.timestamp, point.step)
        for key in sorted(run.data.metrics)
        for point in here.get_metric_history(run.info.run_id, key)
    ]
    for start in range(0, len(points), BATCH):
        there.log_batch(run_id, metrics=points[start : start + BATCH])
    folder = _local(run.info.artifact_uri)
    if folder is not None and any(folder.iterdir()):
        there.log_artifacts(run_id, str(folder))
    there.set_terminated(run_id, status=run.info.status, end_time=run.info.end_time)
    # The mark comes last: a run without it was cut off, and is sent again.
    there.log_batch(run_id, tags=[RunTag(key, value) for key, value in sorted(tags.items())])
    there.set_tag(run_id, PUSHED_RUN, run.info.run_id)
    return run_id


def _local(uri: str | None) -> Path | None:
    if not uri or "://" in uri.replace("file://", "", 1):
        return None
    path = Path(url2pathname(urlsplit(uri).path)) if uri.startswith("file:") else Path(uri)
    return path if path.is_dir() else None
