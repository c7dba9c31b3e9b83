"""Reads MLflow's records from where they are, into records and issues. Never writes there.

``open_source`` chooses the kind of source; ``source.Source`` is what every kind can do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from migrator.extractor import archives, buckets
from migrator.extractor.artifact_proxy import proxy_root
from migrator.extractor.database.addresses import is_database, is_same_database, sqlite_uri
from migrator.extractor.filestore import FileStoreSource
from migrator.extractor.filestore.artifacts import artifact_files
from migrator.extractor.locations import (
    describe_location,
    moved_locations,
    parts_below,
    path_parts,
    scheme_of,
)
from migrator.extractor.remote_artifacts import Reading, RemoteArtifacts, look_at_artifacts
from migrator.extractor.source import FileCount, Progress, Source, StoredFile, Wanted

__all__ = [
    "FileCount",
    "Reading",
    "RemoteArtifacts",
    "Source",
    "StoredFile",
    "Wanted",
    "artifact_files",
    "describe_location",
    "is_database",
    "is_same_database",
    "look_at_artifacts",
    "moved_locations",
    "open_source",
    "parts_below",
    "path_parts",
    "proxy_root",
    "scheme_of",
    "sqlite_uri",
]


@contextmanager
def open_source(
    text: str,
    *,
    wanted: Wanted = lambda path: False,
    whole: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Iterator[Source]:
    """Open the source that a user means: a folder, a ``file:`` URI, a bucket, an archive or a
    database.

    ``wanted`` chooses the artifacts whose text will be read, by relative path; with ``whole``,
    all artifact files must be readable, because they are copied. What the source needs while it
    is open (a mirror, connections) is removed when the block ends. Raises SourceError.
    """
    if buckets.is_bucket(text):
        with buckets.open_bucket(text, wanted, whole=whole, progress=progress) as source:
            yield source
    elif archives.is_archive(text):
        with archives.open_archive(text, wanted, whole=whole, progress=progress) as source:
            yield source
    elif is_database(text):
        from migrator.extractor.database.source import DatabaseSource  # most sources are files

        with DatabaseSource.open(text) as source:
            yield source
    else:
        yield FileStoreSource.open(text)
