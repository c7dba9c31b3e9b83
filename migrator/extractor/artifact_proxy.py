"""A server's artifact proxy: lists and fetches what ``mlflow-artifacts:`` locations name.

The API is MLflow's own, ``/api/2.0/mlflow-artifacts/artifacts`` (``mlflow/server/handlers.py``,
1.24 on): a GET with ``path`` lists one directory, a GET of a path below it sends a file. The
logins are those of MLflow's clients: ``MLFLOW_TRACKING_USERNAME`` and its relatives.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from migrator.addresses import is_http, is_server_url
from migrator.credentials import masked, without_credentials
from migrator.errors import SourceError
from migrator.extractor.mirrors import NotServed

PROXY_API = "/api/2.0/mlflow-artifacts/artifacts"
_TIMEOUT_S = 30
_RETRIES = 3
_BACKOFF_S = 0.5
_BLOCK_BYTES = 1 << 20
_LOGIN = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
_CERTIFICATE = (
    "Set MLFLOW_TRACKING_SERVER_CERT_PATH to the certificate of the server's authority, or give "
    "http:// for a server without TLS."
)
_NO_PROXY = (
    "Start the server with --serve-artifacts and the --artifacts-destination that it had, or give "
    "the directory or bucket of that destination."
)


def proxy_root(address: str) -> str | None:
    """The address of the proxy's API on a server, None for what is not a server's URL."""
    given = address.rstrip("/")
    if not is_http(given) or not is_server_url(given):
        return None
    return given if given.endswith(PROXY_API) else f"{given}{PROXY_API}"


class ProxiedFile(NamedTuple):
    """A file that the proxy lists: its path below the proxy's root, and its size in bytes."""

    path: str
    size_bytes: int | None


class ArtifactProxy:
    """The artifact proxy of one server; ``root`` is the address of its API (``proxy_root``)."""

    at_once = 16

    def __init__(self, root: str) -> None:
        self.shown = masked(root)
        self._server = root.removesuffix(PROXY_API)
        self._place = masked(self._server)

    def files_below(
        self, folder: str, is_wanted: Callable[[str], bool] = lambda path: True
    ) -> list[ProxiedFile]:
        """List every file below a folder, level by level, the folders of a level at once.

        A folder whose path is not ``is_wanted`` is not looked into. Raises SourceError.
        """
        found: list[ProxiedFile] = []
        seen = {folder}
        level = [folder]
        with ThreadPoolExecutor(self.at_once, "list") as threads:
            while level:
                below: list[str] = []
                for entries in threads.map(self._entries, level):
                    for path, is_folder, size in entries:
                        if not is_folder:
                            found.append(ProxiedFile(path, size))
                        elif path not in seen and is_wanted(path):  # S3's may list itself
                            seen.add(path)
                            below.append(path)
                level = below
        return found

    def _entries(self, folder: str) -> Sequence[tuple[str, bool, int | None]]:
        response = self._ask("", params={"path": folder} if folder else {})
        return list(_entries_of(self._json(response), folder))

    def get(self, key: str, to: str, check: Callable[[], None]) -> None:
        """Write a file's content into a local file; ``key`` is its path below the root.

        ``check`` is called meanwhile and may raise. Raises FileNotFoundError, PermissionError,
        NotServed and SourceError.
        """
        import requests

        with self._ask(f"/{urllib.parse.quote(key)}", stream=True) as response:
            try:
                with open(to, "wb") as file:
                    for block in response.iter_content(_BLOCK_BYTES):
                        file.write(block)
                        check()
            except requests.RequestException as error:
                raise self._problem(str(error)) from None

    def _ask(self, path: str, **how: Any) -> Any:
        """Send a GET. Raises FileNotFoundError, PermissionError, NotServed and SourceError."""
        from mlflow.exceptions import MlflowException
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        try:
            response = http_request(
                get_default_host_creds(self._server), f"{PROXY_API}{path}", "GET",
                max_retries=_RETRIES, backoff_factor=_BACKOFF_S, timeout=_TIMEOUT_S,
                retry_codes=(429, 500, 502, 504), raise_on_status=False, **how,
            )  # fmt: skip
        except MlflowException as error:
            raise self._problem(str(error)) from None
        status = int(response.status_code)
        if status == 200:
            return response
        if path and status == 404:
            raise FileNotFoundError(f"the server has no {path}")
        if path and status == 403:
            raise PermissionError(f"the server refuses {path} (403)")
        if path and status == 500:  # MLflow 3.9 answers so for a name that is not ASCII
            raise NotServed(f"the server answers {status} for {path}")
        raise self._refusal(status, without_credentials(response.text[:300]))

    def _json(self, response: Any) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("files", []), list):
            raise SourceError(
                f"{self._place} answers, but it is not an MLflow server with an artifact proxy.",
                todo="Give its address as MLflow's clients use it, such as http://127.0.0.1:5000.",
            )
        return answer

    def _refusal(self, status: int, text: str) -> SourceError:
        if status in (401, 403):
            return SourceError(f"{self._place} refuses the login ({status}).", todo=_LOGIN)
        if status in (404, 405, 501, 503):
            return SourceError(f"{self._place} has no artifact proxy ({status}).", todo=_NO_PROXY)
        said = " ".join(text.split())
        return SourceError(f"{self._place} answers {status}: {said}", todo="See the server's log.")

    def _problem(self, text: str) -> SourceError:
        """The error for a server that can't be reached, from the text of a client's error."""
        low = text.lower()
        if "certificate" in low or "ssl" in low:
            reason = re.search(r"certificate verify failed[^()\n]*|wrong version number", text)
            said = "SSL error" if reason is None else reason[0].strip()
            why = f"its certificate or TLS is not accepted ({said})"
            return SourceError(f"{self._place} can't be read: {why}.", todo=_CERTIFICATE)
        if "refused" in low:
            why = "nothing listens there (connection refused)"
        elif "timed out" in low or "timeout" in low:
            why = f"it doesn't answer within {_TIMEOUT_S} s"
        elif "resolve" in low or "name or service" in low or "getaddrinfo" in low:
            why = "there is no host of that name"
        else:
            why = without_credentials((text.splitlines() or [""])[0])[:200].rstrip(".")
        return SourceError(
            f"{self._place} can't be read: {why}.",
            todo="Check the address, and that the server runs.",
        )


def _entries_of(answer: dict[str, Any], folder: str) -> Iterator[tuple[str, bool, int | None]]:
    """Path, whether it is a folder, and size of each entry; what leads elsewhere is left out."""
    for entry in answer.get("files", []):
        name = entry.get("path") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            continue
        last = name.rstrip("/").rpartition("/")[2]
        if last in ("", ".", "..") or "\x00" in last:
            continue
        size = entry.get("file_size")
        known = int(size) if str(size).isdecimal() else None
        yield f"{folder}/{last}" if folder else last, bool(entry.get("is_dir")), known
