"""Spans as the tracker hands them out: context managers that never break what they wrap."""

from __future__ import annotations

import contextvars
import functools
import inspect
import json
import random
import time
import traceback as tracebacks
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

from migrator import encoding
from migrator.tracker.langchain import step_below
from migrator.tracker.sink import Sink
from migrator.tracker.usage import Call, Usage, model_of, usage_of
from migrator.tracker.values import plain, text_of

F = TypeVar("F", bound=Callable[..., Any])
WORKFLOW, NODE, SPAN = "workflow", "node", "span"
MAX_CHUNKS = 1000  # events on one span; the joined output has all


# The innermost open span of the tracker in this thread or task.
scope: contextvars.ContextVar[TrackedSpan | None] = contextvars.ContextVar("scope", default=None)


def innermost(sink: Sink, kind: str | None = None) -> TrackedSpan | None:
    """Find the innermost open span (of a kind) around the caller.

    In a thread that was started without its starter's context nothing is around the caller: then
    it is the only open span of its kind, and None when there are several. Never a guess: the
    legacy tracker kept one "current node" for all threads, and metrics landed on the wrong one.
    """
    span = scope.get()
    while span is not None:
        if span.sink is sink and not span.ended and (kind is None or span.kind == kind):
            return span
        span = span.outer
    if kind is None:
        return None
    candidates = open_spans(sink, kind)
    return candidates[0] if len(candidates) == 1 else None


def open_spans(sink: Sink, kind: str) -> list[TrackedSpan]:
    """List the open spans of a kind, the oldest first."""
    with sink.lock:
        return [span for span in sink.open.values() if span.kind == kind]


class SpanApi(Protocol):
    """What callers may do with a span, of a tracker that is enabled or not."""

    @property
    def trace_id(self) -> str | None:
        """``tr-`` and 32 hex digits; None when nothing is traced."""

    @property
    def span_id(self) -> str | None:
        """16 hex digits; None when nothing is traced."""

    def __call__(self, function: F) -> F:
        """Decorate a function or coroutine: each call is a span like this one."""

    def __enter__(self) -> SpanApi: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def set_inputs(self, inputs: Any) -> None:
        """Record what went in."""

    def set_outputs(self, outputs: Any) -> None:
        """Record what came out."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Record another fact."""

    def record_usage(
        self,
        response: Any = None,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        model: str | None = None,
        provider: str | None = None,
    ) -> None:
        """Add the tokens of a call, read from a response or given."""

    def record_exception(self, error: BaseException) -> None:
        """Record that it failed, without raising."""


class NoSpan:
    """A span that records nothing: tracking is disabled, or this workflow isn't sampled."""

    __slots__ = ()
    trace_id: str | None = None
    span_id: str | None = None

    def __call__(self, function: F) -> F:
        return function

    def __enter__(self) -> NoSpan:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def set_inputs(self, inputs: Any) -> None:
        """Nothing."""

    def set_outputs(self, outputs: Any) -> None:
        """Nothing."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Nothing."""

    def record_usage(self, response: Any = None, **counts: Any) -> None:
        """Nothing."""

    def record_exception(self, error: BaseException) -> None:
        """Nothing."""


NO_SPAN = NoSpan()


@dataclass(frozen=True, slots=True)
class Start:
    """What a span begins with; inputs and attributes as JSON values."""

    kind: str  # WORKFLOW, NODE or SPAN
    name: str
    span_type: str
    inputs: Any = None
    attributes: Mapping[str, Any] | None = None
    on_start: Callable[[TrackedSpan], None] | None = None
    sampling_ratio: float = 1.0  # the share of such spans that is traced, with all below them


