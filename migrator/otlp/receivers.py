"""Receivers of OTLP: a new file, or a server's ``/v1/traces`` over HTTP.

The protocol is https://opentelemetry.io/docs/specs/otlp/, and the format of files
https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

import requests
from google.protobuf.json_format import MessageToDict, Parse, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from requests.adapters import HTTPAdapter

from migrator import addresses
from migrator.atomic_files import create_partial
from migrator.counting import counted
from migrator.credentials import masked, without_secrets
from migrator.errors import OptionError, TargetError
from migrator.http_client import failure_reason, retries, without_retry_warnings

_RETRIED = (429, 502, 503, 504)  # statuses that OTLP defines as retryable
_TRIES = 5
_TIMEOUT_S = 30.0
_MIN_SECRET_LENGTH = 6  # masking "1" or "OK" would make the message unreadable
_MAX_REASON_LENGTH = 400  # some receivers answer with a whole page
_HOW = (
    "Give the receiver's HTTP address, such as http://localhost:4318 (not its gRPC port), or a new "
    "file's name."
)
_ID_FIELDS = ("traceId", "spanId", "parentSpanId")


class Receiver(Protocol):
    """Accepts spans. A file is kept only if the receiver is closed."""

    def send(self, data: TracesData) -> None:
        """Accept the spans of some traces. Raises TargetError."""

    def close(self) -> None:
        """Finish, and keep the spans. Raises TargetError."""

    def discard(self) -> None:
        """Abort. A file is removed; spans sent over HTTP can't be taken back."""

    def kept(self) -> str:
        """Return a sentence about the spans that remain after ``discard``."""


def check_receiver(target: str, headers: Sequence[tuple[str, str]] = ()) -> None:
    """Raise OptionError if a target is neither an HTTP URL nor the name of a file."""
    addresses.refuse_mistaken(target, OptionError, _HOW)
    if addresses.is_http(target):
        return
    if headers:
        raise OptionError("--header needs a URL, and this is a file.")
    if "://" in target:
        raise OptionError(
            f"{masked(target)} can't be sent to: OTLP goes to http:// or https://, or into a file.",
            todo=_HOW,
        )


def open_receiver(target: str, headers: Sequence[tuple[str, str]] = ()) -> Receiver:
    """Open the receiver at a URL, or a new file by its name.

    Raises TargetError and OptionError.
    """
    check_receiver(target, headers)
    if addresses.is_http(target):
        return HttpReceiver(target, dict(headers))
    return FileReceiver(target)


