"""A Dask cluster as an executor that notices when no worker is left.

The executor of a ``distributed`` client waits for ever in that case.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from migrator import __version__
from migrator.errors import OptionError, WorkerError

T = TypeVar("T")

CONNECT_SECONDS = 5.0
PATIENCE_SECONDS = 30.0  # without any worker; a restarted worker is back sooner


class DaskExecutor(Executor):
    """The executor of a Dask client that can check whether calls under way will end."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._inner = client.get_executor(pure=False)
        self._patience = PATIENCE_SECONDS
        self._seen = time.monotonic()  # when the last worker was seen

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a call on any worker. If the worker dies, Dask runs the call on another."""
        future: Future[T] = self._inner.submit(fn, *args, **kwargs)
        return future

    def threads(self) -> int:
        """Return the number of calls that run at once. Raises WorkerError without a worker."""
        while not (threads := self._threads()):
            self.check()
            time.sleep(0.2)
        return threads

    def check(self) -> None:
        """Raise WorkerError if there was no worker for 30 seconds, or the scheduler is gone."""
        if self._threads():
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > self._patience:
            raise WorkerError(
                f"The Dask cluster {self._client.scheduler.addr} has had no worker for "
                f"{self._patience:.0f} s; nothing was changed.",
                todo="Start workers (dask worker ADDRESS) and try again.",
            )

    def _threads(self) -> int:
        try:
            return sum(self._client.nthreads().values())
        except (OSError, RuntimeError) as error:  # the connection is gone, or was closed
            raise WorkerError(
                f"The Dask scheduler is gone ({error}); nothing was changed.",
                todo="Start it and try again.",
            ) from error


@contextmanager
def connect(address: str) -> Iterator[DaskExecutor]:
    """Yield the executor of a cluster, given the scheduler's address or its scheduler file.

    Raises OptionError if ``distributed`` is not installed or the address is invalid, and
    WorkerError if no scheduler answers or a worker has another version of mlflow-migrate.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise OptionError(
            "--dask needs the package distributed.", todo="pip install 'mlflow-migrate[dask]'"
        ) from error
    address = _address(address)
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")  # about versions of packages that we don't use
        _greet(address)
        client: Any = Client(  # type: ignore[no-untyped-call]  # distributed has no types
            address, timeout=CONNECT_SECONDS, set_as_default=False, name="mlflow-migrate"
        )
        try:
            executor = DaskExecutor(client)
            executor.threads()
            _check_versions(client)
            yield executor
        finally:
            with contextlib.suppress(OSError, RuntimeError):
                client.close(timeout=CONNECT_SECONDS)


def _address(given: str) -> str:
    """Return the address in a scheduler file; anything else is returned as given."""
    path = Path(given)
    if "://" in given or not (path.suffix == ".json" or path.is_file()):
        return given
    try:
        address = json.loads(path.read_text(encoding="utf-8"))["address"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"--dask {given} can't be read as a scheduler file ({type(error).__name__}: {error}).",
            todo="Give the file that dask scheduler --scheduler-file writes, or tcp://host:8786.",
        ) from error
    return str(address)


def _greet(address: str) -> None:
    """Raise OptionError or WorkerError unless a scheduler answers.

    A ``Client`` would take longer to fail, and log errors when it is discarded.
    """
    from distributed import rpc

    async def identity() -> Any:
        # distributed has types for hardly any of its functions
        async with rpc(address, timeout=CONNECT_SECONDS) as other:  # type: ignore[no-untyped-call]
            return await asyncio.wait_for(other.identity(), CONNECT_SECONDS)

    try:
        with ThreadPoolExecutor(1) as thread:  # this thread may have an event loop
            found = thread.submit(asyncio.run, identity()).result()["type"]
    except (ValueError, TypeError) as error:  # the latter for TLS that is not configured
        raise OptionError(
            f"--dask {address} is not a valid address: {error}.",
            todo="Give the scheduler's as tcp://host:8786, or name its scheduler file.",
        ) from error
    except (OSError, asyncio.TimeoutError) as error:
        raise WorkerError(
            f"No Dask scheduler answered at {address} within {CONNECT_SECONDS:.0f} s; nothing "
            "was changed.",
            todo="Check that it runs and can be reached from here.",
        ) from error
    if found != "Scheduler":
        raise OptionError(
            f"--dask {address} is the address of a {found.lower()}.", todo="Give the scheduler's."
        )


def version() -> str:
    """Return the version of mlflow-migrate. It is called on a worker."""
    return __version__


def _check_versions(client: Any) -> None:
    """Raise WorkerError if a worker does not have this version of mlflow-migrate."""
    for worker, found in sorted(client.run(version, on_error="return").items()):
        if found != __version__:
            has = f"mlflow-migrate {found}" if isinstance(found, str) else f"none ({found})"
            raise WorkerError(
                f"The Dask worker {worker} has {has}, this is mlflow-migrate {__version__}; "
                "nothing was changed.",
                todo="Install the same version on every worker.",
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Dask's log about lost connections; our own errors report them."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
