"""An object store on this machine: moto's S3 behind a door that counts, delays and refuses."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

BUCKET = "lab"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}

# What the door does with a request: an HTTP status and an S3 error code, or nothing.
Fault = Callable[[str, str], "tuple[int, str] | None"]


@dataclass
class ObjectStore:
    """A running server with one bucket.

    ``fault`` is asked about every request, ``delay_seconds`` holds for those that read.
    """

    url: str = ""
    client: Any = None
    fault: Fault | None = None
    delay_seconds: float = 0.0
    drip_seconds: float = 0.0  # for each 64 KiB of a large object
    calls: Counter[str] = field(default_factory=Counter)  # list or get
    most_at_once: int = 0
    _now: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def env(self) -> dict[str, str]:
        """Return the variables by which S3 clients, MLflow's too, find the server."""
        return {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": self.url,
            "MLFLOW_S3_ENDPOINT_URL": self.url,
        }

    def put(self, key: str, content: bytes = b"") -> None:
        """Write an object."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def upload(self, folder: Path, prefix: str) -> str:
        """Write every file below a folder, and return the address of ``prefix``."""
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        backend = s3_backends[DEFAULT_ACCOUNT_ID][
            "aws"
        ]  # a request for each takes ten times as long
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder).as_posix()}"
                backend.put_object(BUCKET, key, path.read_bytes())
        return f"s3://{BUCKET}/{prefix}"

    def state(self) -> Mapping[str, tuple[str, Any]]:
        """Return ETag and time of every object."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {
            item["Key"]: (item["ETag"], item["LastModified"])
            for page in pages
            for item in page.get("Contents", ())
        }

    def clear(self) -> None:
        """Remove every object, and all that was set."""
        self.fault, self.most_at_once = None, 0
        self.delay_seconds = self.drip_seconds = 0.0
        keys = [{"Key": key} for key in self.state()]
        for first in range(0, len(keys), 1000):
            chunk = {"Objects": keys[first : first + 1000]}
            self.client.delete_objects(Bucket=BUCKET, Delete=chunk)
        self.calls.clear()

    def door(self, app: Any) -> Any:
        """Return a WSGI application that stands before moto's."""

        def answer(environ: dict[str, Any], start_response: Any) -> Any:
            path = unquote(environ.get("RAW_URI", environ["PATH_INFO"]).partition("?")[0])
            listing = "list-type" in environ.get("QUERY_STRING", "")
            what = "list" if listing else environ["REQUEST_METHOD"].lower()
            with self._lock:
                self.calls[what] += 1
                self._now += 1
                self.most_at_once = max(self.most_at_once, self._now)
            try:
                if what in ("list", "get", "head"):
                    time.sleep(self.delay_seconds)
                refusal = self.fault and self.fault(what, path)
                if refusal:
                    body = f"<Error><Code>{refusal[1]}</Code><Message>no</Message></Error>"
                    start_response(f"{refusal[0]} no", [("Content-Type", "application/xml")])
                    return [body.encode()]
                body = app(environ, start_response)
                return _drip(body, self.drip_seconds) if self.drip_seconds else body
            finally:
                with self._lock:
                    self._now -= 1

        return answer


def _drip(body: Iterable[bytes], seconds: float) -> Iterator[bytes]:
    whole = b"".join(body)
    for first in range(0, len(whole), 1 << 16):
        yield whole[first : first + (1 << 16)]
        time.sleep(seconds if len(whole) > 1 << 16 else 0)


@contextmanager
def running() -> Iterator[ObjectStore]:
    """Yield a running object store with an empty bucket; it ends with the block."""
    import boto3
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = ObjectStore()
    app = store.door(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        store.url = f"http://127.0.0.1:{server.server_port}"
        store.client = boto3.client(
            "s3",
            endpoint_url=store.url,
            region_name="us-east-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
        )
        store.client.create_bucket(Bucket=BUCKET)
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
