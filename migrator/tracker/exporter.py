"""How the tracker sits in MLflow's tracing: one exporter for the process.

MLflow 3.9 to 3.17. Beside its public API this touches ``tracing.provider`` (the processor that
holds the exporter), ``InMemoryTraceManager`` (traces that are not finished) and three methods of
``MlflowV3SpanExporter``; the tests run on both ends of that range.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlflow import start_span_no_context as start_span_no_context
from mlflow.entities import NoOpSpan as NoOpSpan
from mlflow.entities import Span, Trace, TraceData, TraceInfo, TraceLocation, TraceState
from mlflow.tracing import provider as provider
from mlflow.tracing.constant import SpanAttributeKey, TraceTagKey
from mlflow.tracing.export.mlflow_v3 import MlflowV3SpanExporter
from mlflow.tracing.trace_manager import InMemoryTraceManager
from mlflow.tracing.utils import (
    encode_span_id,
    generate_mlflow_trace_id_from_otel_trace_id,
    get_otel_attribute,
    maybe_get_request_id,
)
from mlflow.tracing.utils.truncation import set_request_response_preview

from migrator import conventions as conv
from migrator.tracker.delivery import Parcel, flush_all
from migrator.tracker.sink import Sink
from migrator.tracker.usage import Call

# MLflow forgets a trace that is open for an hour. A workflow may take longer.
OPEN_TRACE_S = 14 * 24 * 3600
MAX_TRACES = 10_000
LONGEST_LOOK_S = 30.0  # between two looks for traces that are open for too long


class _Queues:
    """Stands where MLflow looks for its own queue, so that its flush waits for ours."""

    def flush(self, terminate: bool = False) -> None:
        """Wait until everything that was queued is written."""
        flush_all()

    def is_active(self) -> bool:
        """True: MLflow asks before it flushes."""
        return True


class Exporter(MlflowV3SpanExporter):  # type: ignore[misc]  # mlflow is not typed
    """Hands each finished trace, whole, to the delivery of the tracker that opened it."""

    def __init__(self, tracking_uri: str) -> None:
        super().__init__(tracking_uri)
        self._async_queue = _Queues()

    def export(self, spans: Sequence[Any]) -> None:
        """Called by MLflow's processor with each span that has ended."""
        for span in spans:
            self._ended(span)

    def _ended(self, span: Any) -> None:
        trace_id = get_otel_attribute(span, SpanAttributeKey.REQUEST_ID)
        if trace_id is None:
            return
        manager = InMemoryTraceManager.get_instance()
        is_late = router.written_by(trace_id) is not None
        with manager.get_trace(trace_id) as trace:
            is_known = trace is not None
            is_remote = is_known and trace.is_remote_trace
            parent_id = None if span._parent is None else encode_span_id(span._parent.span_id)
            parent_is_elsewhere = is_known and parent_id not in trace.span_dict
            here = list(trace.span_dict.values()) if is_remote and parent_is_elsewhere else []
        if is_late or not is_known:
            _send_late(Span(span))
            _close_again(trace_id, span.context.trace_id)
        elif is_remote:
            _send_remote(trace_id, here)
        elif parent_id is None:
            self._export_root(manager, span)

    def _export_root(self, manager: Any, span: Any) -> None:
        """Let MLflow take the trace out of its memory; it then calls ``_log_trace``."""
        trace_id = get_otel_attribute(span, SpanAttributeKey.REQUEST_ID)
        with manager.get_trace(trace_id) as trace:
            still_open = [each for each in trace.span_dict.values() if each.end_time_ns is None]
        export_now = getattr(self, "_do_export_trace", None)  # newer: else it waits for open spans
        if export_now is None:
            self._export_traces([span])
        else:
            export_now(manager, span)
        if still_open:  # what they start, integrations of MLflow too, finds its trace
            router.reopen(span.context.trace_id)
            for each in still_open:
                manager.register_span(each)

    def _should_log_async(self) -> bool:
        return False

    def _log_trace(self, trace: Any, prompts: Sequence[Any] = (), workspace: Any = None) -> None:
        trace_id = trace.info.trace_id
        owned = router.release(trace_id)
        sink = owned.sink or router.latest
        if sink is None:
            return
        parcel = Parcel(
            sink.experiment,
            sink.finisher,
            owned.calls,
            trace=trace,
            prompts=tuple(prompts),
            keeps_experiment=owned.sink is None,
            is_shared=trace_id in sink.shared,
            open_spans=frozenset(
                span.span_id for span in trace.data.spans if span.end_time_ns is None
            ),
        )
        sink.shared.discard(trace_id)
        # mlflow.genai.evaluate reads the trace as soon as the workflow has returned.
        is_awaited = (
            TraceTagKey.EVAL_REQUEST_ID in trace.info.tags
            or maybe_get_request_id(is_evaluate=True) is not None
        )
        sink.delivery.put(parcel, at_once=is_awaited)


