"""The connection to an MLflow server: checks it, sends requests, lists what it has."""

from __future__ import annotations

import re
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

from migrator import addresses, conventions, encoding
from migrator.credentials import masked, without_credentials
from migrator.errors import MigrateError, TargetError
from migrator.http_client import OWN_CONNECTION, TOO_MANY_REQUESTS
from migrator.issues import Code

T = TypeVar("T")
R = TypeVar("R")

OLDEST = (3, 9)  # older servers can't keep everything that is sent, or were not tried
# A server has 15 connections to its database (SQLAlchemy's default pool), and a request of MLflow's
# ``log_batch`` takes a second one while it holds its first: eight could wait for each other until
# they fail. These leave a few for other people.
REQUESTS_AT_ONCE = 6
_PROMPTS = "tags.`mlflow.prompt.is_prompt` = 'true'"  # which a search leaves out by default
_PAGE = 1000  # experiments or runs an answer
_TRACES_A_PAGE = 500  # what MLflow allows
_POINTS_A_PAGE = 25_000  # what MLflow's own client asks for
_MODELS_A_PAGE = 50  # what MLflow allows
_PROBE = "/api/2.0/mlflow/experiments/search"
_PROBE_S = 10
_SETTLE_S = 3.0  # for a server to end the requests of a process that is gone
# What MLflow says when its database fails: locked, or two requests that made the same row.
_PASSING_ERRORS = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "BAD_REQUEST")
_LOGIN_STATUSES = (401, 403)
_NOT_IMPLEMENTED = 501  # what a server for files says to POST
_LOGIN_ERRORS = ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")
_HOW = "Give its address as MLflow's clients use it, such as http://127.0.0.1:5000."
_AUTH = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."


class Refused(Exception):
    """The server works, but refuses this one request; the message is its reason.

    ``is_lasting`` is False if the server failed at it: asked again, it may do it.
    """

    code = Code.SERVER_REFUSED

    def __init__(self, reason: str, *, is_lasting: bool = True) -> None:
        super().__init__(reason)
        self.is_lasting = is_lasting


def open_server(uri: str, *, to_read: bool = False) -> Connection:
    """Connect to a server, and check that it answers and is new enough. Nothing is written.

    ``to_read`` is for a connection that only reads; it changes the messages. Raises TargetError.
    """
    addresses.refuse_mistaken(uri, TargetError, _HOW)
    if not addresses.is_server_url(uri):
        raise TargetError(f"{masked(uri)} is not the address of a server.", todo=_HOW)
    connection = Connection(uri.rstrip("/"), to_read=to_read)
    connection.check()
    return connection


