"""Where traces go: to a server or a database, and to a local database while that is gone.

A trace is written whole, when its root has ended, in a thread of its own: nothing is written while
a node runs, so a node costs no time, and a trace is either at the server or in the fallback. What
an upstream exporter would drop (MLflow 3.9 logs a failed export and goes on) is kept here. A server
that is gone is asked again now and then, and gets what comes after it has returned.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import mlflow
from mlflow.environment_variables import MLFLOW_EXPERIMENT_ID
from mlflow.exceptions import RestException
from mlflow.tracing.trace_manager import InMemoryTraceManager
from mlflow.tracking import fluent
from sqlalchemy import make_url

from migrator.counting import counted
from migrator.trace_writer import Send, send_at_once
from migrator.tracker.finishing import Calls, Finisher
from migrator.tracker.guard import Guard
from migrator.tracker.in_flight import InFlight
from migrator.tracker.place import REFUSALS, BackgroundCall, Place, ServerTimeout, why_silent

T = TypeVar("T")
PATIENCE = 20  # times server_timeout_s that a server may take which still answers probes
AT_FIRST_S = 0.5  # a request that takes longer is reason to ask whether the server is there
RETRY_S = 5.0  # until a server that is gone is asked again; longer from time to time
LONGEST_RETRY_S = 300.0
NO_TRACE = "tr-00000000000000000000000000000000"

log = logging.getLogger("migrator.tracker")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A trace on the way, or an addition to one: late spans, feedback, spans of other processes."""

    experiment: str
    finisher: Finisher
    calls: Calls = field(default_factory=dict)
    trace: Any = None
    prompts: tuple[Any, ...] = ()
    spans: tuple[Any, ...] = ()
    assessment: Any = None
    keeps_experiment: bool = False  # opened by nobody's tracker; the fallback has other experiments
    is_shared: bool = False  # other processes write spans of it as well
    is_late: bool = False  # spans of a trace that was written before they ended
    is_unfinished: bool = False  # the trace is still open: it is written again when it ends
    open_spans: frozenset[str] = frozenset()  # ids; of an ended trace

    @property
    def trace_id(self) -> str:
        """The id of the trace that it holds, or adds to."""
        if self.trace is not None:
            found: str = self.trace.info.trace_id
        elif self.assessment is not None:
            found = self.assessment.trace_id
        else:
            found = self.spans[0].trace_id
        return found

    @property
    def is_addition(self) -> bool:
        """Whether it belongs to a trace that is somewhere already, and can only be added there."""
        return self.is_late or self.assessment is not None

    def finished(self) -> Parcel:
        """Complete the trace or the spans: calls, totals, masks."""
        if self.trace is not None:
            return replace(self, trace=self.finisher.trace(self.trace, self.calls))
        if self.assessment is not None:
            return self
        return replace(self, spans=tuple(self.finisher.spans(self.spans, self.calls)))

    def write(
        self, place: Place, send: Send = send_at_once, *, is_fallback: bool = False,
        is_there: bool = False,
    ) -> None:  # fmt: skip
        """Write it to a place; ``is_there`` is True if that has had an earlier form of it."""
        if self.trace is not None:
            keeps = self.keeps_experiment and not is_fallback
            place.write(
                None if keeps else self.experiment, self.trace, self.prompts, is_there=is_there,
                shared_by=self.finisher if self.is_shared else None, send=send,
            )  # fmt: skip
        elif self.assessment is not None:
            place.add_assessment(self.assessment, send)
        elif self.is_late:
            place.add_late_spans(self.spans, self.finisher, send)
        else:
            place.write_spans(self.experiment, self.spans, self.finisher, send)


