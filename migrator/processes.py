"""Work done in other processes: answered in order, and ended with us.

Each child has a pipe of its own to us and nothing else in common with us: no locks and no queues
that a child killed at the wrong moment could leave broken.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from migrator.errors import WorkerError
from migrator.interrupts import leave_to_parent

T = TypeVar("T")

# Finished answers that a child keeps while it waits for us to take them: enough to go on while we
# write all that we have gathered, and of larger ones one, because memory is to be bounded.
_AHEAD_BYTES = 8 << 20


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_method() -> str:
    """Return how to start children: by fork where it is safe, because it costs next to nothing.

    A child forked beside other threads may inherit a lock that nobody will ever release.
    """
    safe = sys.platform.startswith("linux") and threading.active_count() == 1
    return "fork" if safe else "spawn"


@contextlib.contextmanager
def few_collections() -> Iterator[None]:
    """Let Python look for cyclic garbage seldom.

    A conversion makes millions of small objects and hardly a cycle among them; looking for cycles
    after every 700 of them costs a tenth of its time.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class Child:
    """A process that sends us ``work(number)`` for each of the numbers.

    With ``spawn``, ``work`` is pickled. Ctrl-C and the like, sent to all processes, are left to us:
    ``stop`` ends the child at once.
    """

    def __init__(self, work: Callable[[int], object], numbers: range, method: str) -> None:
        context: Any = multiprocessing.get_context(method)
        self._answers, answers = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(answers, work, numbers), daemon=True)
        self._process.start()
        answers.close()  # ours; when the child's is closed too, receiving ends instead of hanging

    def receive(self) -> Any:
        """Return the next answer. Raises what the work raised, WorkerError if the child died."""
        try:
            failed, answer = pickle.loads(self._answers.recv_bytes())
        except (EOFError, ConnectionResetError) as error:
            self._process.join()
            code = self._process.exitcode
            raise WorkerError(
                f"A worker process {_how_it_ended(code)} and its work is lost; "
                "nothing was changed.",
                todo="Was memory short? With --workers 1 all work is done in one process.",
            ) from error
        if failed:
            raise answer
        return answer

    def stop(self) -> None:
        """End the child, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._answers.close()


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"was killed ({signal.Signals(-code).name})"
        except ValueError:
            return f"was killed (signal {-code})"
    return f"ended by itself (exit code {code})"


def results(work: Callable[[int], T], count: int, workers: int) -> Generator[T, None, None]:
    """Yield ``work(0)`` to ``work(count - 1)``, in order, computed by several processes.

    Memory is bounded: what a child has ready is one answer or some MiB. Close the iterator to end
    them.
    """
    method = start_method()
    workers = min(workers, count)
    children: list[Child] = []
    try:
        for number in range(workers):
            children.append(Child(work, range(number, count, workers), method))
        for number in range(count):
            yield children[number % workers].receive()
    finally:
        for child in children:
            child.stop()


class _Outbox:
    """Answers of a child on their way to us, in order."""

    def __init__(self) -> None:
        self._answers: deque[bytes | None] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def put(self, answer: bytes | None) -> None:
        """Add an answer (None: there are no more), and wait while there are too many bytes."""
        with self._changed:
            self._answers.append(answer)
            self._bytes += len(answer or b"")
            self._changed.notify()
            self._changed.wait_for(lambda: self._bytes <= _AHEAD_BYTES)

    def send(self, answers: Connection) -> None:
        """Send all answers that are put in, until None."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._answers))
                answer = self._answers.popleft()
            if answer is None:
                return
            try:
                answers.send_bytes(answer)
            except BrokenPipeError:
                os._exit(1)  # nobody is there any more
            with self._changed:
                self._bytes -= len(answer)
                self._changed.notify()


def _run(answers: Connection, work: Callable[[int], object], numbers: range) -> None:
    """Work in the child: compute while a thread sends what is ready."""
    leave_to_parent()
    outbox = _Outbox()
    sender = threading.Thread(target=outbox.send, args=(answers,), daemon=True)
    sender.start()
    with few_collections():
        for number in numbers:
            try:
                answer = pickle.dumps((False, work(number)), pickle.HIGHEST_PROTOCOL)
            except Exception as error:  # noqa: BLE001  # raised again where it is waited for
                outbox.put(pickle.dumps((True, error)))
                break
            outbox.put(answer)
    outbox.put(None)
    sender.join()
