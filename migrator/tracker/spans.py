"""Spans as the tracker hands them out: context managers that never break what they wrap."""

from __future__ import annotations

import contextvars
import functools
import inspect
import json
import threading
import time
import traceback as tracebacks
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from migrator import conventions as conv
from migrator import encoding
from migrator.tracker.guard import Guard
from migrator.tracker.usage import Usage, model_of, usage_of

if TYPE_CHECKING:
    from migrator.tracker.delivery import Delivery
    from migrator.tracker.meter import Meter, Tally

WORKFLOW, NODE, SPAN = "workflow", "node", "span"
TAG_CHARS = 500  # what the legacy tracker showed of a prompt when files were switched off
MAX_CHUNKS = 1000  # events on one span; the joined output has all


@dataclass(eq=False)
class Sink:
    """What the spans of one tracker share: where they go and how they are completed."""

    delivery: Delivery
    experiment: str
    experiment_id: str
    meter: Meter
    guard: Guard
    redact: Callable[[str], str] | None
    tracing: Any  # the module ``exporter``, which needs MLflow; looked up once, not for each span
    open: dict[int, TrackedSpan] = field(default_factory=dict)  # in the order they were opened
    lock: threading.RLock = field(default_factory=threading.RLock)
    shared: set[str] = field(default_factory=set)  # traces whose context went to other processes

    def complete(self, span: Any) -> None:
        """Called with every span of the tracker's traces just before it ends."""

        def model_around() -> str | None:
            node = innermost(self, NODE)
            inside = node is not None and node.trace_id == span.trace_id
            return (node.attributes or {}).get(conv.PLAIN_MODEL) if node and inside else None

        self.meter.complete(span, model_around)
        self.clean(span)

    def clean(self, span: Any) -> None:
        """Redact a span that is about to end."""
        if self.redact is not None:
            from migrator.tracker.meter import redact_span

            redact_span(span, self.redact)

    def opened(self, kind: str) -> list[TrackedSpan]:
        """Return the open spans of a kind, the oldest first."""
        with self.lock:
            return [span for span in self.open.values() if span.kind == kind]


# The innermost open span of the tracker in this thread or task.
_scope: contextvars.ContextVar[TrackedSpan | None] = contextvars.ContextVar("scope", default=None)


def innermost(sink: Sink, kind: str | None = None) -> TrackedSpan | None:
    """Return the innermost open span (of a kind) around the caller.

    In a thread that was started without its starter's context nothing is around the caller: then
    it is the only open one of its kind, and None when there are several. Never a guess: the legacy
    tracker kept one "current node" for all threads, and metrics landed on the wrong one.
    """
    span = _scope.get()
    while span is not None:
        if span.sink is sink and not span.ended and (kind is None or span.kind == kind):
            return span
        span = span.outer
    if kind is None:
        return None
    several = sink.opened(kind)
    return several[0] if len(several) == 1 else None


class SpanApi(Protocol):
    """What callers may do with a span, of a tracker that is enabled or not."""

    @property
    def trace_id(self) -> str | None:
        """``tr-`` and 32 hex digits; None when nothing is traced."""

    @property
    def span_id(self) -> str | None:
        """16 hex digits; None when nothing is traced."""

    def __enter__(self) -> SpanApi: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def set_inputs(self, inputs: Any) -> None:
        """Say what went in."""

    def set_outputs(self, outputs: Any) -> None:
        """Say what came out."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Note something else."""

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
        """Say that it failed, without raising."""


class NoSpan:
    """A span that records nothing: tracking is disabled, or this workflow isn't sampled."""

    __slots__ = ()
    trace_id: str | None = None
    span_id: str | None = None

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


