"""Where traces go: to a server or a database, and to a local database when that is gone.

A trace is written whole, when its root has ended, in a thread of its own (or in the foreground):
nothing is written while a node runs, so a node costs no time, and a trace is either at the server
or in the fallback. What an upstream exporter would drop (MLflow 3.9 logs a failed export and goes
on) is kept here.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import mlflow
from mlflow.entities import TraceLocation
from mlflow.exceptions import MlflowException
from mlflow.tracing.client import TracingClient
from mlflow.tracing.export.utils import try_link_prompts_to_trace
from mlflow.tracing.utils import add_size_stats_to_trace_metadata
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from migrator import addresses, encoding
from migrator import conventions as conv
from migrator.tracker.costs import totals
from migrator.tracker.finishing import Calls, Finisher, write_totals
from migrator.tracker.guard import Guard

T = TypeVar("T")
PROBE = "/api/2.0/mlflow/experiments/search"
SPANS_A_CALL = 500
PATIENCE = 20  # times server_timeout_s that a server may take which still answers probes


class ServerTimeout(Exception):
    """A server that doesn't do what it is asked within its time."""


# How a place says that it can't take something. Anything else is a defect of ours.
REFUSALS = (MlflowException, OSError, SQLAlchemyError, ServerTimeout)


class BackgroundCall(Generic[T]):
    """A call in a daemon thread: one that may never come back must not keep anybody waiting."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._done = threading.Event()
        self._result: T
        self._error: Exception | None = None
        threading.Thread(target=self._run, args=(work,), name="tracker-call", daemon=True).start()

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._result = work()
        except Exception as error:  # noqa: BLE001  carried to the caller's thread and raised there
            self._error = error
        finally:
            self._done.set()

    def wait(self, seconds: float) -> bool:
        """Wait. True if the call is over."""
        return self._done.wait(seconds)

    def result(self) -> T:
        """Get the call's result, or raise the error that it raised."""
        if self._error is not None:
            raise self._error
        return self._result


@dataclass(slots=True)
class Place:
    """A server or database, and the experiments found or made in it, by name."""

    uri: str
    experiments: dict[str, str] = field(default_factory=dict)

    @property
    def is_server(self) -> bool:
        """Whether it is reached over a network."""
        return addresses.is_http(self.uri)

    def experiment_id(self, name: str) -> str:
        """Get the id of the experiment, which is made if it isn't there."""
        if name not in self.experiments:
            client = MlflowClient(self.uri)
            found = client.get_experiment_by_name(name)
            self.experiments[name] = (
                found.experiment_id if found is not None else client.create_experiment(name)
            )
        return self.experiments[name]

    def write(
        self,
        experiment: str | None,
        trace: Any,
        prompts: Sequence[Any] = (),
        *,
        shared_by: Finisher | None = None,
    ) -> None:
        """Write a whole trace, to the experiment of that name; without one it stays in its own.

        A trace that is there already is written over. With ``shared_by`` other processes have
        written spans of it: their tokens and dollars count as well.

        Spans first: the store adds the tokens of spans to a trace's, and ``start_trace`` then sets
        the right sum (MLflow 3.9, ``SqlAlchemyStore.log_spans``).
        """
        client = TracingClient(self.uri)
        location = self.experiment_id(experiment) if experiment else trace.info.experiment_id
        trace.info.trace_location = TraceLocation.from_experiment_id(location)
        add_size_stats_to_trace_metadata(trace)
        spans = trace.data.spans
        try:
            for start in range(0, len(spans), SPANS_A_CALL):
                client.log_spans(location, spans[start : start + SPANS_A_CALL])
        except NotImplementedError:  # a server on a file store: spans go to the artifacts, below
            pass
        if shared_by is not None:
            self._count_stored(client, trace.info, shared_by)
        info = client.start_trace(trace.info)
        if info.tags.get(conv.SPANS_LOCATION) != conv.SPANS_IN_DATABASE:
            client._upload_trace_data(info, trace.data)
        if prompts:
            try_link_prompts_to_trace(
                client=client, trace_id=info.trace_id, prompts=prompts, synchronous=True
            )

    def _count_stored(self, client: TracingClient, info: Any, finisher: Finisher) -> None:
        """Set a trace's totals to those of all its spans that are stored by now."""
        spans = client.get_trace(info.trace_id).data.spans
        separated = finisher.separated(spans)
        if separated:
            client.log_spans(info.experiment_id, separated)
            by_id = {span.span_id: span for span in [*spans, *separated]}
            spans = list(by_id.values())
        write_totals(info, totals(spans))
        sizes = json.loads(info.trace_metadata.get(conv.SIZE_STATS, "{}"))
        info.trace_metadata[conv.SIZE_STATS] = encoding.encode({**sizes, "num_spans": len(spans)})

    def write_spans(self, experiment: str, spans: Sequence[Any]) -> None:
        """Write spans of a trace whose root is in another process."""
        TracingClient(self.uri).log_spans(self.experiment_id(experiment), list(spans))

    def add_late_spans(self, spans: Sequence[Any], finisher: Finisher) -> None:
        """Write spans that ended after their trace was written, and count them in."""
        client = TracingClient(self.uri)
        info = client.get_trace(spans[0].trace_id).info
        client.log_spans(info.experiment_id, list(spans))
        self._count_stored(client, info, finisher)
        client.start_trace(info)