class TrackedSpan:
    """An open span of a trace. Enter it in the thread or task whose work it covers."""

    __slots__ = (
        "_before", "_begin", "_calls", "_free_ns", "_leave", "_live", "_scope_token", "chunks",
        "ended", "failed", "is_sampled", "outer", "sink", "span_id", "trace_id",
    )  # fmt: skip

    def __init__(self, sink: Sink, begin: Start) -> None:
        self.sink = sink
        self.is_sampled = begin.sampling_ratio >= 1 or random.random() < begin.sampling_ratio
        self.outer: TrackedSpan | None = None
        self.ended = False
        self.failed = False
        self.chunks = 0
        self.trace_id: str | None = None  # tr- and 32 hex digits; None when nothing is traced
        self.span_id: str | None = None  # 16 hex digits; None when nothing is traced
        self._begin = begin
        self._live: Any = None
        self._calls: list[Call] = []
        self._free_ns = 0  # when the last thing inside it ended: a reported call began after that
        self._leave: Callable[[], None] | None = None
        self._before: Any = None  # OpenTelemetry's context in which it was entered
        self._scope_token: contextvars.Token[TrackedSpan | None] | None = None

    @property
    def kind(self) -> str:
        """WORKFLOW, NODE or SPAN."""
        return self._begin.kind

    @property
    def name(self) -> str:
        """The span's name."""
        return self._begin.name

    @property
    def span_type(self) -> str:
        """MLflow's type of the span."""
        return self._begin.span_type

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What it began with, as Python values: reading the span's own means parsing JSON."""
        return self._begin.attributes or {}

    def __call__(self, function: F) -> F:
        """Decorate a function or coroutine: each call is a span like this one."""

        def anew() -> TrackedSpan:
            return TrackedSpan(self.sink, self._begin)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with anew():
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            with anew():
                return await function(*args, **kwargs)

        wrapper: Any = call_async if inspect.iscoroutinefunction(function) else call
        return wrapper  # type: ignore[no-any-return]

    # ------------------------------------------------------------------------------- life
    def __enter__(self) -> TrackedSpan:
        with self.sink.guard.during("start a span"):
            self.start()
            self.attach()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.record_exception(error)
        self.detach()
        self.end()

    def start(self) -> None:
        """Start it, below the span around the caller, or below the only open workflow."""
        tracing = self.sink.tracing
        self.outer = scope.get()
        parent = None
        around = tracing.provider.get_current_otel_span().get_span_context()
        if not around.is_valid:
            if not tracing.provider.is_tracing_enabled():  # mlflow.tracing.disable()
                # MLflow counts the spans that would be started: mlflow.genai.evaluate asks so
                # whether the workflow traces itself.
                tracing.provider.start_detached_span(self.name)
                return
            workflow = None if self.kind == WORKFLOW else innermost(self.sink, WORKFLOW)
            if workflow is not None:
                self.outer, parent = workflow, workflow._live
                self.is_sampled = workflow.is_sampled
            else:
                tracing.router.take(self.sink)
        elif around.trace_flags.sampled:
            parent = step_below(f"{around.span_id:016x}")
            tracing.router.reopen(around.trace_id)
        else:
            self.is_sampled = False
        if not self.is_sampled:
            return
        is_root = not around.is_valid and parent is None
        live = tracing.start_span_no_context(
            self.name,
            span_type=self.span_type,
            parent_span=parent,
            inputs=self._begin.inputs,
            attributes=self._begin.attributes,
            experiment_id=self.sink.experiment_id if is_root else None,
        )
        if live is None or isinstance(live, tracing.NoOpSpan):  # MLflow's tracing is switched off
            return
        self._live, self.trace_id, self.span_id = live, live.trace_id, live.span_id
        self._free_ns = time.time_ns()
        with self.sink.lock:
            self.sink.open[id(self)] = self
        if is_root:
            tracing.router.own(live.trace_id, self.sink)
        if self._begin.on_start is not None:
            self._begin.on_start(self)

    def attach(self) -> None:
        """Make it the span around what this thread or task does next."""
        self._scope_token = scope.set(self)
        if self._live is not None:
            provider = self.sink.tracing.provider
            self._before = provider.get_current_context()
            token = provider.set_span_in_context(self._live)
            self._leave = functools.partial(provider.detach_span_from_context, token)
        elif not self.is_sampled:
            self._leave = _attach_unsampled()

    def detach(self) -> None:
        """Undo ``attach``."""
        with self.sink.guard.during("leave a span"):
            token, self._scope_token = self._scope_token, None
            leave, self._leave = self._leave, None
            if token is None:
                return
            try:
                scope.reset(token)
            except ValueError:  # another thread or task than it was entered in, with other tokens
                self._leave_elsewhere()
            else:
                if leave is not None:
                    leave()

    def _leave_elsewhere(self) -> None:
        """Take it from around this thread or task, if it is there: its context was copied here."""
        if scope.get() is self:
            scope.set(self.outer)
        if self._live is None or self._before is None:
            return
        provider = self.sink.tracing.provider
        current = provider.get_current_otel_span().get_span_context()
        if f"{current.span_id:016x}" == self.span_id:
            provider.get_context_api().attach(self._before)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make it the span around a block, without ending it."""
        with self.sink.guard.during("enter a span"):
            self.attach()
        try:
            yield
        finally:
            self.detach()

    def end(self) -> None:
        """End it; the end of a trace's root sends the trace on its way."""
        if self.ended:
            return
        self.ended = True
        if self._live is None:
            return
        with self.sink.guard.during("end a span"):
            with self.sink.lock:
                self.sink.open.pop(id(self), None)
            if self._calls:
                self._report()
            self._live.end()
            if self.outer is not None:
                self.outer._free_ns = time.time_ns()

    # ---------------------------------------------------------------------------- content
    @property
    def live(self) -> Any:
        """MLflow's own span; None when nothing is traced."""
        return self._live

    def set_inputs(self, inputs: Any) -> None:
        """Record what went in."""
        with self.sink.guard.during("record inputs"):
            if self._live is not None:
                self._live.set_inputs(plain(inputs))

    def set_outputs(self, outputs: Any) -> None:
        """Record what came out."""
        with self.sink.guard.during("record outputs"):
            if self._live is not None:
                self._live.set_outputs(plain(outputs))

    def set_attribute(self, key: str, value: Any) -> None:
        """Record another fact."""
        with self.sink.guard.during("record an attribute"):
            if self._live is not None:
                self._live.set_attribute(key, plain(value))

    def record_usage(
        self,
        response: Any = None,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        model: str | None = None,
        provider: str | None = None,
    ) -> None:
        """Add the tokens of a call, read from a response or given.

        Tokens of several calls on one span add up. No tokens at all were not captured.
        """
        with self.sink.guard.during("record tokens"):
            usage = None if response is None else usage_of(response)
            if usage is None:
                usage = Usage(max(0, int(input_tokens or 0)), max(0, int(output_tokens or 0)))
            self.record_call(usage, model or model_of(response), provider)

    def record_call(
        self,
        usage: Usage,
        model: str | None,
        provider: str | None = None,
        prompt: Any = None,
        response: Any = None,
    ) -> None:
        """Add a call. Where spans with tokens are inside, it becomes a child span of its own."""
        if self._live is None:
            return
        now_ns = time.time_ns()
        started_ns, self._free_ns = self._free_ns, now_ns
        self._calls.append(
            Call(
                usage,
                text_of(model) if model else None,
                text_of(provider) if provider else None,
                started_ns,
                now_ns,
                plain(prompt),
                plain(response),
            )
        )
        self._report()

    def _report(self) -> None:
        self.sink.tracing.router.report(self.trace_id, self.span_id, self._calls)

    def record_exception(self, error: BaseException) -> None:
        """Record that it failed, without raising."""
        self.fail(type(error).__name__, text_of(error), error)

    def fail(self, kind: str, message: str, error: BaseException | None = None) -> None:
        """Mark it as failed: status ERROR and an event ``exception``, which MLflow's views need.

        MLflow 3.9's own ``record_exception`` dates the event in microseconds, not nanoseconds.
        """
        with self.sink.guard.during("record an exception"):
            if self._live is None or self.failed:
                return
            from mlflow.entities import SpanEvent, SpanStatus, SpanStatusCode

            self.failed = True
            message = encoding.clean_text(message)
            attributes = {"exception.type": kind, "exception.message": message}
            if error is not None:  # an empty one would be an empty box in MLflow's page
                stack = "".join(tracebacks.format_exception(error))
                attributes["exception.stacktrace"] = encoding.clean_text(stack)
            self._live.add_event(
                SpanEvent(name="exception", timestamp=time.time_ns(), attributes=attributes)
            )
            self._live.set_status(SpanStatus(SpanStatusCode.ERROR, f"{kind}: {message}"))

    def add_chunk(self, chunk: Any) -> None:
        """Note one item of a stream."""
        with self.sink.guard.during("record a chunk"):
            if self._live is None:
                return
            self.chunks += 1
            if self.chunks > MAX_CHUNKS:
                return
            from mlflow.entities import SpanEvent

            value = json.dumps(plain(chunk), ensure_ascii=False)
            self._live.add_event(
                SpanEvent(
                    name=f"mlflow.chunk.item.{self.chunks - 1}",
                    timestamp=time.time_ns(),
                    attributes={"mlflow.chunk.value": value},
                )
            )


