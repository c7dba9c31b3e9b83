"""Requests to an MLflow server: login, retries, several at once, errors in one sentence.

``mlflow`` is not imported, but its environment variables count: MLFLOW_TRACKING_USERNAME and
_PASSWORD, _TOKEN, _INSECURE_TLS, _SERVER_CERT_PATH, _CLIENT_CERT_PATH, MLFLOW_WORKSPACE,
MLFLOW_HTTP_REQUEST_TIMEOUT and _MAX_RETRIES; and so do ``~/.mlflow/credentials`` and ``~/.netrc``.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from migrator import addresses
from migrator.credentials import masked, without_secrets
from migrator.errors import SourceError
from migrator.extractor.rest.values import parsed
from migrator.http_client import (
    TOO_MANY_REQUESTS,
    failure_reason,
    retries,
    without_retry_warnings,
)

T = TypeVar("T")
R = TypeVar("R")

OLDEST = (2, 9)
API = "/api/2.0/mlflow"
API_3 = "/api/3.0/mlflow"
PAGES = "/ajax-api/2.0/mlflow"  # what only MLflow's own pages ask for
_RETRIED = (429, 500, 502, 503, 504)
_RETRIED_ITEMS = (429, 502, 503, 504)  # 500 is MLflow's answer for an artifact that is not there
_ITEM_PATHS = (
    *(f"{PAGES}/get-trace-artifact", f"{PAGES}/logged-models", f"{API}/logged-models/m-"),
    *(f"{API}/artifacts", "/get-artifact"),
)
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_NOT_IMPLEMENTED = 501
_TRIES = 4
_TIMEOUT_S = 120
_CHUNK_BYTES = 1 << 20
_MAX_REASON_CHARS = 300
_HOW = "Give its address as MLflow's clients use it, such as http://127.0.0.1:5000."
_AUTH = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."


class Refused(Exception):
    """The server works, and answers one request with an error. The text is its reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    @property
    def is_unknown(self) -> bool:
        """Whether the server does not have what was asked for, or not this part of the API."""
        return self.status in (404, 405, _NOT_IMPLEMENTED)