def why_silent(uri: str, limit_s: float) -> str | None:
    """Ask a server for one experiment. Says why it can't take traces; None if it answers.

    The question needs a login where the server wants one, and a database that works. No retries;
    at most ``limit_s``, name resolution included.
    """

    def ask() -> str | None:
        response = http_request(
            get_default_host_creds(uri), PROBE, "POST", max_retries=0, timeout=limit_s,
            raise_on_status=False, json={"max_results": 1},
        )  # fmt: skip
        code = int(response.status_code)
        if code in (401, 403):
            return f"it refuses the login ({code})"
        if code >= 400:
            return f"it answers {code}"
        try:
            return (
                None
                if isinstance(response.json(), dict)
                else "it answers, but is not an MLflow server"
            )
        except ValueError:
            return "it answers, but is not an MLflow server"

    call = BackgroundCall(ask)
    if not call.wait(limit_s):
        return f"it doesn't answer within {limit_s:g} s"
    try:
        return call.result()
    except (MlflowException, OSError) as error:  # requests' errors are OSErrors
        text = str(error).lower()
        if "refused" in text:
            return "nothing listens there (connection refused)"
        if "timed out" in text or "timeout" in text:
            return f"it doesn't answer within {limit_s:g} s"
        return f"it can't be reached ({type(error).__name__}: {str(error).splitlines()[0][:200]})"


@dataclass(frozen=True, slots=True)
class Parcel:
    """A trace on the way, or spans of a trace that is written elsewhere or was written before."""

    experiment: str
    finisher: Finisher
    calls: Calls
    trace: Any = None
    prompts: tuple[Any, ...] = ()
    spans: tuple[Any, ...] = ()
    keeps_experiment: bool = False  # opened by nobody's tracker; the fallback has other experiments
    is_shared: bool = False  # other processes write spans of it as well
    is_late: bool = False  # spans of a trace that was written before they ended

    @property
    def trace_id(self) -> str:
        """The id of the trace that it holds, or that its spans belong to."""
        found: str = self.spans[0].trace_id if self.trace is None else self.trace.info.trace_id
        return found

    def finished(self) -> Parcel:
        """Complete the trace or the spans: calls, totals, masks."""
        if self.trace is not None:
            return replace(self, trace=self.finisher.trace(self.trace, self.calls))
        return replace(self, spans=tuple(self.finisher.spans(self.spans, self.calls)))

    def write(self, place: Place, *, is_fallback: bool = False) -> None:
        """Write it."""
        if self.trace is not None:
            keeps = self.keeps_experiment and not is_fallback
            experiment = None if keeps else self.experiment
            shared_by = self.finisher if self.is_shared else None
            place.write(experiment, self.trace, self.prompts, shared_by=shared_by)
        elif self.is_late:
            place.add_late_spans(self.spans, self.finisher)
        else:
            place.write_spans(self.experiment, self.spans)