_Item = Parcel | threading.Event  # an event is set when all before it is written


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Where a delivery writes, and how."""

    uri: str
    fallback_uri: str
    limit_s: float  # how long a server may keep a workflow waiting
    in_background: bool
    resend: bool = False  # what went to the fallback is sent on when the server is back


class Delivery:
    """Writes parcels to a place, and to the fallback while that place is gone.

    ``SimpleQueue`` because its ``put`` may be called from a signal handler.
    """

    def __init__(self, settings: DeliverySettings) -> None:
        self.place = Place(settings.uri)
        self.fallback = Place(settings.fallback_uri)
        self.fallen_back: str | None = None  # why
        self.delivered = 0
        self.in_fallback = 0
        self.lost = 0
        self.guard = Guard()
        self.writing = threading.RLock()  # held while a parcel is written, and during a fork
        self._limit_s = settings.limit_s
        self._in_flight = InFlight(
            settings.uri, settings.fallback_uri, longest_s=settings.limit_s * PATIENCE
        )
        self._in_background = settings.in_background
        self._resends = settings.resend
        self._is_child = False  # forked: writes directly, and within the limit
        self._in_fallback: dict[str, str] = {}  # trace id -> experiment, the oldest first
        self._unfinished: set[str] = set()  # traces that were written while they were open
        self._left_open: dict[str, frozenset[str]] = {}  # ended traces, and their open spans
        self._given_up: dict[str, BackgroundCall[Any]] = {}  # by trace: may still make a request
        self._held: list[Parcel] = []  # additions to traces of a place that is gone
        self._says_fork = False
        self._start_threads()
        atexit.register(self._at_exit)

    def _start_threads(self) -> None:
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._watch: threading.Thread | None = None
        self._lock = threading.RLock()  # reentrant: a signal handler may put, too
        self._waiting = 0

    def after_fork(self) -> None:
        """Start anew in a forked child: what is queued is the parent's, and so are the threads.

        A child may end without running any handler of ours (``os._exit``), so it writes directly,
        and what the server doesn't take in time goes to the fallback.
        """
        self.writing = threading.RLock()
        self.guard.after_fork()
        self._start_threads()
        self._held.clear()
        self._given_up.clear()
        self._in_fallback.clear()  # the parent sends those on
        self._unfinished.clear()
        self._left_open.clear()
        if self._in_background:
            self._in_background = False
            self._says_fork = True
        self._is_child = True

    # ------------------------------------------------------------------------------- questions
    @property
    def current(self) -> Place:
        """Where traces go now."""
        return self.fallback if self.fallen_back else self.place

    def place_of(self, trace_id: str) -> Place:
        """Find where a trace was written, or would be."""
        if trace_id in self._in_fallback or (self.fallen_back and not self.delivered):
            return self.fallback
        return self.place

    @property
    def pending(self) -> int:
        """How many parcels are not written yet."""
        return self._waiting + len(self._held)

    @property
    def unfinished(self) -> int:
        """How many traces were written while they, or a span in them, were open, and still are."""
        return len(self._unfinished) + len(self._left_open)

    # -------------------------------------------------------------------------------- the start
    def connect(self, experiment: str) -> str:
        """Find or make the experiment and make it MLflow's active one; return its id.

        At a server within the limit, in all. Falls back where that fails; raises what the fallback
        raises when it can't be used either.
        """
        with self.guard.during("write a trace that a killed process was sending"):
            self._take_over()
        if not self.fallen_back:
            try:
                return self._activate(self.place, self._experiment_in_time(experiment))
            except REFUSALS as error:
                if self.place.uri == self.fallback.uri:
                    raise
                self._fall_back(_cause(error))
        return self._activate(self.fallback, self.fallback.experiment_id(experiment))

    def _take_over(self) -> None:
        """Write what processes were sending when they were killed to the fallback."""
        for experiment, trace in self._in_flight.left_behind():
            trace_id = trace.info.trace_id
            self.fallback.complete(experiment, trace)
            if self.place.uri == self.fallback.uri:
                self.delivered += 1
                continue
            self.in_fallback += 1
            self._in_fallback[trace_id] = experiment
            log.warning(
                "Tracking: a process was killed while it sent trace %s. The trace is in %s; "
                "`mlflow-migrate push %s --to %s` completes what has arrived.",
                trace_id, self.fallback.uri, self.fallback.uri, self.place.uri,
            )  # fmt: skip
        if self.place.is_server and self._to_resend():
            self._run_watch()

    def _experiment_in_time(self, experiment: str) -> str:
        if not self.place.is_server:
            return self.place.experiment_id(experiment)
        until = time.monotonic() + self._limit_s
        if reason := why_silent(self.place.uri, self._limit_s):
            raise ServerTimeout(reason)
        call = BackgroundCall(partial(self.place.experiment_id, experiment))
        if not call.wait(max(0.0, until - time.monotonic())):
            call.abandon()
            raise ServerTimeout(f"it answers, but not within {self._limit_s:g} s in all")
        return call.result()

    @staticmethod
    def _activate(place: Place, experiment_id: str) -> str:
        """Do what ``mlflow.set_experiment`` does, without its requests."""
        mlflow.set_tracking_uri(place.uri)
        fluent._active_experiment_id = experiment_id
        MLFLOW_EXPERIMENT_ID.set(experiment_id)
        return experiment_id

    # --------------------------------------------------------------------------------- the queue
    def put(self, parcel: Parcel, *, at_once: bool = False) -> None:
        """Write a parcel in the background, or ``at_once`` where somebody waits for it.

        Without a background the caller waits, for a server at most the limit.
        """
        if self._says_fork:
            self._says_fork = False
            self.guard.say(
                "fork",
                "Tracking: process %d was forked; it writes its traces directly, not in the "
                "background, so that none is lost when it ends.",
                os.getpid(),
            )
        if (at_once or self._is_child) and not parcel.is_unfinished:
            self._deliver(parcel)
            return
        with self._lock:
            self._waiting += 1
        self._queue.put(parcel)
        self._run_worker()
        if not self._in_background and not parcel.is_unfinished:
            self.flush(self._limit_s if self.current.is_server else None)

    def _run_worker(self) -> None:
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

    def _at_exit(self) -> None:
        """Write what is left, and say what is not where it was to be."""
        self.flush()
        if self.fallen_back and (self._held or self._to_resend()):
            self._try_again()
        if not (self.lost or self.in_fallback or self._held):
            return
        log.warning(
            "Tracking ended: %s at %s, %s in %s (`mlflow-migrate push` sends them on), %d lost.",
            counted(self.delivered, "trace"), self.place.uri, counted(self.in_fallback, "trace"),
            self.fallback.uri, self.lost + len(self._held),
        )  # fmt: skip
        for parcel in self._held:
            log.warning("Lost with the server: %s", _words(parcel))

    # -------------------------------------------------------------------------------- delivering
    def _deliver(self, parcel: Parcel) -> None:
        with self.guard.during("write a trace"), self.writing:
            if parcel.is_unfinished and not _is_open(parcel.trace_id):
                return  # it has ended since, and is written whole
            try:
                parcel = parcel.finished()
                with self._in_flight.noted(parcel.experiment, parcel.trace):
                    self._write(parcel)
            except BaseException:
                self.lost += 1
                raise

    def _write(self, parcel: Parcel) -> None:
        """Write to the place, or to the fallback if that is gone or refuses it."""
        trace_id = parcel.trace_id
        is_there = trace_id in self._unfinished
        has_place = not (parcel.is_addition and trace_id in self._in_fallback)
        if has_place and not self.fallen_back:
            try:
                self._within(trace_id, partial(parcel.write, self.place, is_there=is_there))
            except REFUSALS as error:
                if self.place.uri == self.fallback.uri:
                    raise
                self._note_refusal(error)
                if parcel.is_addition and not self.fallen_back and not self.fallback.has(trace_id):
                    raise
            else:
                self._count(parcel, in_fallback=False)
                return
        if parcel.is_addition and has_place and not self.fallback.has(trace_id):
            self._held.append(parcel)
            return
        in_fallback = trace_id in self._in_fallback
        parcel.write(self.fallback, is_fallback=True, is_there=is_there and in_fallback)
        self._count(parcel, in_fallback=True)

    def _count(self, parcel: Parcel, *, in_fallback: bool) -> None:
        """Count a trace once, where its last form is."""
        trace_id = parcel.trace_id
        open_spans = parcel.open_spans
        if parcel.is_addition:
            ended = {span.span_id for span in parcel.spans}
            open_spans = self._left_open.get(trace_id, frozenset()) - ended
        self._left_open.pop(trace_id, None)
        if open_spans:
            self._left_open[trace_id] = open_spans
        if parcel.trace is None:
            return
        if trace_id in self._unfinished:  # counted when its first form was written
            if trace_id in self._in_fallback:
                self.in_fallback -= 1
            else:
                self.delivered -= 1
        self._unfinished.discard(trace_id)
        if parcel.is_unfinished:
            self._unfinished.add(trace_id)
        self._in_fallback.pop(trace_id, None)
        if in_fallback:
            self.in_fallback += 1
            self._in_fallback[trace_id] = parcel.experiment
        else:
            self.delivered += 1

    def _within(self, trace_id: str, work: Callable[[Send], T]) -> T:
        """Do ``work`` on a trace; at a server as long as it answers. Raises ``ServerTimeout``."""
        if not self.place.is_server:
            return work(send_at_once)
        seconds = self._limit_s if self._is_child else self._limit_s * PATIENCE
        until = time.monotonic() + seconds
        call = BackgroundCall(work)
        wait_s = min(AT_FIRST_S, self._limit_s)
        try:
            while not call.wait(min(wait_s, until - time.monotonic())):
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise ServerTimeout(f"it took more than {seconds:g} s")
                if reason := why_silent(self.place.uri, min(self._limit_s, left_s)):
                    raise ServerTimeout(reason)
                wait_s = self._limit_s
        finally:
            call.abandon()
            if not call.is_over:
                self._given_up[trace_id] = call
        return call.result()

    def _may_still_arrive(self, trace_id: str) -> bool:
        """Whether a request that was given up may arrive: MLflow makes one again for minutes.

        Spans that arrive after the trace was sent on would count twice.
        """
        call = self._given_up.get(trace_id)
        if call is not None and call.is_over:
            del self._given_up[trace_id]
            return False
        return call is not None

    # ------------------------------------------------------------------- a server that is gone
    def _note_refusal(self, error: Exception) -> None:
        """Fall back if the place is gone, and say so; a server that is well refuses this one."""
        reason: str | None = _cause(error)
        if self.place.is_server and not isinstance(error, ServerTimeout):
            reason = why_silent(self.place.uri, self._limit_s)
        if reason:
            self._fall_back(reason)
        else:
            self.guard.say(
                "refused", "Tracking: %s refuses a trace (%s); it goes to %s.",
                self.place.uri, _cause(error), self.fallback.uri,
            )  # fmt: skip

    def _fall_back(self, reason: str) -> None:
        self.fallen_back = reason
        self.guard.say(
            "fallback",
            "Tracking: %s can't take traces: %s. They go to %s now; `mlflow-migrate push %s --to "
            "%s` sends them on.",
            self.place.uri, reason, self.fallback.uri, self.fallback.uri, self.place.uri,
        )  # fmt: skip
        if self.place.is_server and not self._is_child:
            self._run_watch()

    def _run_watch(self) -> None:
        with self._lock:
            if self._watch is None or not self._watch.is_alive():
                self._watch = threading.Thread(
                    target=self._watch_server, name="tracker-watch", daemon=True
                )
                self._watch.start()

    def _watch_server(self) -> None:
        """Ask the server again, less and less often, until it is back and has what it lacked."""
        seconds = RETRY_S
        while self.fallen_back or self._to_resend():
            time.sleep(seconds)
            seconds = min(2 * seconds, LONGEST_RETRY_S)
            with self.guard.during("go back to the server"):
                self._try_again()

    def _try_again(self) -> None:
        """Go back to a server that answers again, and send it what it lacks, the oldest first."""
        if why_silent(self.place.uri, self._limit_s):
            return
        try:
            # Some answer a probe and nothing else.
            self._within(NO_TRACE, partial(self.place.has, NO_TRACE))
        except REFUSALS:
            return
        if self.fallen_back:
            self.fallen_back = None
            log.warning("Tracking: %s takes traces again.", self.place.uri)
        held, self._held = self._held, []
        for parcel in held:
            self._deliver(parcel)
        for trace_id in self._to_resend():
            if not self._may_still_arrive(trace_id) and not self._send_on(trace_id):
                return

    def _to_resend(self) -> list[str]:
        """List the ended traces that are to be sent on from the fallback, the oldest first."""
        if not self._resends:
            return []
        ids = list(self._in_fallback)
        return [trace_id for trace_id in ids if trace_id not in self._unfinished]

    def _send_on(self, trace_id: str) -> bool:
        """Send one trace on. False if the server is gone, or fails: the rest is tried later."""
        with self.writing:
            experiment = self._in_fallback[trace_id]
            try:
                sending = partial(self.fallback.send_on, experiment, trace_id, self.place)
                self._within(trace_id, sending)
            except REFUSALS as error:
                self._note_refusal(error)
                # One that is of the trace itself doesn't keep the others.
                return isinstance(error, RestException) and error.error_code != "INTERNAL_ERROR"
            del self._in_fallback[trace_id]
            self.in_fallback -= 1
            self.delivered += 1
            return True


def _is_open(trace_id: str) -> bool:
    with InMemoryTraceManager.get_instance().get_trace(trace_id) as trace:
        return trace is not None


def _words(parcel: Parcel) -> str:
    """Describe an addition that is lost, with the value of a feedback."""
    if parcel.assessment is None:
        return f"{counted(len(parcel.spans), 'span')} of trace {parcel.trace_id}"
    given = parcel.assessment
    return f"{given.name} = {given.value!r} of trace {parcel.trace_id}"


_deliveries: dict[DeliverySettings, Delivery] = {}
_deliveries_lock = threading.Lock()


def delivery_to(settings: DeliverySettings) -> Delivery:
    """Get the delivery to a place, one in a process: applications make many trackers.

    This way one thread writes to it, and a server that is gone is waited for, and warned of, once.
    A relative path is meant from the current directory, also after the process leaves it.
    """
    uri, fallback_uri = _absolute(settings.uri), _absolute(settings.fallback_uri)
    key = replace(settings, uri=uri, fallback_uri=fallback_uri)
    with _deliveries_lock:
        if key not in _deliveries:
            _deliveries[key] = Delivery(key)
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
