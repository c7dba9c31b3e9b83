"""Signals that end a command, and the point of no return after which they come too late."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, a batch system's end, and a terminal that is closed (not on Windows).
ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_Handler = Callable[[int, FrameType | None], object] | int | None


@contextmanager
def interruptible() -> Iterator[None]:
    """Let every ending signal raise KeyboardInterrupt, as Ctrl-C does, until the block ends.

    So what is half done is removed. A signal that was ignored before stays so (``nohup``).
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before: dict[int, _Handler] = {}
    for number in ENDING:
        if number != signal.SIGINT and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def point_of_no_return() -> Iterator[Callable[[], None]]:
    """Yield a function after whose call the ending signals are ignored, until the block ends.

    What is left to do then takes moments. A signal that came before still interrupts.
    """
    before: dict[int, _Handler] = {}

    def pass_it() -> None:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                before[number] = signal.signal(number, signal.SIG_IGN)

    try:
        yield pass_it
    finally:
        _restore(before)


def _restore(before: dict[int, _Handler]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
