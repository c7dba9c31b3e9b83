"""A proxy before a real MLflow server that answers some requests itself, or drops them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import requests

from tests.support.http_servers import Quiet, serving

_NOT_PASSED_ON = ("host", "authorization", "connection", "content-length", "transfer-encoding")


@dataclass(frozen=True)
class Answer:
    """What the proxy says itself. A ``status`` of 0 closes the connection without a word."""

    status: int
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)


Fault = Callable[[str, str, Mapping[str, str]], Answer | None]  # method, path, headers


def no_fault(method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
    """Let everything pass."""
    return None


@dataclass
class Proxy:
    """One proxy. ``fault`` may be changed at any time."""

    uri: str
    fault: Fault = no_fault
    changed: Callable[[str, bytes], bytes] = lambda path, body: body  # of the server's answers
    seen: list[str] = field(default_factory=list)  # "GET /path" of each request
    at_once: int = 0  # the largest number of requests that were open together
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_idle(self) -> bool:
        """Whether no request is open."""
        return self._open == 0

    def enter(self, method: str, path: str) -> None:
        with self._lock:
            self.seen.append(f"{method} {path}")
            self._open += 1
            self.at_once = max(self.at_once, self._open)

    def leave(self) -> None:
        with self._lock:
            self._open -= 1


@contextmanager
def proxied(target: str) -> Iterator[Proxy]:
    """Yield a running proxy before the server at ``target``."""
    proxy = Proxy("")
    session = requests.Session()
    session.trust_env = False
    # MLflow's server closes connections that were idle for 5 s, perhaps as one is used again.
    session.headers["Connection"] = "close"

    class Handler(Quiet):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            path = self.path.partition("?")[0]
            proxy.enter(self.command, path)
            try:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = proxy.fault(self.command, self.path, dict(self.headers))
                if answer is None:
                    headers = {
                        name: value
                        for name, value in self.headers.items()
                        if name.lower() not in _NOT_PASSED_ON
                    }
                    got = session.request(
                        self.command, target + self.path, data=body, headers=headers
                    )
                    kind = {"Content-Type": got.headers.get("Content-Type", "")}
                    answer = Answer(got.status_code, proxy.changed(path, got.content), kind)
            finally:
                proxy.leave()
            if answer.status == 0:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _pass_on

    with serving(Handler) as address:
        proxy.uri = address
        yield proxy