class TrackedSpan:
    """An open span of a trace. Enter it in the thread or task whose work it covers."""

    __slots__ = (
        "_calls", "_leave", "_live", "_scope_token", "attributes", "chunks", "ended", "failed",
        "inputs", "kind", "name", "on_start", "outer", "sampled", "sink", "span_id", "span_type",
        "trace_id",
    )  # fmt: skip

    def __init__(
        self,
        sink: Sink,
        kind: str,
        name: str,
        span_type: str,
        inputs: Any = None,
        attributes: Mapping[str, Any] | None = None,
        on_start: Callable[[TrackedSpan], None] | None = None,
        sampled: bool = True,
    ) -> None:
        self.sink = sink
        self.kind = kind
        self.name = name
        self.span_type = span_type
        self.inputs = inputs
        self.attributes = attributes
        self.on_start = on_start
        self.sampled = sampled
        self.outer: TrackedSpan | None = None
        self.ended = False
        self.failed = False
        self.chunks = 0
        self.trace_id: str | None = None  # tr- and 32 hex digits; None when nothing is traced
        self.span_id: str | None = None  # 16 hex digits; None when nothing is traced
        self._live: Any = None
        self._calls: list[tuple[str | None, str | None, Usage]] = []
        self._leave: Callable[[], None] | None = None
        self._scope_token: contextvars.Token[TrackedSpan | None] | None = None

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
        """Start it, below the span around the caller, or the only open workflow."""
        tracing = self.sink.tracing
        self.outer = _scope.get()
        parent = None
        around = tracing.provider.get_current_otel_span().get_span_context()
        if not around.is_valid:
            if self.kind != WORKFLOW and (workflow := innermost(self.sink, WORKFLOW)) is not None:
                self.outer, parent = workflow, workflow._live
                self.sampled = workflow.sampled
            else:
                tracing.seat.take(self.sink)
        elif not around.trace_flags.sampled:
            self.sampled = False
        if not self.sampled:
            return
        is_root = not around.is_valid and parent is None
        live = tracing.start_span_no_context(
            self.name,
            span_type=self.span_type,
            parent_span=parent,
            inputs=plain(self.inputs) if self.inputs is not None else None,
            attributes=self.attributes,
            experiment_id=self.sink.experiment_id if is_root else None,
        )
        if live is None or isinstance(live, tracing.NoOpSpan):  # MLflow's tracing is switched off
            return
        self._live, self.trace_id, self.span_id = live, live.trace_id, live.span_id
        with self.sink.lock:
            self.sink.open[id(self)] = self
        if is_root:
            tracing.seat.own(live.trace_id, self.sink)
        if self.on_start is not None:
            self.on_start(self)

    def attach(self) -> None:
        """Make it the span around what this thread or task does next."""
        self._scope_token = _scope.set(self)
        if self._live is not None:
            provider = self.sink.tracing.provider
            token = provider.set_span_in_context(self._live)
            self._leave = functools.partial(provider.detach_span_from_context, token)
        elif not self.sampled:
            self._leave = _attach_unsampled()

    def detach(self) -> None:
        """Undo ``attach``."""
        with self.sink.guard.during("leave a span"):
            if self._leave is not None:
                leave, self._leave = self._leave, None
                leave()
            if self._scope_token is not None:
                scope, self._scope_token = self._scope_token, None
                try:
                    _scope.reset(scope)
                except ValueError:  # left in another thread or task than it was entered in
                    _scope.set(self.outer)

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
        sink, live = self.sink, self._live
        with sink.guard.during("end a span"):
            tally = self._write_usage()
            with sink.lock:
                sink.open.pop(id(self), None)
            if tally is None:
                live.end()
                return
            # What we know of our own span isn't read back from its attributes.
            sink.meter.sum_up(self.trace_id, self.span_id, live.parent_id, tally)
            sink.tracing.seat.summed[id(live)] = sink
            try:
                live.end()
            finally:
                sink.tracing.seat.summed.pop(id(live), None)

    # ---------------------------------------------------------------------------- content
    @property
    def live(self) -> Any:
        """MLflow's own span; None when nothing is traced."""
        return self._live

    def set_inputs(self, inputs: Any) -> None:
        """Say what went in."""
        with self.sink.guard.during("record inputs"):
            if self._live is not None:
                self._live.set_inputs(plain(inputs))

    def set_outputs(self, outputs: Any) -> None:
        """Say what came out."""
        with self.sink.guard.during("record outputs"):
            if self._live is not None:
                self._live.set_outputs(plain(outputs))

    def set_attribute(self, key: str, value: Any) -> None:
        """Note something else."""
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
            self._calls.append((model or model_of(response), provider, usage))

    def record_exception(self, error: BaseException) -> None:
        """Say that it failed, without raising."""
        self.fail(type(error).__name__, str(error), error)

    def fail(self, kind: str, message: str, error: BaseException | None = None) -> None:
        """Mark it as failed: status ERROR and an event ``exception``, which MLflow's views need.

        MLflow 3.9's own ``record_exception`` dates the event in microseconds, not nanoseconds.
        """
        with self.sink.guard.during("record an exception"):
            if self._live is None or self.failed:
                return
            from mlflow.entities import SpanEvent, SpanStatus, SpanStatusCode

            self.failed = True
            stack = "" if error is None else "".join(tracebacks.format_exception(error))
            clean = self.sink.redact or (lambda text: text)
            message, stack = clean(encoding.clean_text(message)), clean(encoding.clean_text(stack))
            self._live.add_event(
                SpanEvent(
                    name="exception",
                    timestamp=time.time_ns(),
                    attributes={
                        "exception.type": kind,
                        "exception.message": message,
                        "exception.stacktrace": stack,
                    },
                )
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

            text = json.dumps(plain(chunk), ensure_ascii=False)
            self._live.add_event(
                SpanEvent(
                    name=f"mlflow.chunk.item.{self.chunks - 1}",
                    timestamp=time.time_ns(),
                    attributes={
                        "mlflow.chunk.value": self.sink.redact(text) if self.sink.redact else text
                    },
                )
            )

    def _write_usage(self) -> Tally | None:
        """Write the calls' tokens, unless spans below have said them already.

        Returns their sum; None where there is nothing to count.
        """
        if not self._calls:
            return None
        meter, known = self.sink.meter, self.attributes or {}
        # Python's own values, not the span's: reading those means parsing JSON, for every node.
        model, provider = known.get(conv.PLAIN_MODEL), known.get(conv.PLAIN_PROVIDER)
        for name, seller, _ in reversed(self._calls):
            model, provider = name or model, seller or provider
        provider = provider or meter.provider_of(model)
        facts: dict[str, Any] = {}
        if model and model != known.get(conv.PLAIN_MODEL):
            facts[conv.PLAIN_MODEL] = facts[conv.SPAN_MODEL] = model
        if provider and provider != known.get(conv.PLAIN_PROVIDER):
            facts[conv.PLAIN_PROVIDER] = facts[conv.SPAN_PROVIDER] = provider
        # Each call by its own price.
        tally = meter.tally([(name or model, usage) for name, _, usage in self._calls])
        counted = bool(tally.usage.total_tokens)
        if counted and meter.has_below(self.trace_id, self.span_id):
            facts["reported_tokens"] = tally.usage.as_attribute()
        elif counted:
            facts[conv.SPAN_USAGE] = tally.usage.as_attribute()
            if tally.priced:
                facts[conv.SPAN_COST] = cost = tally.cost()
                facts[conv.PLAIN_COST] = cost["total_cost"]
        self._live.set_attributes(facts)
        return tally if counted else None


def _attach_unsampled() -> Callable[[], None]:
    """Put a span that isn't recorded around the caller; return what undoes it.

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


def plain(value: Any) -> Any:
    """Return ``value`` as JSON values that MLflow's REST layer can carry.

    Objects become what MLflow's own encoder makes of them (models their fields, the rest text).
    """
    if isinstance(value, str):
        return encoding.clean_text(value)
    if value is None or isinstance(value, bool):
        return value
    if type(value) is dict and all(type(item) is str for pair in value.items() for item in pair):
        # Prompts and answers, mostly: half the time of the general way.
        return {encoding.clean_text(key): encoding.clean_text(item) for key, item in value.items()}
    return encoding.sanitize(_jsonable(value, 0))


def _jsonable(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth > 60:
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(item, depth + 1) for item in value]
    from mlflow.tracing.utils import TraceJSONEncoder

    try:
        return json.loads(json.dumps(value, cls=TraceJSONEncoder))
    except (TypeError, ValueError, RecursionError):
        return str(value)


# ----------------------------------------------------------------------------- functions
def arguments(function: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    """Return a call's arguments by name, without ``self`` and ``cls``."""
    try:
        bound = inspect.signature(function).bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return {"args": list(args), **kwargs}
    return {key: value for key, value in bound.items() if key not in ("self", "cls")}


def joined(chunks: list[Any]) -> Any:
    """Return a stream's output in one: text joined, anything else as a list."""
    texts = [
        chunk if isinstance(chunk, str) else getattr(chunk, "content", None) for chunk in chunks
    ]
    if texts and all(isinstance(text, str) for text in texts):
        return "".join(text for text in texts if text is not None)
    return chunks


class Traced:
    """Makes the traced form of a function; ``open_span`` gives the span of one call."""

    def __init__(
        self,
        open_span: Callable[[Callable[..., Any], Any, Any], TrackedSpan | NoSpan],
        record: Callable[[Any], Any],
    ) -> None:
        self._open = open_span
        self._record = record

    def wrap(self, function: Any) -> Any:
        """Return ``function`` (or class or static method, coroutine, generator) traced."""
        if isinstance(function, classmethod | staticmethod):
            return type(function)(self.wrap(function.__func__))
        if inspect.isasyncgenfunction(function):
            return self._async_generator(function)
        if inspect.isgeneratorfunction(function):
            return self._generator(function)
        if inspect.iscoroutinefunction(function):
            return self._coroutine(function)
        return self._function(function)

    def _function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self._open(function, args, kwargs) as span:
                result = function(*args, **kwargs)
                self._outputs(span, result)
                return result

        return wrapper

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self._open(function, args, kwargs) as span:
                result = await function(*args, **kwargs)
                self._outputs(span, result)
                return result

        return wrapper

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            span = self._open(function, args, kwargs)
            inner = function(*args, **kwargs)
            if isinstance(span, NoSpan):
                return (yield from inner)
            stream = Stream(span, self._record)
            sent: Any = None
            thrown: BaseException | None = None
            try:
                while True:
                    with span.active():  # only while the generator runs, not its consumer
                        try:
                            chunk = inner.send(sent) if thrown is None else inner.throw(thrown)
                        except StopIteration as stop:
                            return stop.value
                    sent = thrown = None
                    stream.add(chunk)
                    try:
                        sent = yield chunk
                    except GeneratorExit:
                        stream.closed_early()
                        with span.active():
                            inner.close()
                        raise
                    except BaseException as error:  # noqa: BLE001  thrown in by the consumer
                        thrown = error
            except GeneratorExit:
                raise
            except BaseException as error:
                span.record_exception(error)
                raise
            finally:
                stream.end()

        return wrapper

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            span = self._open(function, args, kwargs)
            inner = function(*args, **kwargs)
            if isinstance(span, NoSpan):
                async for chunk in inner:
                    yield chunk
                return
            stream = Stream(span, self._record)
            sent: Any = None
            thrown: BaseException | None = None
            try:
                while True:
                    with span.active():
                        try:
                            chunk = await (
                                inner.asend(sent) if thrown is None else inner.athrow(thrown)
                            )
                        except StopAsyncIteration:
                            return
                    sent = thrown = None
                    stream.add(chunk)
                    try:
                        sent = yield chunk
                    except GeneratorExit:
                        stream.closed_early()
                        with span.active():
                            await inner.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001  thrown in by the consumer
                        thrown = error
            except GeneratorExit:
                raise
            except BaseException as error:
                span.record_exception(error)
                raise
            finally:
                stream.end()

        return wrapper

    def _outputs(self, span: TrackedSpan | NoSpan, result: Any) -> None:
        if isinstance(span, NoSpan):
            return
        span.set_outputs(self._record(result))
        with span.sink.guard.during("read tokens"):
            if span.span_type in ("LLM", "CHAT_MODEL") and usage_of(result) is not None:
                span.record_usage(result)


class Stream:
    """What a generator has yielded, on its one span."""

    def __init__(self, span: TrackedSpan, record: Callable[[Any], Any]) -> None:
        self._span = span
        self._record = record
        self._chunks: list[Any] = []
        with span.sink.guard.during("start a span"):
            span.start()

    def add(self, chunk: Any) -> None:
        """Note an item."""
        self._chunks.append(chunk)
        recorded = self._record(chunk)
        if recorded is not None:
            self._span.add_chunk(recorded)

    def closed_early(self) -> None:
        """Note that the consumer stopped before the end."""
        self._span.set_attribute("closed_early", True)

    def end(self) -> None:
        """End the span with the joined output."""
        with self._span.sink.guard.during("join a stream"):
            self._span.set_attribute("chunk_count", len(self._chunks))
            self._span.set_outputs(self._record(joined(self._chunks)))
            if self._span.span_type in ("LLM", "CHAT_MODEL"):
                for chunk in reversed(self._chunks):  # counts come with the last chunk
                    if usage_of(chunk) is not None:
                        self._span.record_usage(chunk)
                        break
        self._span.end()
