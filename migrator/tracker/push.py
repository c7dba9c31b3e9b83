"""Sends what was written to a local database on to a server, through MLflow's client.

Traces keep their ids, times and spans. Runs keep their times and contents; their ids are the
server's, because MLflow's API has no say in them, and the traces that belong to a run follow it.
What is there already is left alone, so a push that was interrupted can be made again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import _get_latest_schema_revision
from mlflow.tracing.client import TracingClient
from mlflow.version import VERSION
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from migrator import addresses
from migrator import conventions as conv
from migrator.counting import counted
from migrator.credentials import masked
from migrator.errors import SourceError, TargetError
from migrator.tracker.delivery import Place, why_silent

log = logging.getLogger("migrator.tracker")

_SOURCE = "Give the SQLite database that the tracker named, such as sqlite:///mlflow.db."
_TARGET = (
    "Give a running server's address, such as http://localhost:5000. To push into a database, "
    "start a server on it: mlflow server --backend-store-uri URI"
)
_SQLITE = b"SQLite format 3\0"
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

    @property
    def sent(self) -> str:
        """What was sent, such as ``2 traces and 1 run``."""
        traces = counted(self.traces, "trace")
        runs = counted(self.runs, "run")
        return f"{traces} and {runs}"

    def as_dict(self) -> dict[str, int]:
        """Return the counts, for machines."""
        return asdict(self)


def push(source: str, target: str, *, limit_s: float = 3.0) -> Pushed:
    """Copy runs and traces of every experiment of ``source``, a SQLite file, to a server.

    Raises ``SourceError`` for a source that is not a database of the installed MLflow,
    ``TargetError`` for a server that doesn't answer within ``limit_s``, or not any more, and
    KeyboardInterrupt; the last two say what was sent by then.
    """
    uri = _source_uri(source)
    _check_target(target, limit_s)
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run
    sender = _Sender(uri, target, limit_s)
    try:
        for experiment in sender.experiments():
            sender.send(experiment)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"Interrupted. {sender.so_far()}") from interrupt
    except (MlflowException, SQLAlchemyError, OSError) as error:  # one item's own are counted
        if damage := _damage(error):
            raise SourceError(f"{uri} can't be read: {damage}. {sender.so_far()}") from None
        raise sender.lost(_first_line(error)) from error
    return sender.pushed


def _damage(error: BaseException) -> str:
    """The database driver's own words, when a damaged source caused the error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, SQLAlchemyError):
        cause = cause.__cause__
    if cause is None:
        return ""
    return str(getattr(cause, "orig", None) or cause).partition("\n")[0]


class _Sender:
    """Sends what one database holds to one server, and knows how far it came."""

    def __init__(self, source: str, target: str, limit_s: float) -> None:
        self.pushed = Pushed()
        self._source = source
        self._here, self._there = MlflowClient(source), MlflowClient(target)
        self._place = Place(target)
        self._limit_s = limit_s
        self._unfinished: str | None = None  # id at the server of a run that is being sent

    def experiments(self) -> list[Any]:
        """List the experiments of the source. Raises SourceError where MLflow can't read it."""
        try:
            return list(
                _pages(
                    lambda token: self._here.search_experiments(
                        view_type=ViewType.ACTIVE_ONLY, max_results=PAGE, page_token=token
                    )
                )
            )
        except (MlflowException, SQLAlchemyError) as error:
            raise SourceError(f"{self._source} can't be read: {_first_line(error)}.") from error

    def send(self, experiment: Any) -> None:
        """Send the runs and traces of an experiment that are not at the server yet."""
        runs = list(_runs(self._here, experiment.experiment_id))
        traces = _trace_ids(self._here, experiment.experiment_id)
        if not runs and not traces:
            return
        target_id = self._place.experiment_id(experiment.name)
        names = {
            run.data.tags[PUSHED_RUN]: run.info.run_id
            for run in _runs(self._there, target_id)
            if PUSHED_RUN in run.data.tags
        }
        # Parents were created before their children, so their new ids are known in time.
        for run in sorted(runs, key=lambda run: (run.info.start_time or 0, run.info.run_id)):
            if run.info.run_id in names:
                self.pushed.there_already += 1
                continue
            with self._counting(f"run {run.info.run_id}"):
                names[run.info.run_id] = self._send_run(target_id, run, names)
                self.pushed.runs += 1
        known = set(_trace_ids(self._there, target_id))
        for trace_id in traces:
            if trace_id in known:
                self.pushed.there_already += 1
                continue
            with self._counting(f"trace {trace_id}"):
                self._send_trace(experiment.name, trace_id, names)
                self.pushed.traces += 1

    def so_far(self) -> str:
        """Sentences for messages: what was sent, and how to send the rest."""
        unfinished = ""
        if self._unfinished is not None:
            unfinished = (
                f" Run {self._unfinished} is there without all it holds, and can be deleted."
            )
        return f"{self.pushed.sent} had been sent by then.{unfinished} Push again for the rest."

    def lost(self, why: str) -> TargetError:
        """Return the error that ends a push midway."""
        return TargetError(f"{masked(self._place.uri)}: {why}. {self.so_far()}")

    @contextlib.contextmanager
    def _counting(self, what: str) -> Iterator[None]:
        """Count what MLflow refuses as one failure. Raises TargetError when the server is gone."""
        try:
            yield
        except (MlflowException, OSError) as error:
            if why := why_silent(self._place.uri, self._limit_s):
                raise self.lost(why) from error
            self.pushed.failed += 1
            log.warning("%s was not sent: %s", what, _first_line(error))

    def _send_trace(self, experiment: str, trace_id: str, names: dict[str, str]) -> None:
        trace = TracingClient(self._source).get_trace(trace_id)
        for key in PLACES:
            trace.info.tags.pop(key, None)
        run_id = trace.info.trace_metadata.get(conv.SOURCE_RUN)
        if run_id in names:
            trace.info.trace_metadata[conv.SOURCE_RUN] = names[run_id]
        self._place.write(experiment, trace)

    def _send_run(self, experiment_id: str, run: Any, names: dict[str, str]) -> str:
        """Copy a run; return its id at the server."""
        here, there = self._here, self._there
        tags = dict(run.data.tags)
        parent = tags.get(conv.PARENT_RUN_ID)
        if parent in names:
            tags[conv.PARENT_RUN_ID] = names[parent]
        created = there.create_run(
            experiment_id, start_time=run.info.start_time, run_name=run.info.run_name
        )
        run_id: str = created.info.run_id
        self._unfinished = run_id
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
        self._unfinished = None
        return run_id