class Delivery:
    """Writes parcels to a place, and to the fallback when that place is gone.

    ``SimpleQueue`` because its ``put`` may be called from a signal handler.
    """

    def __init__(self, uri: str, fallback_uri: str, limit_s: float, in_background: bool) -> None:
        self.place = Place(uri)
        self.fallback = Place(fallback_uri)
        self.fallen_back: str | None = None  # why
        self.delivered = 0
        self.in_fallback = 0
        self.lost = 0
        self.guard = Guard()
        self.writing = threading.RLock()  # held while a parcel is written, and during a fork
        self._limit_s = limit_s
        self._in_background = in_background
        self._fallback_ids: set[str] = set()
        self._says_fork = False
        self._start_queue()
        atexit.register(self.flush)

    def _start_queue(self) -> None:
        self._queue: queue.SimpleQueue[Parcel | threading.Event] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._lock = threading.RLock()  # reentrant: a signal handler may put, too
        self._waiting = 0

    def after_fork(self) -> None:
        """Start anew in a forked child: what is queued is the parent's, and so is the thread.

        A child may end without running any handler of ours (``os._exit``), so it writes directly.
        """
        self.writing = threading.RLock()
        self.guard.after_fork()
        self._start_queue()
        if self._in_background:
            self._in_background = False
            self._says_fork = True

    @property
    def current(self) -> Place:
        """Where traces go now."""
        return self.fallback if self.fallen_back else self.place

    def place_of(self, trace_id: str) -> Place:
        """Find where a trace was written, or would be."""
        if trace_id in self._fallback_ids or (self.fallen_back and not self.delivered):
            return self.fallback
        return self.place

    @property
    def pending(self) -> int:
        """How many parcels are not written yet."""
        return self._waiting

    def connect(self, experiment: str) -> str:
        """Find or make the experiment and make it MLflow's active one; return its id.

        At a server within the limit. Falls back where that fails; raises what the fallback raises
        when it can't be used either.
        """
        if not self.fallen_back:
            try:
                found = self._within(lambda: self.place.experiment_id(experiment))
                mlflow.set_tracking_uri(self.place.uri)
                self._within(lambda: mlflow.set_experiment(experiment_id=found))
                return found
            except REFUSALS as error:
                if self.place.uri == self.fallback.uri:
                    raise
                self._fall_back(_cause(error))
        found = self.fallback.experiment_id(experiment)
        mlflow.set_tracking_uri(self.fallback.uri)
        mlflow.set_experiment(experiment_id=found)
        return found

    def put(self, parcel: Parcel, *, at_once: bool = False) -> None:
        """Write a parcel in the background, or ``at_once`` where somebody waits for it."""
        if self._says_fork:
            self._says_fork = False
            self.guard.say(
                "fork",
                "Tracking: process %d was forked; it writes its traces directly, not in the "
                "background, so that none is lost when it ends.",
                os.getpid(),
            )
        if at_once or not self._in_background:
            self._deliver(parcel)
            return
        with self._lock:
            self._waiting += 1
        self._queue.put(parcel)
        if self._worker is None or not self._worker.is_alive():
            with self._lock:
                if self._worker is None or not self._worker.is_alive():
                    self._worker = threading.Thread(
                        target=self._work, name="tracker-delivery", daemon=True
                    )
                    self._worker.start()

    def flush(self, seconds: float | None = None) -> bool:
        """Wait until all that was put is written. False if ``seconds`` weren't enough."""
        if self._worker is None or not self._worker.is_alive():
            return True
        done = threading.Event()
        self._queue.put(done)
        return done.wait(seconds)

    def _work(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            self._deliver(item)
            with self._lock:
                self._waiting -= 1

    def _deliver(self, parcel: Parcel) -> None:
        with self.guard.during("write a trace"), self.writing:
            try:
                finished = parcel.finished()
                if self._goes_to_place(finished) and self._accepted(finished):
                    self.delivered += finished.trace is not None
                    return
                finished.write(self.fallback, is_fallback=True)
            except BaseException:
                self.lost += 1
                raise
            if finished.trace is not None:
                self.in_fallback += 1
                self._fallback_ids.add(finished.trace_id)

    def _goes_to_place(self, parcel: Parcel) -> bool:
        """Late spans go where their trace went; all else to the place that takes traces now."""
        if parcel.is_late:
            return parcel.trace_id not in self._fallback_ids
        return not self.fallen_back

    def _accepted(self, parcel: Parcel) -> bool:
        """Write to the configured place. False if it didn't take it; falls back if it is gone.

        Raises what the place raises when it is the fallback itself.
        """
        try:
            self._within(lambda: parcel.write(self.place))
        except REFUSALS as error:
            if self.place.uri == self.fallback.uri:
                raise
            gone = why_silent(self.place.uri, self._limit_s) if self.place.is_server else None
            if gone or not self.place.is_server:
                self._fall_back(gone or _cause(error))
            else:  # the server is well, and refuses this one
                self.guard.say(
                    "refused", "Tracking: %s refuses a trace (%s); it goes to %s.",
                    self.place.uri, _cause(error), self.fallback.uri,
                )  # fmt: skip
            return False
        return True

    def _within(self, work: Callable[[], T]) -> T:
        """Do ``work``; at a server as long as it answers. Raises ``ServerTimeout``."""
        if not self.place.is_server:
            return work()
        if reason := why_silent(self.place.uri, self._limit_s):
            raise ServerTimeout(reason)
        call = BackgroundCall(work)
        for _ in range(PATIENCE):
            if call.wait(self._limit_s):
                return call.result()
            if reason := why_silent(self.place.uri, self._limit_s):
                raise ServerTimeout(reason)
        raise ServerTimeout(f"it took more than {PATIENCE * self._limit_s:g} s")

    def _fall_back(self, reason: str) -> None:
        self.fallen_back = reason
        self.guard.say(
            "fallback",
            "Tracking: %s can't take traces: %s. They go to %s now; `mlflow-migrate push %s --to "
            "%s` sends them on.",
            self.place.uri, reason, self.fallback.uri, self.fallback.uri, self.place.uri,
        )  # fmt: skip


_deliveries: dict[tuple[str, str, float, bool], Delivery] = {}
_deliveries_lock = threading.Lock()


def delivery_to(uri: str, fallback_uri: str, limit_s: float, in_background: bool) -> Delivery:
    """Get the delivery to a place, one in a process: applications make many trackers.

    This way one thread writes to it, and a server that is gone is waited for, and warned of, once.
    A relative path is meant from the current directory, also after the process leaves it.
    """
    key = (_absolute(uri), _absolute(fallback_uri), limit_s, in_background)
    with _deliveries_lock:
        if key not in _deliveries:
            _deliveries[key] = Delivery(*key)
        return _deliveries[key]


def _absolute(uri: str) -> str:
    """Name a SQLite file by its whole path: MLflow keeps one open database for each URI."""
    if not uri.startswith("sqlite:"):
        return uri
    url = make_url(uri)
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        return uri
    whole = str(Path(url.database).absolute())
    return url.set(database=whole).render_as_string(hide_password=False)


def flush_all(seconds: float | None = None) -> None:
    """Wait until every delivery of the process has written what was put."""
    for delivery in all_deliveries():
        delivery.flush(seconds)


def all_deliveries() -> list[Delivery]:
    """List the deliveries of the process."""
    return list(_deliveries.values())


def _cause(error: Exception) -> str:
    return str(error).partition("\n")[0][:300] or type(error).__name__


def now_ms() -> int:
    """Read the clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
