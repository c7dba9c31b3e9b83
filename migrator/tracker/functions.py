"""Functions, coroutines, generators and async generators with a span for each call."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from migrator.tracker.spans import NoSpan, TrackedSpan
from migrator.tracker.usage import usage_of
from migrator.tracker.values import attribute_of

MODEL_TYPES = ("LLM", "CHAT_MODEL")


def arguments(function: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    """Name a call's arguments, without ``self`` and ``cls``."""
    try:
        bound = inspect.signature(function).bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return {"args": list(args), **kwargs}
    return {key: value for key, value in bound.items() if key not in ("self", "cls")}


def joined(chunks: list[Any]) -> Any:
    """Join a stream's output: texts to one text, anything else to a list."""
    texts = []
    for chunk in chunks:
        text = chunk if isinstance(chunk, str) else attribute_of(chunk, "content")
        if not isinstance(text, str):
            return chunks
        texts.append(text)
    return "".join(texts) if texts else chunks


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
        """Make the traced form of a function, class or static method, coroutine or generator."""
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
                # A stream that nobody reads any more is cancelled when the event loop ends.
                if error is thrown and isinstance(error, asyncio.CancelledError):
                    stream.closed_early()
                else:
                    span.record_exception(error)
                raise
            finally:
                stream.end()

        return wrapper

    def _outputs(self, span: TrackedSpan | NoSpan, result: Any) -> None:
        if isinstance(span, NoSpan):
            return
        with span.sink.guard.during("record outputs"):
            span.set_outputs(self._record(result))
            if span.span_type in MODEL_TYPES and usage_of(result) is not None:
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
        with self._span.sink.guard.during("record a chunk"):
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
            if self._span.span_type in MODEL_TYPES:
                for chunk in reversed(self._chunks):  # counts come with the last chunk
                    if usage_of(chunk) is not None:
                        self._span.record_usage(chunk)
                        break
        self._span.end()