class Connection:
    """MLflow's own stores over REST, with the requests that all writers share."""

    def __init__(self, uri: str, *, to_read: bool = False) -> None:
        from mlflow.tracking._model_registry.utils import _get_store as registry
        from mlflow.tracking._tracking_service.utils import _get_store as tracking

        self.uri = uri
        self.shown = masked(uri)
        self.store: Any = tracking(uri)
        self.registry: Any = registry(uri)
        self.version = ""
        self.release = (0, 0)
        self._to_read = to_read
        self._written: Counter[str] = Counter()
        self._lock = threading.Lock()  # for what threads count
        self._opened = monotonic()

    @property
    def is_here(self) -> bool:
        """True if the server runs on this machine, so that its local paths are ours."""
        host = urllib.parse.urlsplit(self.uri).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")

    # ------------------------------------------------------------------------- asking

    def call(self, ask: Callable[..., R], *arguments: Any, **named: Any) -> R:
        """Send a request by calling ``ask``.

        Raises Refused if the server refuses this one request, and TargetError if it is gone or
        refuses the login. Retries are MLflow's own (``MLFLOW_HTTP_REQUEST_MAX_RETRIES``).
        """
        from mlflow.exceptions import MlflowException, RestException

        try:
            return ask(*arguments, **named)
        except MlflowException as error:
            code = str(getattr(error, "error_code", ""))
            said = self._line(error)
            if code in _LOGIN_ERRORS:
                raise self.lost(f"it refuses the login: {said}", _AUTH) from error
            is_lasting = isinstance(error, RestException) and code not in _PASSING_ERRORS
            if not is_lasting:
                why = self.find_problem()
                if why is not None:
                    raise self.lost(why[0], why[1]) from error
            raise Refused(said.removeprefix(f"{code}: "), is_lasting=is_lasting) from error
        except (OSError, NotImplementedError) as error:
            # Errors of requests are OSErrors. MLflow's client raises NotImplementedError where the
            # server did not tell its release.
            why = self.find_problem()
            if why is not None:
                raise self.lost(why[0], why[1]) from error
            raise Refused(self._line(error), is_lasting=False) from error

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Raise TargetError for requests that the server refuses and nothing in the block handles.

        Without them what follows can't be written.
        """
        try:
            yield
        except Refused as error:
            raise self.lost(f"it refuses a request: {error}", "See the server's log.") from error

    def each(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Call ``work`` on every item, several at once; return the results in order.

        Of several errors the first is raised, after every call that began has ended.
        """
        if len(items) < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(min(REQUESTS_AT_ONCE, len(items))) as pool:
            try:
                return list(pool.map(work, items))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def settle(self) -> bool:
        """Wait until requests from before this connection have ended. Returns True if it waited.

        The process that made them was gone before, so it waits only for the rest of ``_SETTLE_S``
        since the connection was opened.
        """
        left = self._opened + _SETTLE_S - monotonic()
        if left > 0:
            sleep(left)
        return left > 0

    def lost(self, why: str, todo: str = "") -> TargetError:
        """Return the error that ends a conversion, midway or before it began."""
        wanted = "read" if self._to_read else "written"
        what = f"{self.shown} can't be {wanted}: {why}. {self.written_so_far()}".rstrip()
        return TargetError(what, todo=todo)

    def count_written(self, kind: str) -> None:
        """Count one item (``runs``, ``traces``, …) that the server has got. Threads may call it."""
        with self._lock:
            self._written[kind] += 1

    def written_so_far(self) -> str:
        """Describe, for an error, what the server has got. Empty for a connection that reads."""
        if self._to_read:
            return ""
        if not self._written:
            return "Nothing was written."
        counts = ", ".join(f"{number:,} {kind}" for kind, number in self._written.items())
        return f"By then it had been given {counts}; convert again, and the rest is added."

    def find_problem(self) -> tuple[str, str] | None:
        """Send one small request, once. Returns the problem and its fix, None if there is none."""
        from mlflow.exceptions import MlflowException
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        try:
            answer = http_request(
                get_default_host_creds(self.uri), _PROBE, "POST", max_retries=0,
                timeout=_PROBE_S, raise_on_status=False, extra_headers=OWN_CONNECTION,
                json={"max_results": 1},
            )  # fmt: skip
            code = int(answer.status_code)
            if code in _LOGIN_STATUSES:
                return f"it refuses the login ({code})", _AUTH
            if code == TOO_MANY_REQUESTS:
                return f"it answers {code}: too many requests", "Try again later."
            is_other = 300 <= code < 500 or code == _NOT_IMPLEMENTED
            if is_other or (code < 300 and not _is_answer(answer)):
                return "something answers there, but it is not an MLflow server", _HOW
            if code >= 500:
                return f"it answers {code}", "See the server's log."
            return None
        except (MlflowException, OSError, ValueError) as error:
            return self._unreachable(error)

    def check(self) -> None:
        """Raise TargetError unless the server answers and its release was tried with this tool."""
        from mlflow.exceptions import MlflowException
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        why = self.find_problem()
        if why is not None:
            raise self.lost(why[0], why[1])
        try:
            answer = http_request(
                get_default_host_creds(self.uri), "/version", "GET", max_retries=0,
                timeout=_PROBE_S, raise_on_status=False, extra_headers=OWN_CONNECTION,
            )  # fmt: skip
        except (MlflowException, OSError) as error:
            raise self.lost(*self._unreachable(error)) from error
        found = (
            re.match(r"(\d+)\.(\d+)", answer.text.strip()) if answer.status_code == 200 else None
        )
        self.version = answer.text.strip()[:40] if found else "an unknown release"
        self.release = (int(found[1]), int(found[2])) if found else (0, 0)
        if self.release < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise self.lost(
                f"the server is MLflow {self.version}, and {oldest} is the oldest that can take "
                "traces, logged models and their links",
                f"Upgrade the server to {oldest} or later, or convert into a SQLite file.",
            )

    def _unreachable(self, error: Exception) -> tuple[str, str]:
        text = str(error)
        low = text.lower()
        if "certificate" in low or "ssl" in low:
            reason = re.search(r"certificate verify failed[^()\n]*|wrong version number", text)
            return (
                f"its certificate or TLS is not accepted ({reason[0] if reason else 'SSL error'})",
                "Give http:// for a server without TLS; for a certificate of your own set "
                "MLFLOW_TRACKING_SERVER_CERT_PATH.",
            )
        if "refused" in low:
            return (
                "nothing listens there (connection refused)",
                "Start the server, or check the port.",
            )
        if "timed out" in low or "timeout" in low:
            return (
                f"it doesn't answer within {_PROBE_S} s",
                "Check that it runs and can be reached.",
            )
        if "resolve" in low or "name or service" in low or "getaddrinfo" in low:
            return "there is no host of that name", _HOW
        return f"it can't be reached ({self._line(error)})", _HOW

    def _line(self, error: Exception) -> str:
        text = without_credentials(str(error).replace(self.uri, self.shown))
        return encoding.cut((text.splitlines() or [""])[0], 300).rstrip(".")

    # ------------------------------------------------------------------------ listing

    def experiments(self) -> Iterator[Any]:
        """Yield all experiments, deleted ones too."""
        from mlflow.entities import ViewType

        yield from self._pages(
            lambda token: self.store.search_experiments(ViewType.ALL, _PAGE, page_token=token)
        )

    def runs(self, experiment_id: str) -> Iterator[Any]:
        """Yield the runs of an experiment that conversions wrote, deleted ones too."""
        from mlflow.entities import ViewType

        ours = f"tags.`{conventions.MIGRATOR_SOURCE_RUN}` LIKE '%'"
        yield from self._pages(
            lambda token: self.store.search_runs(
                [experiment_id], ours, ViewType.ALL, _PAGE, None, token
            )
        )

    def logged_models(self, experiment_id: str) -> Iterator[Any]:
        """Yield the logged models of an experiment; MLflow hides deleted ones."""
        yield from self._pages(
            lambda token: self.store.search_logged_models(
                [experiment_id], max_results=_MODELS_A_PAGE, page_token=token
            )
        )

    def registered_models(self) -> Iterator[Any]:
        """Yield all registered models, and prompts, which MLflow lists apart."""
        search = self.registry.search_registered_models
        for wanted in (None, _PROMPTS):
            yield from self._pages(partial(search, wanted, _MODELS_A_PAGE, None))

    def traces(self, experiment_id: str) -> Iterator[Any]:
        """Yield the traces of an experiment, without their spans."""

        def page(token: str | None) -> tuple[Sequence[Any], str | None]:
            found: tuple[Sequence[Any], str | None] = self.store.search_traces(
                locations=[experiment_id], max_results=_TRACES_A_PAGE, page_token=token,
                order_by=["timestamp_ms ASC"],
            )  # fmt: skip
            return found

        yield from self._pages(page)

    def evaluation_datasets(self) -> Iterator[Any]:
        """Yield all evaluation datasets, without their records."""
        yield from self._pages(
            lambda token: self.store.search_datasets(max_results=_PAGE, page_token=token)
        )

    def evaluation_items(self, dataset_id: str) -> Iterator[Any]:
        """Yield the records of an evaluation dataset."""
        yield from self._pages(
            lambda token: self.store._load_dataset_records(dataset_id, _PAGE, token)
        )

    def webhooks(self) -> Iterator[Any]:
        """Yield all webhooks; MLflow shows no deleted ones."""
        yield from self._pages(lambda token: self.registry.list_webhooks(_PAGE, token))

    def metric_history(self, run_id: str, key: str) -> Iterator[Any]:
        """Yield all points of a metric, page by page: without a limit MLflow 3.9 returns none."""
        yield from self._pages(
            lambda token: self.store.get_metric_history(run_id, key, _POINTS_A_PAGE, token)
        )

    def _pages(self, ask: Callable[[str | None], Any]) -> Iterator[Any]:
        token = None
        while True:
            try:
                page = self.call(ask, token)
            except Refused as error:
                raise self.lost(f"it can't list what it has: {error}") from error
            items, token = page if isinstance(page, tuple) else (page, page.token)
            yield from items
            if not token:
                return

    # ------------------------------------------------------------------------ artifacts

    def upload(self, uri: str, files: Sequence[tuple[str, str]]) -> None:
        """Send files, each given as a path below ``uri`` and the path to open.

        Raises TargetError, and Refused for any error of an artifact store: their libraries have
        exceptions of their own.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository = self.call(get_artifact_repository, uri, tracking_uri=self.uri)
        for name, path in files:
            folder, _, last = name.rpartition("/")
            if Path(path).name != last:
                raise Refused(f"{name} is a link to a file of another name")
            try:
                self.call(repository.log_artifact, path, folder or None)
            except (MigrateError, Refused):
                raise
            except Exception as error:  # boto3's, Azure's, Google's: no common base
                raise Refused(self._line(error)) from error


def _is_answer(answer: Any) -> bool:
    try:
        value = answer.json()
    except ValueError:
        return False
    return isinstance(value, dict) and not value.keys() - {"experiments", "next_page_token"}
