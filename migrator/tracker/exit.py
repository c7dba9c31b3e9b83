"""What happens to open spans when the process ends, or is told to (SIGTERM)."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from types import FrameType
from typing import Any

from migrator.trace_writer import Send
from migrator.tracker.place import BackgroundCall
from migrator.tracker.sink import sinks
from migrator.tracker.spans import WORKFLOW

MAX_WAIT_S = 8.0  # container runtimes kill 10 s after they have asked


def handle_sigterm() -> None:
    """End and send the open traces of all sinks on SIGTERM, and then end as without us.

    Only where nobody else handles the signal, and only from the main thread: Python allows no
    other.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def handle_exit() -> None:
    """End and send, at a normal exit, the workflows that are open still.

    ``with`` blocks have ended all others: these are of daemon threads, and blocks that were left
    without an end. Called after each delivery is made, so that it comes before that one's own
    handler.
    """
    atexit.unregister(_end_workflows)
    atexit.register(_end_workflows)


def _end_workflows() -> None:
    for sink in list(sinks):
        with sink.lock:
            spans = list(sink.open.values())
        open_traces = {span.trace_id for span in spans if span.kind == WORKFLOW}
        left = [span for span in spans if span.trace_id in open_traces]
        _end_spans(left, "the process ended before it did")


def _end_spans(spans: list[Any], why: str) -> None:
    for span in reversed(spans):  # the innermost first
        span.fail("SystemExit", why)
        span.end()


def _end(number: int, frame: FrameType | None) -> None:
    # In a thread: the one that was interrupted may hold a lock that ending a span needs.
    BackgroundCall(_send_all).wait(MAX_WAIT_S)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _send_all(send: Send) -> None:
    for sink in list(sinks):
        with sink.lock:
            spans = list(sink.open.values())
        _end_spans(spans, "the process was terminated (SIGTERM)")
        sink.delivery.flush(MAX_WAIT_S)
