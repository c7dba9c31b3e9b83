"""Work done by any ``concurrent.futures`` executor: answered in order, and never all at once.

What all pieces of the work have in common can be big, and no executor says which of its processes
has it by now. So a piece goes without it; a process that lacks it asks, and the piece is sent once
more with it. A process that joins late, or takes the place of one that died, needs nothing else.
"""

from __future__ import annotations

import hashlib
import pickle
import platform
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import CancelledError, Executor, Future, TimeoutError
from typing import Any, Protocol, TypeVar, runtime_checkable

from migrator import __version__
from migrator.errors import MigrateError, WorkerError

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
class Watched(Protocol):
    """An executor that can tell when it will never answer."""

    def check(self) -> None:
        """Raise WorkerError when what is under way can't end. Called while it is waited for."""


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
        for _, future in under_way:
            future.cancel()


def _submit(
    executor: Executor, token: str, common: tuple[str, bytes] | None, piece: bytes
) -> Future[bytes]:
    try:
        return executor.submit(answer_piece, token, common, piece)
    except RuntimeError as error:  # it is broken, or was shut down
        raise _lost(error) from error


def _wait(executor: Executor, future: Future[bytes]) -> bytes:
    while True:
        try:
            return future.result(_LOOK_SECONDS if isinstance(executor, Watched) else None)
        except MigrateError:
            raise
        except (CancelledError, Exception) as error:  # an executor's own are any
            if isinstance(error, TimeoutError) and not future.done():
                if isinstance(executor, Watched):
                    executor.check()
                continue
            raise _lost(error) from error


def _lost(error: BaseException) -> WorkerError:
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
