"""How the tracker sits in MLflow's tracing: one exporter and one span processor for the process.

MLflow 3.9 to 3.17. Beside its public API this touches ``tracing.provider`` (the processor that
holds the exporter), ``InMemoryTraceManager`` (traces that are not finished) and four methods of
``MlflowV3SpanExporter``; the tests run on both ends of that range.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow import start_span_no_context as start_span_no_context
from mlflow.entities import NoOpSpan as NoOpSpan
from mlflow.tracing import provider as provider
from mlflow.tracing.config import get_config
from mlflow.tracing.export.mlflow_v3 import MlflowV3SpanExporter
from mlflow.tracing.trace_manager import InMemoryTraceManager

from migrator.tracker.delivery import Parcel

if TYPE_CHECKING:
    from migrator.tracker.spans import Sink

# MLflow forgets a trace that is open for an hour. A workflow may take longer.
OPEN_TRACE_S = 14 * 24 * 3600
MAX_TRACES = 10_000


class Exporter(MlflowV3SpanExporter):  # type: ignore[misc]  # mlflow is not typed
    """Hands each finished trace, whole, to the delivery of the tracker that opened it."""

    def _export_spans_incrementally(self, spans: Sequence[Any]) -> None:
        manager = InMemoryTraceManager.get_instance()
        for span in spans:
            trace_id = manager.get_mlflow_trace_id_from_otel_id(span.context.trace_id)
            if trace_id is None:
                continue
            with manager.get_trace(trace_id) as trace:
                remote = trace is not None and trace.is_remote_trace
            if remote:  # its root ends in another process, so it goes alone
                super()._export_spans_incrementally([span])

    def _should_log_async(self) -> bool:
        return False

    def _log_spans(self, experiment_id: str, spans: list[Any], workspace: Any = None) -> None:
        sink = seat.sink_of(spans[0].trace_id)
        if sink is not None:
            frozen = tuple(span.to_immutable_span() for span in spans)
            sink.delivery.put(Parcel(sink.experiment, spans=frozen))

    def _log_trace(self, trace: Any, prompts: Sequence[Any] = (), workspace: Any = None) -> None:
        trace_id = trace.info.trace_id
        sink, ours = seat.release(trace_id)
        if sink is not None:
            shared = trace_id in sink.shared
            sink.shared.discard(trace_id)
            sink.delivery.put(
                Parcel(sink.experiment, not ours, shared, trace=trace, prompts=tuple(prompts))
            )


class Seat:
    """Which tracker a trace belongs to, and whether MLflow's tracing still goes through us."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sinks: OrderedDict[str, Sink] = OrderedDict()
        self._latest: Sink | None = None
        self._exporter: Exporter | None = None
        self.summed: dict[int, Sink] = {}  # spans of ours that end now, by ``id``

    def take(self, sink: Sink) -> None:
        """Route MLflow's traces through the tracker's exporter and processor.

        Called before each root: ``mlflow.set_tracking_uri`` and ``mlflow.tracing.reset`` build
        MLflow's tracing anew.
        """
        self._latest = sink
        tracer = provider.provider.get()
        processors = getattr(
            getattr(tracer, "_active_span_processor", None), "_span_processors", ()
        )
        if self._exporter is None or all(
            getattr(processor, "span_exporter", None) is not self._exporter
            for processor in processors
        ):
            os.environ.setdefault("MLFLOW_TRACE_BUFFER_TTL_SECONDS", str(OPEN_TRACE_S))
            os.environ.setdefault("MLFLOW_TRACE_BUFFER_MAX_SIZE", str(MAX_TRACES))
            provider._get_tracer(__name__)  # builds the provider if there is none
            with self._lock:
                self._exporter = self._exporter or Exporter(sink.delivery.current.uri)
                for processor in provider.provider.get()._active_span_processor._span_processors:
                    if isinstance(getattr(processor, "span_exporter", None), MlflowV3SpanExporter):
                        # Newer MLflows batch spans in a thread of their own before exporting.
                        batcher = getattr(processor, "_batch_delegate", None)
                        if batcher is not None:
                            processor._batch_delegate = None
                            batcher.shutdown()
                        processor.span_exporter = self._exporter
        others = get_config().span_processors or []
        if on_span_end not in others:
            mlflow.tracing.configure(span_processors=[*others, on_span_end])

    def own(self, trace_id: str, sink: Sink) -> None:
        """Remember whose trace this is."""
        with self._lock:
            self._sinks[trace_id] = sink
            while len(self._sinks) > MAX_TRACES:
                self._sinks.popitem(last=False)

    def sink_of(self, trace_id: str) -> Sink | None:
        """Return whose trace it is; one that no tracker opened is the latest tracker's."""
        return self._sinks.get(trace_id, self._latest)

    def release(self, trace_id: str) -> tuple[Sink | None, bool]:
        """Return whose trace it was, and whether a tracker opened it."""
        with self._lock:
            ours = trace_id in self._sinks
            return self._sinks.pop(trace_id, self._latest), ours


seat = Seat()


def on_span_end(span: Any) -> None:
    """Complete a span of whatever origin: model, provider and cost, totals, redaction."""
    own = seat.summed.get(id(span))
    if own is not None:  # its tracker knew all of it
        with own.guard.during("redact a span"):
            own.clean(span)
        return
    sink = seat.sink_of(span.trace_id)
    if sink is not None:
        with sink.guard.during("complete a span"):
            sink.complete(span)
