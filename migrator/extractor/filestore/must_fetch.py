"""Which files of a store are opened here, told by their paths: those a remote source must fetch."""

from __future__ import annotations

from collections.abc import Callable

from migrator.extractor.filestore.artifacts import TEXT_LIMIT_BYTES
from migrator.extractor.filestore.layout import ID
from migrator.extractor.filestore.read_log import METRIC_LIMIT_BYTES, VALUE_LIMIT_BYTES
from migrator.extractor.filestore.traces import SPANS, SPANS_LIMIT_BYTES

_VALUE_FOLDERS = frozenset({"params", "metrics", "tags", "request_metadata", "inputs", "outputs"})


def must_fetch(path: str, size_bytes: int, wanted: Callable[[str], bool]) -> bool:
    """Tell whether the content of a file may be read here, or only its name and size.

    ``path`` is one that leads into a store, with ``/``; ``wanted`` says which artifacts are read
    as text, as for ``read_run``. In doubt a file may be read: only what lies in ``artifacts`` of a
    run, trace or model that bears an id such as MLflow makes is certainly an artifact, and only a
    file larger than what is read of its kind is certainly not read.
    """
    *folders, name = path.split("/")
    limit = SPANS_LIMIT_BYTES if name == SPANS else VALUE_LIMIT_BYTES
    for at, folder in enumerate(folders):
        if folder.lower() in _VALUE_FOLDERS:  # whose keys may have slashes
            limit = METRIC_LIMIT_BYTES if folder.lower() == "metrics" else limit
            break
        if at and folder == "artifacts" and ID.fullmatch(folders[at - 1]):
            text = size_bytes <= TEXT_LIMIT_BYTES and wanted("/".join((*folders[at + 1 :], name)))
            return text or (name == SPANS and size_bytes <= limit)
    return size_bytes <= limit
