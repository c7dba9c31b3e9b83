"""Work done by any ``concurrent.futures`` executor: answered in order, a bounded part at a time.

``ProcessExecutor`` is the default one. What all pieces of the work have in common can be big, and
an executor does not say which of its processes has it already. So a piece travels without it; a
process that lacks it asks for it, and the piece is sent once more with it. A process that joins
late, or takes the place of one that died, needs nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import pickle
import platform
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    TimeoutError,
)
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar, runtime_checkable

from migrator import __version__
from migrator.errors import MigrateError, WorkerError
from migrator.signals import ENDING_SIGNALS

P_contra = TypeVar("P_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)
P = TypeVar("P")
T = TypeVar("T")

AT_ONCE = 64  # pieces under way where nobody says how many workers there are
_LOOK_SECONDS = 1.0

# The work that this process did last, by its digest: most pieces belong to the same.
_last: tuple[str, Any] = ("", None)


class Work(Protocol[P_contra, T_co]):
    """What the pieces have in common. It is pickled, once; so are the pieces and their answers."""

    def check(self) -> None:
        """Raise MigrateError where this process can't do the work; called once in each."""

    def do(self, piece: P_contra, /) -> T_co:
        """Return the answer for a piece. Threads may call this at the same time."""


@runtime_checkable
class DetectsLoss(Protocol):
    """An executor that knows when it will never answer."""

    def check(self) -> None:
        """Raise WorkerError when what is under way can't end. Called while it is waited for."""


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# ------------------------------------------------------------------------ processes of ours


class ProcessExecutor(ProcessPoolExecutor):
    """Processes that end with the ``with`` block, whatever they are doing, or with this process.

    ``method`` is a start method of ``multiprocessing``: by default ``fork`` where it is safe.
    """

    def __init__(self, workers: int, method: str | None = None) -> None:
        self._context = _Context(method or start_method())
        context: Any = self._context
        with _signals_held():  # multiprocessing's own helper may start here
            super().__init__(workers, mp_context=context, initializer=_begin)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have a call done by one of the processes, which are started when they are needed.

        A process that starts inherits the signals that are held here, so that Ctrl-C does not
        reach it before ``_begin`` has made it ignore that.
        """
        with _signals_held():
            return super().submit(fn, *args, **kwargs)

    def call(self, fn: Callable[..., T], /, *args: Any) -> T:
        """Have a call done and wait for it. Raises what it raises, WorkerError if it is lost."""
        future = self.submit(fn, *args)
        try:
            return future.result()
        except BrokenExecutor as error:
            raise self.loss() from error

    @property
    def started(self) -> tuple[str, int]:
        """The start method, and how many processes were started."""
        return self._context.get_start_method(), len(self._context.started)

    def loss(self) -> WorkerError:
        """Return the error that says how the process ended that broke the pool."""
        self.shutdown(wait=True)  # the pool has ended the other processes by SIGTERM then
        codes = [process.exitcode for process in self._context.started]
        first = next(
            (code for code in codes if code not in (None, -signal.SIGTERM)), -signal.SIGTERM
        )
        return WorkerError(
            f"A worker process {_how_it_ended(first)} and its work is lost; nothing was changed.",
            todo="Was memory short? With --workers 1 all work is done in one process.",
        )

    def stop(self) -> None:
        """End the processes, whatever they are doing."""
        for process in self._context.started:
            if process.is_alive():
                process.kill()
        self.shutdown(wait=True)

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_method() -> str:
    """Return how to start processes: by fork where it is safe, because it costs next to nothing.

    A child forked beside other threads may inherit a lock that nobody will ever release.
    """
    safe = sys.platform.startswith("linux") and threading.active_count() == 1
    return "fork" if safe else "spawn"


class _Context:
    """A context of ``multiprocessing`` that knows which processes were started by it."""

    def __init__(self, method: str) -> None:
        self._context: Any = multiprocessing.get_context(method)
        self.started: list[BaseProcess] = []

    def Process(self, **how: Any) -> BaseProcess:  # the name that is called
        process: BaseProcess = self._context.Process(**how)
        self.started.append(process)
        return process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Let signals that end the command wait until the block ends (where the system can)."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Prepare a process of ours for its work.

    Ctrl-C, which a terminal sends to all processes, is left to the parent, which then ends this
    one. The other signals end it at once: a handler that it inherited by fork would not. It ends
    too when the parent is gone, even if that was killed: a pool's processes wait for one another
    otherwise, because each holds both ends of their pipes.
    """
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended by itself (exit code {code})"
    try:
        return f"was killed ({signal.Signals(-code).name})"
    except ValueError:
        return f"was killed (signal {-code})"


