"""Which files of a store are opened when it is read, by their paths: a bucket must fetch those."""

from __future__ import annotations

from collections.abc import Callable

from migrator.extractor.filestore.artifacts import text_limit_bytes
from migrator.extractor.filestore.layout import ID
from migrator.extractor.filestore.read_log import METRIC_LIMIT_BYTES, VALUE_LIMIT_BYTES
from migrator.extractor.filestore.traces import SPANS, SPANS_LIMIT_BYTES

_VALUE_FOLDERS = frozenset({"params", "metrics", "tags", "request_metadata", "inputs", "outputs"})


def must_fetch(path: str, size_bytes: int, wanted: Callable[[str], bool]) -> bool:
    """Whether the content of a file may be read, not only its name and size.

    ``path`` is one that leads into a store, with ``/``; ``wanted`` chooses the artifacts
    that are read as text, as for ``read_run``. In doubt a file may be read. A file is certainly
    an artifact only in ``artifacts`` of a run, trace or model whose id has MLflow's form, and
    certainly not read only if it is larger than what is read of its kind.
    """
    *folders, name = path.split("/")
    limit = SPANS_LIMIT_BYTES if name == SPANS else VALUE_LIMIT_BYTES
    for at, folder in enumerate(folders):
        if folder.lower() in _VALUE_FOLDERS:  # whose keys may have slashes
            limit = METRIC_LIMIT_BYTES if folder.lower() == "metrics" else limit
            break
        if at and folder == "artifacts" and ID.fullmatch(folders[at - 1]):
            artifact = "/".join((*folders[at + 1 :], name))
            text = size_bytes <= text_limit_bytes(artifact) and wanted(artifact)
            return text or (name == SPANS and size_bytes <= limit)
    return size_bytes <= limit
