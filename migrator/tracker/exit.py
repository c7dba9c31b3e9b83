"""What happens to open spans when the process is told to end (SIGTERM)."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from migrator.trace_writer import Send
from migrator.tracker.place import BackgroundCall
from migrator.tracker.sink import sinks

MAX_WAIT_S = 8.0  # container runtimes kill 10 s after they have asked


def handle_sigterm() -> None:
    """End and send the open traces of all sinks on SIGTERM, and then end as without us.

    Only where nobody else handles the signal, and only from the main thread: Python allows no
    other. (At a normal exit or an exception ``with`` blocks end the spans, and ``atexit`` flushes.)
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    # In a thread: the one that was interrupted may hold a lock that ending a span needs.
    BackgroundCall(_send_all).wait(MAX_WAIT_S)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _send_all(send: Send) -> None:
    for sink in list(sinks):
        with sink.lock:
            spans = list(sink.open.values())
        for span in reversed(spans):  # the innermost first
            span.fail("SystemExit", "the process was terminated (SIGTERM)")
            span.end()
        sink.delivery.flush(MAX_WAIT_S)