def _source_uri(source: str) -> str:
    """Return the URI of the SQLite file that a user means. Raises SourceError for anything else."""
    is_uri = source.startswith("sqlite:///")
    if not is_uri and re.match(r"[A-Za-z][\w+.-]+:", source):
        raise SourceError(f"{masked(source)} is not a SQLite file.", todo=_SOURCE)
    path = Path(make_url(source).database or "" if is_uri else source)
    if path.is_dir():
        raise SourceError(f"{path} is a directory.", todo=_SOURCE)
    if not path.is_file():
        raise SourceError(f"{path} isn't there.", todo=_SOURCE)
    try:
        with path.open("rb") as file:
            is_sqlite = file.read(len(_SQLITE)) == _SQLITE
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}.") from error
    if not is_sqlite:
        raise SourceError(f"{path} is not a SQLite database.", todo=_SOURCE)
    uri = source if is_uri else str(URL.create("sqlite", database=source))
    # MLflow would make its tables in it, or upgrade them without a backup.
    if _revision(path) != _get_latest_schema_revision():
        raise SourceError(
            f"{path} has the schema of another MLflow than the installed {VERSION}.",
            todo=f"Upgrade it first: mlflow-migrate upgrade {uri}",
        )
    return uri


def _revision(path: Path) -> str:
    """Read the schema revision of MLflow's database. Raises SourceError for another's."""
    try:
        where = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(where, uri=True)) as db:
            names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
            if not {"alembic_version", "experiments"} <= names:
                raise SourceError(f"{path} is a SQLite database, but not MLflow's.", todo=_SOURCE)
            return str(db.execute("SELECT max(version_num) FROM alembic_version").fetchone()[0])
    except sqlite3.Error as error:
        raise SourceError(f"{path} can't be read: {error}.", todo=_SOURCE) from error


def _check_target(target: str, limit_s: float) -> None:
    """Raise TargetError unless a server answers at the address."""
    addresses.refuse_mistaken(target, TargetError, _TARGET)
    if not addresses.is_http(target):
        shown = masked(target)
        raise TargetError(
            f"{shown} is not the address of a server, and push sends to servers only.",
            todo=_TARGET,
        )
    if not addresses.is_server_url(target):
        raise TargetError(f"{masked(target)} is not the address of a server.", todo=_TARGET)
    if reason := why_silent(target, limit_s):
        raise TargetError(
            f"{masked(target)} can't take traces: {reason}.", todo="Nothing was sent."
        )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def _runs(client: MlflowClient, experiment_id: str) -> Iterator[Any]:
    return _pages(
        lambda token: client.search_runs(
            [experiment_id], run_view_type=ViewType.ACTIVE_ONLY, max_results=PAGE, page_token=token
        )
    )


def _trace_ids(client: MlflowClient, experiment_id: str) -> list[str]:
    traces = _pages(
        lambda token: client.search_traces(
            locations=[experiment_id], max_results=PAGE, page_token=token, include_spans=False,
            order_by=["timestamp_ms ASC"],
        )
    )  # fmt: skip
    return [trace.info.trace_id for trace in traces]


def _pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def _local(uri: str | None) -> Path | None:
    if not uri or "://" in uri.replace("file://", "", 1):
        return None
    path = Path(url2pathname(urlsplit(uri).path)) if uri.startswith("file:") else Path(uri)
    return path if path.is_dir() else None