class Client:
    """Sends requests to one server. Threads may share it. Nothing is ever written.

    ``version`` is what the server calls itself, and ``release`` its first two numbers; they are
    (0, 0) where it does not say.
    """

    def __init__(self, uri: str, requests_at_once: int) -> None:
        """Check the address, and take the login from it or the environment. Raises SourceError."""
        addresses.refuse_mistaken(uri, SourceError, _HOW)
        if not addresses.is_server_url(uri):
            raise SourceError(f"{masked(uri)} is not the address of a server.", todo=_HOW)
        parts = urlsplit(uri)
        host = parts.netloc.rpartition("@")[2]
        self.shown = masked(uri).rstrip("/")
        self.version = ""
        self.release = (0, 0)
        self._base = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        self._at_once = requests_at_once
        self._secrets: list[str] = []
        self._session = requests.Session()
        self._session.auth = self._login(parts.username, parts.password)
        self._verify, self._session.cert = _certificates()
        self._timeout_s = _number_in("MLFLOW_HTTP_REQUEST_TIMEOUT", _TIMEOUT_S)
        workspace = os.environ.get("MLFLOW_WORKSPACE")
        if workspace:
            self._session.headers["X-MLFLOW-WORKSPACE"] = workspace
        total = _number_in("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _TRIES - 1)
        self._mount("", total, _RETRIED)
        for path in _ITEM_PATHS:
            self._mount(path, total, _RETRIED_ITEMS)

    def _mount(self, path: str, total: int, statuses: tuple[int, ...]) -> None:
        retry = retries(total, ["GET", "POST"], statuses)
        adapter = HTTPAdapter(pool_maxsize=self._at_once, max_retries=retry)
        self._session.mount(self._base + path, adapter)

    def _login(self, user: str | None, password: str | None) -> AuthBase | None:
        """The login: the one in the address, then MLflow's; without one, requests asks netrc."""
        if user is not None:
            user, password = unquote(user), unquote(password or "")
        else:
            saved = _saved_login()
            user = os.environ.get("MLFLOW_TRACKING_USERNAME") or saved[0]
            password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or saved[1]
        token = os.environ.get("MLFLOW_TRACKING_TOKEN")
        self._secrets = [secret for secret in (password, token) if secret]
        if user and password is not None:
            return HTTPBasicAuth(user.encode(), password.encode())
        return _Bearer(token) if token else None

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    # ------------------------------------------------------------------------- the server

    def check(self) -> None:
        """Raise SourceError unless an MLflow server answers that is new enough."""
        try:
            found = self.ask("POST", f"{API}/experiments/search", json={"max_results": 1})
        except Refused as error:
            if error.status == _FORBIDDEN:
                raise self.failed(f"it refuses the login ({_FORBIDDEN})", _AUTH) from error
            raise self._not_mlflow(error.status) from error
        if found.keys() - {"experiments", "next_page_token"}:
            raise self._not_mlflow(200)
        text = ""
        with contextlib.suppress(Refused):  # a proxy may hide it
            text = self._send("GET", "/version").text.strip()
        number = re.match(r"(\d+)\.(\d+)", text)
        if number is None:
            self.version = "of an unknown release"
            return
        self.version, self.release = text[:40], (int(number[1]), int(number[2]))
        if self.release < OLDEST:
            raise self.failed(
                f"the server is MLflow {self.version}, and its API gives too little before "
                f"{'.'.join(map(str, OLDEST))}",
                "Give the server's database or its mlruns directory; any release of these is read.",
            )

    def _not_mlflow(self, status: int) -> SourceError:
        if status >= 500 and status != _NOT_IMPLEMENTED:  # what a server for files says to POST
            return self.failed(f"it answers {status}", "See the server's log.")
        if status == TOO_MANY_REQUESTS:
            return self.failed(f"it answers {status}: too many requests", "Try again later.")
        return self.failed("something answers there, but it is not an MLflow server", _HOW)

    def failed(self, why: str, todo: str = "") -> SourceError:
        """The error that ends the reading, before or in the middle of it."""
        why = without_secrets(" ".join(why.split()), self._secrets)
        return SourceError(f"{self.shown} can't be read: {why}.", todo=todo)

    # ---------------------------------------------------------------------------- asking

    def ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Send a request, and return the JSON object of the answer.

        Raises Refused for an answer that is an error, and SourceError if the server is gone,
        refuses the login, or does not answer in JSON.
        """
        answer = self._send(method, path, **request)
        value = _json_of(answer)
        if not isinstance(value, dict):
            raise self._not_mlflow(200)
        return value

    def refused(self, path: str, error: Refused) -> SourceError:
        """The error where an answer that is an error ends the reading."""
        why = f"it answers {error.status} to {path}: {error}"
        return self.failed(why, "See the server's log, and convert again.")

    def pages(
        self, items: str, method: str, path: str, body: Mapping[str, Any]
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield the lists ``items`` of all pages. The first may raise Refused, all SourceError.

        A list may be given as JSON text, as that of the records of evaluation datasets is.
        """
        argument = "json" if method == "POST" else "params"
        answer = self.ask(method, path, **{argument: dict(body)})
        token = None
        while True:
            listed = parsed(answer.get(items)) or ()
            yield [each for each in listed if isinstance(each, dict)]
            last, token = token, answer.get("next_page_token")
            if not token:
                return
            if token == last:
                raise self.failed(f"{path} gives the same page again and again")
            try:
                answer = self.ask(method, path, **{argument: {**body, "page_token": token}})
            except Refused as error:
                raise self.refused(path, error) from error

    def fetch(self, path: str, params: Mapping[str, Any], to: str) -> None:
        """Write the content of an answer into a file. Raises Refused, SourceError and OSError."""
        answer = self._send("GET", path, params=params, stream=True)
        try:
            with open(to, "wb") as file, answer:
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    file.write(chunk)
        except requests.RequestException as error:
            raise self._gone(error) from None

    def each(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Call ``work`` on every item, several at once; yield the results in order.

        Results wait only for a few items, so that they need not fit into memory together.
        """
        waiting: deque[Future[R]] = deque()
        with ThreadPoolExecutor(self._at_once, "ask") as pool:
            try:
                for item in items:
                    waiting.append(pool.submit(work, item))
                    if len(waiting) >= 2 * self._at_once:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _send(self, method: str, path: str, **request: Any) -> requests.Response:
        try:
            with without_retry_warnings():
                answer = self._session.request(
                    method, self._base + path, timeout=self._timeout_s, verify=self._verify,
                    allow_redirects=False, **request,
                )  # fmt: skip
        except OSError as error:  # every RequestException is one
            raise self._gone(error) from None
        status = answer.status_code
        if status == _UNAUTHORIZED:
            raise self.failed(f"it refuses the login ({status})", _AUTH)
        if answer.is_redirect:
            place = masked(answer.headers["Location"])
            raise self.failed(f"it redirects to {place}", "Give the address that it redirects to.")
        if status != 200:
            raise Refused(status, self._reason_in(answer))
        return answer

    def _gone(self, error: OSError) -> SourceError:
        variable = "MLFLOW_TRACKING_SERVER_CERT_PATH"
        why = failure_reason(error, self._timeout_s, variable)
        return self.failed(why, "Check the address, and that the server runs and can be reached.")

    def _reason_in(self, answer: requests.Response) -> str:
        value = _json_of(answer)
        reason = value.get("message") if isinstance(value, dict) else None
        text = " ".join(str(reason or answer.reason or "no reason given").split())
        return without_secrets(text[:_MAX_REASON_CHARS].rstrip(". "), self._secrets)


def _json_of(answer: requests.Response) -> Any:
    """The JSON value of an answer, None where it is not JSON.

    It is UTF-8 whatever the type of its content is: MLflow 3.17 sends spans as text, which
    ``requests`` would take for Latin-1.
    """
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        return None


class _Bearer(AuthBase):
    """A token as the login. As an object of its own, so that netrc does not replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _number_in(variable: str, default: int) -> int:
    """The whole number in an environment variable. Raises SourceError for anything else."""
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal():
        raise SourceError(
            f"{variable} is {text!r}, not a whole number.", todo="Change or unset it."
        )
    return int(text)


def _saved_login() -> tuple[str | None, str | None]:
    """User and password in MLflow's own file, which ``mlflow.utils.credentials`` (3.9) reads."""
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read(Path("~/.mlflow/credentials").expanduser())
    except (configparser.Error, OSError, UnicodeDecodeError):
        return None, None
    if "mlflow" not in config:
        return None, None
    section = config["mlflow"]
    return section.get("mlflow_tracking_username"), section.get("mlflow_tracking_password")


def _certificates() -> tuple[bool | str | None, str | None]:
    """Which certificates to trust (None: as requests does), and the client's own."""
    is_insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    trusted: bool | str | None = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None
    own = os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH") or None
    for path in (trusted, own):
        if isinstance(path, str) and not Path(path).exists():
            raise SourceError(
                f"The certificate file {path} does not exist.",
                todo="Check MLFLOW_TRACKING_SERVER_CERT_PATH and MLFLOW_TRACKING_CLIENT_CERT_PATH.",
            )
    return (False if is_insecure else trusted), own
