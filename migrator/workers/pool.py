"""Runs work on any ``concurrent.futures`` executor; results come in order, memory is bounded.

``ProcessExecutor`` is the default executor. The data that all pieces of the work share can be big,
and an executor does not tell which of its processes already has them. So a piece is sent without
them, and a process that lacks them asks for the piece again with them. A process that joins late
or replaces a dead one therefore needs no special treatment.
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

AT_ONCE = 64  # pieces under way if the number of workers is unknown
_LOOK_SECONDS = 1.0  # between two checks of an executor that detects loss

# The shared data of this process's last piece, by digest: most pieces belong to the same work.
_last: tuple[str, Any] = ("", None)


class Work(Protocol[P_contra, T_co]):
    """The shared data and the function of all pieces. Pieces and results are pickled too."""

    def check(self) -> None:
        """Raise MigrateError if this process can't do the work. Called once in each process."""

    def do(self, piece: P_contra, /) -> T_co:
        """Return the result of a piece. Several threads may call this at the same time."""


@runtime_checkable
class DetectsLoss(Protocol):
    """An executor that notices when its calls will never end."""

    def check(self) -> None:
        """Raise WorkerError if calls under way can't end. Called repeatedly while waiting."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# ----------------------------------------------------------------------- our own processes


class ProcessExecutor(ProcessPoolExecutor):
    """A process pool whose processes end with the ``with`` block, or with this process.

    ``method`` is a start method of ``multiprocessing``; the default is ``fork`` if that is safe.
    """

    def __init__(self, workers: int, method: str | None = None) -> None:
        self._context = _Context(method or start_method())
        context: Any = self._context
        with _signals_held():  # may start a helper process of multiprocessing
            super().__init__(workers, mp_context=context, initializer=_begin)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a call in one of the processes, which are started when they are needed.

        A new process inherits the blocked signals, so that Ctrl-C can't reach it before ``_begin``
        ignores SIGINT.
        """
        with _signals_held():
            return super().submit(fn, *args, **kwargs)

    def call(self, fn: Callable[..., T], /, *args: Any) -> T:
        """Run a call and wait for it. Raises its exception, or WorkerError if its process died."""
        future = self.submit(fn, *args)
        try:
            return future.result()
        except BrokenExecutor as error:
            raise self.loss() from error

    @property
    def started(self) -> tuple[str, int]:
        """The start method, and the number of processes that were started."""
        return self._context.get_start_method(), len(self._context.started)

    def loss(self) -> WorkerError:
        """Return an error about the process whose end broke the pool."""
        self.shutdown(wait=True)  # the pool ends the other processes by SIGTERM
        codes = [process.exitcode for process in self._context.started]
        first = next(
            (code for code in codes if code not in (None, -signal.SIGTERM)), -signal.SIGTERM
        )
        return WorkerError(
            f"A worker process {_how_it_ended(first)} and its work is lost; nothing was changed.",
            todo="Check the free memory. With --workers 1 one process does all the work.",
        )

    def stop(self) -> None:
        """Kill the processes, even if they are working."""
        for process in self._context.started:
            if process.is_alive():
                process.kill()
        self.shutdown(wait=True)

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_method() -> str:
    """Return ``fork``, which is fast, if it is safe, otherwise ``spawn``.

    It is not safe beside other threads: a child may inherit a lock that no thread releases.
    """
    safe = sys.platform.startswith("linux") and threading.active_count() == 1
    return "fork" if safe else "spawn"


class _Context:
    """A context of ``multiprocessing`` that keeps the processes it started."""

    def __init__(self, method: str) -> None:
        self._context: Any = multiprocessing.get_context(method)
        self.started: list[BaseProcess] = []

    def Process(self, **how: Any) -> BaseProcess:  # called by this name
        process: BaseProcess = self._context.Process(**how)
        self.started.append(process)
        return process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Block the signals that end a command until the block ends (not on Windows)."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Prepare a worker process.

    A terminal sends Ctrl-C to all processes. Workers ignore it, because the parent ends them. The
    other signals end a worker at once, without the handlers that it inherited by fork. A worker
    also ends when its parent is gone, even if that was killed; otherwise the workers of a pool
    would wait for one another, because each holds both ends of their pipes.
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
    """Yield the result of each piece in order, with at most ``at_once`` pieces under way.

    Raises the exceptions of the work, and WorkerError if the executor fails: a process died, a
    future was cancelled. The executor stays open. Closing the iterator cancels pending pieces.
    """
    common = (__version__, pickle.dumps(work, pickle.HIGHEST_PROTOCOL))
    token = hashlib.sha256(common[1]).hexdigest()
    under_way: deque[tuple[bytes, Future[bytes]]] = deque()
    left = iter(pieces)
    first = at_once  # the first pieces carry the shared data
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
    except RuntimeError as error:  # the executor is broken or shut down
        raise _loss(executor, error) from error


def _wait(executor: Executor, future: Future[bytes]) -> bytes:
    while True:
        try:
            return future.result(_LOOK_SECONDS if isinstance(executor, DetectsLoss) else None)
        except MigrateError:
            raise
        except (CancelledError, Exception) as error:  # an executor may raise any exception
            if isinstance(error, TimeoutError) and not future.done():
                if isinstance(executor, DetectsLoss):
                    executor.check()
                continue
            raise _loss(executor, error) from error


def _loss(executor: Executor, error: BaseException) -> WorkerError:
    """Return a WorkerError for an exception of the executor."""
    if isinstance(executor, ProcessExecutor) and isinstance(error, BrokenExecutor):
        return executor.loss()
    said = " ".join(str(error).split())
    return WorkerError(
        f"The executor lost a part of the work ({type(error).__name__}"
        f"{f': {said}' if said else ''}); nothing was changed.",
        todo="Check that all workers have this Python environment and enough memory, and try "
        "again.",
    )


def answer_piece(token: str, common: tuple[str, bytes] | None, piece: bytes) -> bytes:
    """Return the pickled result of a piece; b"" if this process lacks the shared data."""
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
                    todo="Install the same version everywhere.",
                )
            work = pickle.loads(packed)
            work.check()
            _last = (token, work)
        answer = (False, work.do(pickle.loads(piece)))
    except Exception as error:  # noqa: BLE001  # raised again by the parent
        return pickle.dumps((True, error))
    return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
