"""Where OTLP goes: a file of its own, or a receiver's ``/v1/traces`` over HTTP.

https://opentelemetry.io/docs/specs/otlp/ says what is sent, and
https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/ what a file holds.
"""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from migrator.credentials import masked
from migrator.errors import OptionError, TargetError
from migrator.wholefiles import open_partial

_RETRIED = (429, 502, 503, 504)  # OTLP: come again later
_TRIES = 5
_FIRST_WAIT_S, _MOST_WAIT_S = 0.5, 30.0
_TIMEOUT_S = 30.0
_ID_FIELDS = ("traceId", "spanId", "parentSpanId")


class Receiver(Protocol):
    """Takes spans, and keeps them only if it is closed in the end."""

    def send(self, data: TracesData) -> None:
        """Take the spans of some traces. Raises TargetError."""

    def close(self) -> None:
        """Keep what was sent. Raises TargetError."""

    def discard(self) -> None:
        """Keep nothing, where that is possible."""


def open_receiver(target: str, headers: Sequence[tuple[str, str]] = ()) -> Receiver:
    """Return the receiver that a URL, or the name of a file, means.

    Raises TargetError and OptionError.
    """
    if target.startswith(("http://", "https://")):
        if masked(target) != target:
            raise OptionError(
                f"{masked(target)}: the address holds a login or token, which it can't have.",
                todo="Send it as a header: --header Authorization='Basic …'",
            )
        return HttpReceiver(target, dict(headers))
    if headers:
        raise OptionError("--header goes with a URL, and this is a file.")
    if "://" in target:
        raise OptionError(
            f"{masked(target)} can't be sent to: OTLP goes to http:// or https://, or into a file.",
            todo="For gRPC give the receiver's HTTP port (4318 by default).",
        )
    return FileReceiver(target)


class FileReceiver:
    """A new file: ``.json`` one JSON object, ``.jsonl`` one for each batch, else protobuf.

    Protobuf messages one behind the other are one message, so that the file can be written in
    batches and read as one ``TracesData``. The file appears when it is complete.
    """

    def __init__(self, path: str) -> None:
        """Raise TargetError when the file exists or can't be written."""
        self._path = Path(path)
        if self._path.exists():
            raise TargetError(f"{masked(path)} exists.", todo="Move it away, or give another name.")
        self._ending = self._path.suffix.lower()
        self._batches = 0
        try:
            handle, self._partial = open_partial(self._path)
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
        """Take the incomplete file away."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _write(self, content: bytes) -> None:
        try:
            self._file.write(content)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> TargetError:
        return TargetError(f"{masked(str(self._path))} can't be written: {error.strerror}.")


class HttpReceiver:
    """An OTLP receiver over HTTP, sent protobuf; asked again when it says that it is busy."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urllib.parse.urlsplit(url)
        path = parts.path if parts.path.strip("/") else "/v1/traces"
        self.url = urllib.parse.urlunsplit(parts._replace(path=path))
        self._headers = {**headers, "Content-Type": "application/x-protobuf"}
        self._sent = 0

    def send(self, data: TracesData) -> None:
        """Send the spans of some traces, and see that all were taken."""
        body, wait_s = data.SerializeToString(), _FIRST_WAIT_S
        for left in reversed(range(_TRIES)):
            request = urllib.request.Request(self.url, body, self._headers, method="POST")
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                    self._check_taken(response.read())
            except urllib.error.HTTPError as error:
                if error.code not in _RETRIED or not left:
                    said = error.read(300).decode("utf-8", "replace").strip()
                    raise self._failed(
                        f"it answered {error.code} {error.reason}: {said}"
                    ) from error
                asked = error.headers.get("Retry-After", "")
                wait_s = float(asked) if asked.isdigit() else wait_s
            except (OSError, HTTPException) as error:
                if not left:
                    raise self._failed(str(getattr(error, "reason", error))) from error
            else:
                self._sent += len(data.resource_spans)
                return
            time.sleep(min(wait_s, _MOST_WAIT_S))
            wait_s *= 2

    def close(self) -> None:
        """All has been sent."""

    def discard(self) -> None:
        """What has been sent can't be taken back."""

    def _check_taken(self, answer: bytes) -> None:
        try:
            partial = ExportTraceServiceResponse.FromString(answer).partial_success
        except DecodeError:
            return  # a JSON answer, or none: the status said that all was taken
        if partial.rejected_spans:
            raise self._failed(
                f"it refused {partial.rejected_spans} spans: {partial.error_message}"
            )

    def _failed(self, why: str) -> TargetError:
        return TargetError(
            f"{self.url} did not take the traces: {why}. {self._sent} had been sent before.",
            todo="Mend that and send again: ids are the same each time, so that a receiver can "
            "tell what it has.",
        )


def as_json(data: TracesData) -> dict[str, Any]:
    """Return OTLP's JSON form: as protobuf's, but ids are hex and enums are numbers."""
    found: dict[str, Any] = MessageToDict(data, use_integers_for_enums=True)
    for resource in found.setdefault("resourceSpans", []):
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                for name in _ID_FIELDS:
                    if name in span:
                        span[name] = base64.b64decode(span[name]).hex()
    return found