def _send_remote(trace_id: str, spans: Sequence[Any]) -> None:
    """Send spans whose root is in another process: all below one that continued its trace."""
    owned = router.trace(trace_id)
    sink = owned.sink or router.latest
    ended = [span for span in spans if span.end_time_ns is not None]
    new = [span for span in ended if span.span_id not in owned.sent]
    if sink is None or not new:
        return
    owned.sent.update(span.span_id for span in new)
    calls = {span.span_id: owned.calls.pop(span.span_id, []) for span in new}
    frozen = tuple(span.to_immutable_span() for span in new)
    sink.delivery.put(Parcel(sink.experiment, sink.finisher, calls, spans=frozen))


def _send_late(span: Any) -> None:
    """Send a span that ended after its trace was written."""
    sink, calls = router.late(span.trace_id, span.span_id)
    if sink is None:
        sink = router.latest
        is_late = False
    else:
        is_late = True
    if sink is not None:
        sink.delivery.put(
            Parcel(
                sink.experiment, sink.finisher, {span.span_id: calls}, spans=(span,),
                is_late=is_late,
            )
        )  # fmt: skip


def _close_again(trace_id: str, otel_trace_id: int) -> None:
    """Take a written trace out of MLflow's memory when the last span in it has ended.

    What ``mlflow.log_feedback`` gave it there in the meantime is written.
    """
    manager = InMemoryTraceManager.get_instance()
    with manager.get_trace(trace_id) as trace:
        if trace is None or any(span.end_time_ns is None for span in trace.span_dict.values()):
            return
        given = list(trace.info.assessments)
    manager.pop_trace(otel_trace_id)
    sink = router.written_by(trace_id)
    if sink is not None:
        for each in given:
            sink.delivery.put(Parcel(sink.experiment, sink.finisher, assessment=each))


def _write_open(trace_id: str, owned: OwnedTrace, sink: Sink) -> None:
    """Write a trace as it stands, although its root is open; it is written again when it ends.

    Its spans that are open are written as ended now, and marked as unfinished.
    """
    with InMemoryTraceManager.get_instance().get_trace(trace_id) as open_trace:
        if open_trace is None:
            return
        root = open_trace.get_root_span()
        if root is None:
            return
        data = TraceData([each.to_immutable_span() for each in open_trace.span_dict.values()])
        start_ms = root.start_time_ns // 1_000_000
        info = replace(
            open_trace.info,
            request_time=start_ms,
            execution_duration=time.time_ns() // 1_000_000 - start_ms,
            state=TraceState.IN_PROGRESS,
            trace_metadata=dict(open_trace.info.trace_metadata),
            tags=dict(open_trace.info.tags),
            assessments=copy.deepcopy(open_trace.info.assessments),
        )
    set_request_response_preview(info, data)
    calls = {span_id: list(each) for span_id, each in owned.calls.items()}
    sink.delivery.put(
        Parcel(
            sink.experiment, sink.finisher, calls, trace=Trace(info, data), is_unfinished=True,
            is_shared=trace_id in sink.shared,
        )
    )  # fmt: skip


@dataclass(slots=True)
class OwnedTrace:
    """What is known of a trace that is open in this process."""

    sink: Sink | None = None  # of the tracker that opened it
    calls: dict[str, list[Call]] = field(default_factory=dict)  # by the span that reported them
    sent: set[str] = field(default_factory=set)  # spans of a remote trace that are written
    written_s: float = field(default_factory=time.monotonic)  # or when it was opened


