"""Threads and thread pools that start inside a span of the tracker work below it.

A thread begins without its starter's context: a model call in one would be a trace of its own. As
OpenTelemetry's instrumentation of ``threading`` does, starting a thread and handing a function to a
``ThreadPoolExecutor`` carry what is around the caller: the tracker's span and MLflow's. Other
context variables stay the thread's own. Outside of the tracker's spans nothing changes.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from migrator.tracker import spans

OWN_THREADS = "tracker-"  # begins the names of threads that write traces, and are in none


def carry_context() -> None:
    """Carry the context into threads from now on; once in a process."""
    if not _installed.is_set():
        _installed.set()
        threading.Thread.start = _start  # type: ignore[method-assign,assignment]
        ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign,assignment]


_installed = threading.Event()
_start_thread = threading.Thread.start
_submit_task: Callable[..., Future[Any]] = ThreadPoolExecutor.submit


@functools.wraps(_start_thread)
def _start(thread: threading.Thread) -> None:
    if spans.scope.get() is not None and not thread.name.startswith(OWN_THREADS):
        thread.run = carried(thread.run)  # type: ignore[method-assign]
    _start_thread(thread)


@functools.wraps(_submit_task)
def _submit(
    pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Future[Any]:
    if spans.scope.get() is None:
        return _submit_task(pool, function, *args, **kwargs)
    # In an empty context: a thread of the pool that starts now outlives the span around the caller.
    empty = contextvars.Context()
    return empty.run(_submit_task, pool, carried(function), *args, **kwargs)


def carried(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a form of ``function`` that works below the span around the caller, in any thread."""
    around = None
    span = spans.scope.get()
    if span is not None:
        with span.sink.guard.during("carry the context into a thread"):
            around = spans.Around.caller()
    if around is None:
        return function

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with around.restored():
            return function(*args, **kwargs)

    return run