class FileReceiver:
    """A new file: ``.json`` has one JSON object, ``.jsonl`` one per batch, others protobuf.

    Concatenated protobuf messages are one message, so batches can be written one after the other
    and read as one ``TracesData``. The file appears when it is complete.
    """

    def __init__(self, path: str) -> None:
        """Raise TargetError if the file exists or can't be written."""
        self._path = Path(path)
        if self._path.exists():
            raise TargetError(
                f"{masked(path)} already exists.", todo="Move it away or choose another name."
            )
        self._ending = self._path.suffix.lower()
        self._batches = 0
        try:
            handle, self._partial = create_partial(self._path)
        except OSError as error:
            raise self._failed(error) from error
        self._file = os.fdopen(handle, "wb")

    def send(self, data: TracesData) -> None:
        """Write the spans of some traces."""
        if self._ending == ".json":
            before = b'{"resourceSpans": [' if self._batches == 0 else b",\n"
            items = as_json(data)["resourceSpans"]
            content = before + ",\n".join(map(json.dumps, items)).encode()
        elif self._ending == ".jsonl":
            content = json.dumps(as_json(data)).encode() + b"\n"
        else:
            content = data.SerializeToString()
        self._batches += 1
        self._write(content)

    def close(self) -> None:
        """Give the complete file its name."""
        if self._ending == ".json":
            self._write(b"]}\n" if self._batches else b'{"resourceSpans": []}\n')
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.rename(self._path)
        except OSError as error:
            raise self._failed(error) from error

    def discard(self) -> None:
        """Delete the incomplete file."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def kept(self) -> str:
        """Return a sentence: no file remains."""
        return "Nothing was written."

    def _write(self, content: bytes) -> None:
        try:
            self._file.write(content)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> TargetError:
        return TargetError(f"{masked(str(self._path))} can't be written: {error.strerror}.")


class HttpReceiver:
    """An OTLP receiver over HTTP, with protobuf.

    If it is busy or unreachable, a request is tried up to five times. ``user:password@`` in the URL
    becomes basic authentication.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Raise OptionError if the URL or a header is not valid."""
        self._shown = masked(url)
        self._secrets = _secrets_of(url, headers)
        self._sent = 0
        if not "".join([*headers, *headers.values()]).isascii():
            raise OptionError("--header takes ASCII characters only.")
        try:
            # prepared without a session, which would replace Authorization by that of a ~/.netrc
            self._request = requests.Request("POST", _with_path(url), headers).prepare()
        except requests.exceptions.InvalidHeader:
            raise OptionError(
                "A --header is not valid: its name is empty, or its value begins with a space or "
                "holds a line break."
            ) from None
        except (requests.RequestException, ValueError):
            raise OptionError(
                f"{self._shown} is not a valid address.", todo="Write http://HOST:4318."
            ) from None
        self._request.headers["Content-Type"] = "application/x-protobuf"
        self._session = requests.Session()
        adapter = HTTPAdapter(max_retries=retries(_TRIES - 1, ["POST"], _RETRIED))
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def send(self, data: TracesData) -> None:
        """Send the spans of some traces. Raises TargetError unless all were accepted."""
        request = self._request.copy()
        request.prepare_body(data.SerializeToString(), None)
        settings = self._session.merge_environment_settings(str(request.url), {}, None, None, None)
        try:
            with without_retry_warnings():
                response = self._session.send(
                    request,
                    timeout=_TIMEOUT_S,
                    allow_redirects=False,  # a redirected POST would become a GET without a body
                    **settings,
                )
        except OSError as error:  # every RequestException is one
            reason = failure_reason(error, _TIMEOUT_S, "REQUESTS_CA_BUNDLE")
            raise self._failed(reason) from None
        if response.is_redirect:
            raise self._failed(f"it redirects to {masked(response.headers['Location'])}")
        if not 200 <= response.status_code < 300:
            answer = response.content[:100_000].decode("utf-8", "replace")
            raise self._failed(f"it answered {response.status_code} {response.reason}: {answer}")
        self._check_accepted(response)
        self._sent += len(data.resource_spans)

    def close(self) -> None:
        """Close the connection; everything has been sent."""
        self._session.close()

    def discard(self) -> None:
        """Close the connection; what has been sent can't be taken back."""
        self._session.close()

    def kept(self) -> str:
        """Return a sentence with the number of traces that were sent."""
        if not self._sent:
            return "Nothing was sent."
        traces = counted(self._sent, "trace")
        return (
            f"{traces} had been sent to {self._shown} by then; ids are the same each time, so a "
            "receiver can recognise what it already has."
        )

    def _check_accepted(self, response: requests.Response) -> None:
        """Raise TargetError when the receiver's answer says that it rejected spans."""
        answer = ExportTraceServiceResponse()
        try:
            if "json" in response.headers.get("Content-Type", ""):
                Parse(response.content, answer, ignore_unknown_fields=True)
            else:
                answer.ParseFromString(response.content)
        except (DecodeError, ParseError, UnicodeDecodeError):
            return  # no answer in OTLP's form; the status says that everything was accepted
        rejected = answer.partial_success.rejected_spans
        if rejected:
            spans = counted(rejected, "span")
            raise self._failed(f"it rejected {spans}: {answer.partial_success.error_message}")

    def _failed(self, reason: str) -> TargetError:
        reason = without_secrets(reason, self._secrets)  # the receiver may repeat the request
        reason = " ".join(reason.split()).rstrip(".: ")
        if len(reason) > _MAX_REASON_LENGTH:
            reason = reason[: _MAX_REASON_LENGTH - 1] + "…"
        return TargetError(
            f"{self._shown} did not accept the traces: {reason}. {self.kept()}",
            todo="Fix this and run the command again.",
        )


def _secrets_of(url: str, headers: Mapping[str, str]) -> list[str]:
    """List the words of headers and of a URL's query and password that may be secret."""
    address, _, query = url.partition("?")
    words = [word for value in headers.values() for word in value.split()]
    words += [unquote(pair.partition("=")[2]) for pair in query.split("&")]
    words += [unquote(word) for word in address.rpartition("@")[0].split(":")]
    return [word for word in words if len(word) >= _MIN_SECRET_LENGTH]


def _with_path(url: str) -> str:
    """Add OTLP's path to a URL that has none."""
    parts = urlsplit(url)
    return url if parts.path.strip("/") else urlunsplit(parts._replace(path="/v1/traces"))


def as_json(data: TracesData) -> dict[str, Any]:
    """Convert to OTLP's JSON form: like protobuf's, but ids are hex and enums are numbers."""
    found: dict[str, Any] = MessageToDict(data, use_integers_for_enums=True)
    for resource in found.setdefault("resourceSpans", []):
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                for name in _ID_FIELDS:
                    if name in span:
                        span[name] = base64.b64decode(span[name]).hex()
    return found
