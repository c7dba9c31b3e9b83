"""The one place where the tracker's own errors end: logged once, never raised to the workflow."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

log = logging.getLogger("migrator.tracker")


class Guard:
    """Counts the tracker's errors and logs each kind once, with its cause."""

    def __init__(self) -> None:
        self.errors = 0
        self.last: str | None = None
        self._said: set[str] = set()
        self._lock = threading.RLock()

    def after_fork(self) -> None:
        """Take a new lock in a forked child: another thread of the parent may have held the old."""
        self._lock = threading.RLock()

    def during(self, what: str) -> Guarded:
        """A context in which an ``Exception`` ends: it is logged as a failure to do ``what``."""
        return Guarded(self, what)

    def caught(self, what: str, error: BaseException) -> None:
        """Note that the tracker failed to do ``what``."""
        with self._lock:
            self.errors += 1
            self.last = f"{what}: {type(error).__name__}: {error}"
        self.say(
            what,
            "Tracking: could not %s (%s: %s). The workflow goes on; this is logged once.",
            what, type(error).__name__, str(error).partition("\n")[0],
        )  # fmt: skip

    def say(self, topic: str, message: str, *args: object) -> None:
        """Warn once about ``topic``, in one line."""
        with self._lock:
            if topic in self._said:
                return
            self._said.add(topic)
        log.warning(message, *args)


class Guarded:
    """The context of ``Guard.during``. A class: half the cost of a generator, on every span."""

    __slots__ = ("_guard", "_what")

    def __init__(self, guard: Guard, what: str) -> None:
        self._guard = guard
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):  # an interrupt is the workflow's
            return False
        self._guard.caught(self._what, error)
        return True
