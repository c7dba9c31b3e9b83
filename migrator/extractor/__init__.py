"""Reads MLflow's records from where they are, into records and issues. Never writes there.

``open_source`` chooses the kind of source; ``source.Source`` is what every kind can do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from migrator import addresses
from migrator.extractor import archives, buckets
from migrator.extractor.artifact_proxy import proxy_root
from migrator.extractor.database.addresses import is_database, is_same_database, sqlite_path
from migrator.extractor.filestore import FileStoreSource
from migrator.extractor.filestore.artifacts import artifact_files
from migrator.extractor.filestore.fingerprint import take_fingerprint
from migrator.extractor.filestore.opening import FoundStores, each_store, stores_beside
from migrator.extractor.locations import (
    describe_location,
    local_path,
    moved_locations,
    parts_below,
    path_parts,
    scheme_of,
)
from migrator.extractor.remote_artifacts import Reading, RemoteArtifacts, look_at_artifacts
from migrator.extractor.source import (
    REQUESTS_AT_ONCE,
    FileCount,
    Progress,
    Source,
    StoredFile,
    Takes,
    Wanted,
)

__all__ = [
    "REQUESTS_AT_ONCE",
    "FileCount",
    "FoundStores",
    "Reading",
    "RemoteArtifacts",
    "Source",
    "StoredFile",
    "Wanted",
    "artifact_files",
    "describe_location",
    "find_stores",
    "is_database",
    "is_same_database",
    "is_same_server",
    "is_server",
    "local_path",
    "look_at_artifacts",
    "moved_locations",
    "open_source",
    "parts_below",
    "path_parts",
    "proxy_root",
    "scheme_of",
    "sqlite_path",
    "take_fingerprint",
]


def is_server(text: str) -> bool:
    """Whether a source is the address of an MLflow server, and not a local file of that name."""
    return addresses.is_http(text) and not os.path.lexists(text)


def is_same_server(first: str, second: str) -> bool:
    """Whether two texts are addresses of one server, whoever logs in.

    >>> is_same_server("http://ana:secret@localhost:5000/", "http://127.0.0.1:5000")
    True
    """
    return is_server(first) and is_server(second) and _address(first) == _address(second)


def _address(uri: str) -> tuple[object, ...] | None:
    try:
        parts = urlsplit(uri)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:  # the port is not a number
        return None
    is_local = parts.hostname in ("localhost", "::1") or str(parts.hostname).startswith("127.")
    return "localhost" if is_local else parts.hostname, port, parts.path.rstrip("/")


def find_stores(text: str, *, each: bool) -> FoundStores:
    """The source that a user means, or with ``each`` all file stores in a folder.

    Any other kind of source is the only one. Raises SourceError for a folder without any store.
    """
    is_elsewhere = buckets.is_bucket(text) or is_server(text) or is_database(text)
    if is_elsewhere or archives.is_archive(text):
        return FoundStores("", [text], [])
    return each_store(text) if each else FoundStores("", [text], stores_beside(text))


@contextmanager
def open_source(
    text: str,
    *,
    wanted: Wanted = lambda path: False,
    whole: bool = False,
    progress: Progress = lambda stage, done, total: None,
    requests: int = REQUESTS_AT_ONCE,
    takes: Takes = lambda experiment_id, name, is_deleted: True,
) -> Iterator[Source]:
    """Open the source that a user means.

    It is a folder, a ``file:`` URI, a bucket, an archive, a database or a server.

    ``wanted`` chooses the artifacts whose text will be read, by relative path; with ``whole``,
    all artifact files must be readable, because they are copied. A server gets up to ``requests``
    requests at once, and is asked only for what is in experiments that ``takes`` chooses. What the
    source needs while it is open (a mirror, connections) is removed when the block ends. Raises
    SourceError.
    """
    if buckets.is_bucket(text):
        with buckets.open_bucket(text, wanted, whole=whole, progress=progress) as source:
            yield source
    elif is_server(text):
        from migrator.extractor.rest.source import Served, ServerSource  # loads requests

        with ServerSource.connect(text, Served(wanted, whole, requests, takes, progress)) as served:
            yield served
    elif archives.is_archive(text):
        with archives.open_archive(text, wanted, whole=whole, progress=progress) as source:
            yield source
    elif is_database(text):
        from migrator.extractor.database.source import DatabaseSource  # most sources are files

        with DatabaseSource.open(text) as source:
            yield source
    else:
        yield FileStoreSource.open(text)
