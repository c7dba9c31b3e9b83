"""Signals that end a command, and the moment after which they are ignored.

A conversion writes a copy and then publishes it. Until then Ctrl-C, SIGTERM and SIGHUP interrupt
it and the copy is removed. While it publishes, which takes moments, they have no effect, because
stopping half-way would leave the target half-written.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, the end that a batch system sends, and a terminal that is closed (not on Windows).
ENDING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_Handler = Callable[[int, FrameType | None], object] | int | None


@contextmanager
def interruptible() -> Iterator[None]:
    """Let each ending signal raise KeyboardInterrupt, as Ctrl-C does, until the block ends.

    The command can then clean up. A signal that was already ignored (``nohup``) stays ignored.
    Outside the main thread, which alone can handle signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    replaced: dict[int, _Handler] = {}
    for number in ENDING_SIGNALS:
        if number != signal.SIGINT and signal.getsignal(number) is not signal.SIG_IGN:
            replaced[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        _restore(replaced)


@contextmanager
def point_of_no_return() -> Iterator[Callable[[], None]]:
    """Yield a function that makes the process ignore ending signals until the block ends.

    Call it right before publishing. A signal that arrived earlier still interrupts.

        with point_of_no_return() as pass_it:
            prepare()
            pass_it()
            publish()
    """
    replaced: dict[int, _Handler] = {}

    def pass_it() -> None:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING_SIGNALS:
                replaced[number] = signal.signal(number, signal.SIG_IGN)

    try:
        yield pass_it
    finally:
        _restore(replaced)


def _restore(replaced: dict[int, _Handler]) -> None:
    for number, handler in replaced.items():
        signal.signal(number, handler)