class Router:
    """Which tracker a trace belongs to, and whether MLflow's tracing still goes through us."""

    def __init__(self) -> None:
        self.latest: Sink | None = None  # gets traces that no tracker opened
        self._lock = threading.RLock()
        self._open: OrderedDict[str, OwnedTrace] = OrderedDict()
        self._written: OrderedDict[str, Sink] = OrderedDict()
        self._late_calls: dict[str, list[Call]] = {}
        self._exporter: Exporter | None = None
        self._watch: threading.Thread | None = None

    def take(self, sink: Sink) -> None:
        """Route MLflow's traces through the tracker's exporter.

        Called before each root: ``mlflow.set_tracking_uri`` and ``mlflow.tracing.reset`` build
        MLflow's tracing anew.
        """
        self.latest = sink
        for processor in _processors():
            if self._exporter is not None and processor.span_exporter is self._exporter:
                return
        os.environ.setdefault("MLFLOW_TRACE_BUFFER_TTL_SECONDS", str(OPEN_TRACE_S))
        os.environ.setdefault("MLFLOW_TRACE_BUFFER_MAX_SIZE", str(MAX_TRACES))
        provider._get_tracer(__name__)  # builds the provider if there is none
        with self._lock:
            self._exporter = self._exporter or Exporter(sink.delivery.current.uri)
            for processor in _processors():
                if isinstance(processor.span_exporter, MlflowV3SpanExporter):
                    # Newer MLflows batch spans in a thread of their own before exporting.
                    batcher = getattr(processor, "_batch_delegate", None)
                    if batcher is not None:
                        processor._batch_delegate = None
                        batcher.shutdown()
                    processor.span_exporter = self._exporter

    def own(self, trace_id: str, sink: Sink) -> None:
        """Remember whose trace this is."""
        with self._lock:
            self.trace(trace_id).sink = sink
            if self._watch is None or not self._watch.is_alive():
                self._watch = threading.Thread(
                    target=self._watch_open, name="tracker-open", daemon=True
                )
                self._watch.start()

    def _watch_open(self) -> None:
        """Write traces whose root is open for longer than their tracker's ``span_timeout_s``."""
        while True:
            with self._lock:
                limits = [owned.sink.span_timeout_s for owned in self._open.values() if owned.sink]
                if not limits:
                    self._watch = None
                    return
            time.sleep(min(LONGEST_LOOK_S, *(limit / 4 for limit in limits)))
            now = time.monotonic()
            with self._lock:
                late = [
                    (trace_id, owned, owned.sink)
                    for trace_id, owned in self._open.items()
                    if owned.sink and now - owned.written_s > owned.sink.span_timeout_s
                ]
            for trace_id, owned, sink in late:
                owned.written_s = now
                with sink.guard.during("write an open trace"):
                    _write_open(trace_id, owned, sink)

    def trace(self, trace_id: str) -> OwnedTrace:
        """Get what is known of an open trace."""
        with self._lock:
            found = self._open.setdefault(trace_id, OwnedTrace())
            while len(self._open) > MAX_TRACES:
                self._open.popitem(last=False)
            return found

    def report(self, trace_id: str, span_id: str, calls: list[Call]) -> None:
        """Note the calls that a span has reported so far; the list may grow until it ends."""
        with self._lock:
            if trace_id in self._written:
                self._late_calls[span_id] = calls
            else:
                self.trace(trace_id).calls[span_id] = calls

    def release(self, trace_id: str) -> OwnedTrace:
        """Take a trace that has ended out of the open ones."""
        with self._lock:
            owned = self._open.pop(trace_id, None) or OwnedTrace()
            sink = owned.sink or self.latest
            if sink is not None:
                self._written[trace_id] = sink
            while len(self._written) > MAX_TRACES:
                self._written.popitem(last=False)
            # A span that is still open may report more calls while these are being written.
            calls = {span_id: list(each) for span_id, each in owned.calls.items()}
            return OwnedTrace(owned.sink, calls)

    def late(self, trace_id: str, span_id: str) -> tuple[Sink | None, list[Call]]:
        """Get the sink that wrote a trace, None for one of another process, and late calls."""
        with self._lock:
            return self._written.get(trace_id), self._late_calls.pop(span_id, [])

    def written_by(self, trace_id: str) -> Sink | None:
        """Find the sink that wrote a trace, which has ended in this process; None for others."""
        return self._written.get(trace_id)

    def reopen(self, otel_trace_id: int) -> None:
        """Let MLflow start spans in a trace that has ended: it has forgotten it.

        Its marks say where the spans are, for those who ask MLflow for the trace meanwhile.
        """
        trace_id = generate_mlflow_trace_id_from_otel_trace_id(otel_trace_id)
        sink = self._written.get(trace_id)
        if sink is None:
            return
        manager = InMemoryTraceManager.get_instance()
        with self._lock:
            if manager.get_mlflow_trace_id_from_otel_id(otel_trace_id) is not None:
                return
            info = TraceInfo(
                trace_id=trace_id,
                trace_location=TraceLocation.from_experiment_id(sink.experiment_id),
                request_time=0,
                state=TraceState.OK,
                tags={TraceTagKey.SPANS_LOCATION: conv.SPANS_IN_DATABASE},
            )
            manager.register_trace(otel_trace_id, info, is_remote_trace=True)

    def open_traces(self) -> list[tuple[str, Sink]]:
        """List the traces that are open and whose they are."""
        with self._lock:
            return [
                (trace_id, owned.sink)
                for trace_id, owned in self._open.items()
                if owned.sink is not None
            ]

    def after_fork(self) -> None:
        """Forget, in a forked child, what is the parent's to write."""
        self._lock = threading.RLock()
        self._watch = None
        self._open.clear()
        self._written.clear()
        self._late_calls.clear()


def _processors() -> list[Any]:
    """List MLflow's span processors that export; empty before its tracing is set up."""
    tracer = provider.provider.get()
    active = getattr(tracer, "_active_span_processor", None)
    found = getattr(active, "_span_processors", ())
    return [processor for processor in found if hasattr(processor, "span_exporter")]


router = Router()