# ----------------------------------------------------------------------------- any executor


def results(
    executor: Executor, work: Work[P, T], pieces: Iterable[P], at_once: int = AT_ONCE
) -> Generator[T, None, None]:
    """Yield the answer for each piece, in order. ``at_once`` bounds how many are under way.

    Raises what the work raises, and WorkerError for whatever keeps the executor from doing it: a
    process that died, a future that was cancelled. The executor stays open; closing the iterator
    cancels what is under way.
    """
    common = (__version__, pickle.dumps(work, pickle.HIGHEST_PROTOCOL))
    token = hashlib.sha256(common[1]).hexdigest()
    under_way: deque[tuple[bytes, Future[bytes]]] = deque()
    left = iter(pieces)
    first = at_once  # nobody has what they have in common yet
    try:
        while True:
            for piece in left:
                packed = pickle.dumps(piece, pickle.HIGHEST_PROTOCOL)
                future = _submit(executor, token, common if first > 0 else None, packed)
                under_way.append((packed, future))
                first -= 1
                if len(under_way) >= at_once:
                    break
            if not under_way:
                return
            answer = _wait(executor, under_way[0][1])
            if not answer:
                future = _submit(executor, token, common, under_way[0][0])
                under_way[0] = (under_way[0][0], future)
                answer = _wait(executor, future)
            under_way.popleft()
            failed, result = pickle.loads(answer)
            if failed:
                raise result
            yield result
    finally:
        if isinstance(executor, ProcessExecutor):
            # Not by cancelling: a pool that loses its processes afterwards trips over cancelled
            # futures (CPython before 3.13).
            executor.stop()
        for _, future in under_way:
            future.cancel()


def _submit(
    executor: Executor, token: str, common: tuple[str, bytes] | None, piece: bytes
) -> Future[bytes]:
    try:
        return executor.submit(answer_piece, token, common, piece)
    except RuntimeError as error:  # it is broken, or was shut down
        raise _loss(executor, error) from error


def _wait(executor: Executor, future: Future[bytes]) -> bytes:
    while True:
        try:
            return future.result(_LOOK_SECONDS if isinstance(executor, DetectsLoss) else None)
        except MigrateError:
            raise
        except (CancelledError, Exception) as error:  # an executor's own are any
            if isinstance(error, TimeoutError) and not future.done():
                if isinstance(executor, DetectsLoss):
                    executor.check()
                continue
            raise _loss(executor, error) from error


def _loss(executor: Executor, error: BaseException) -> WorkerError:
    """Return the error to raise for one of the executor's own."""
    if isinstance(executor, ProcessExecutor) and isinstance(error, BrokenExecutor):
        return executor.loss()
    said = " ".join(str(error).split())
    return WorkerError(
        f"A part of the work was lost by its executor ({type(error).__name__}"
        f"{f': {said}' if said else ''}); nothing was changed.",
        todo="Do all workers have this Python environment, and memory enough? Then try again.",
    )


def answer_piece(token: str, common: tuple[str, bytes] | None, piece: bytes) -> bytes:
    """Do a piece of the work, in any process; return nothing where it lacks what all have."""
    global _last
    try:
        known, work = _last
        if known != token:
            if common is None:
                return b""
            version, packed = common
            if version != __version__:
                raise WorkerError(
                    f"The worker on {platform.node()} has mlflow-migrate {__version__}, this is "
                    f"{version}; nothing was changed.",
                    todo="Install the same one everywhere.",
                )
            work = pickle.loads(packed)
            work.check()
            _last = (token, work)
        answer = (False, work.do(pickle.loads(piece)))
    except Exception as error:  # noqa: BLE001  # raised again where it is waited for
        return pickle.dumps((True, error))
    return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