@dataclass(frozen=True, slots=True)
class Around:
    """What is around a caller: a span of the tracker, and MLflow's, which may lie inside it."""

    span: TrackedSpan
    context: Any  # OpenTelemetry's

    @staticmethod
    def caller() -> Around | None:
        """Note what is around the caller; None outside of the tracker's spans."""
        span = scope.get()
        if span is None:
            return None
        from opentelemetry.trace import set_span_in_context

        provider = span.sink.tracing.provider
        context = provider.get_current_context() or provider.get_context_api().get_current()
        current = provider.get_current_otel_span().get_span_context()
        step = step_below(f"{current.span_id:016x}") if current.is_valid else None
        if step is not None:
            context = set_span_in_context(step._span, context)
        return Around(span, context)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Have the same around a block in another thread."""
        api = self.span.sink.tracing.provider.get_context_api()
        scope_token, context_token = scope.set(self.span), api.attach(self.context)
        try:
            yield
        finally:
            api.detach(context_token)
            scope.reset(scope_token)


def _attach_unsampled() -> Callable[[], None]:
    """Put a span that isn't recorded around the caller. Call the result to undo it.

    All that starts below such a span isn't recorded, either.
    """
    from mlflow.tracing import provider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    ids = RandomIdGenerator()
    span = NonRecordingSpan(
        SpanContext(
            ids.generate_trace_id(), ids.generate_span_id(), False, TraceFlags(TraceFlags.DEFAULT)
        )
    )
    context = set_span_in_context(span, context=provider.get_current_context())
    api = provider.get_context_api()
    return functools.partial(api.detach, api.attach(context))
