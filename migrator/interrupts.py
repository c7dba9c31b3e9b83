"""The point of no return: once a target changes, a signal comes too late to leave it untouched."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# What ends a command: Ctrl-C, a batch system or `kill`, a terminal that is closed (not on Windows).
SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def point_of_no_return() -> Iterator[Callable[[], None]]:
    """Yield a function after whose call ``SIGNALS`` are ignored, until the block ends.

    What is left to do then takes moments. A signal that came before still interrupts.
    """
    before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}

    def pass_it() -> None:
        if threading.current_thread() is threading.main_thread():  # signals are that thread's
            for number in SIGNALS:
                before[number] = signal.signal(number, signal.SIG_IGN)

    try:
        yield pass_it
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
