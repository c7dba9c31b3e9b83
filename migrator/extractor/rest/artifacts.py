"""Artifacts as an MLflow server gives them, wherever it keeps them.

The server lists and sends the files of a run or logged model itself: from its own disk, from a
bucket whose credentials only it has, or from ``mlflow-artifacts:``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from migrator.extractor.rest.client import API, PAGES, Client
from migrator.extractor.rest.values import integer, items


class ServedFile(NamedTuple):
    """An artifact: its path below the owner's artifacts with ``/``, and its size in bytes."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ServedArtifacts:
    """The artifacts of one owner. ``params`` name the owner in every request.

    ``listing`` and ``content`` are the API's paths, and the names of the parameters that hold a
    path below the owner's artifacts.
    """

    client: Client
    listing: tuple[str, str]
    content: tuple[str, str]
    params: Mapping[str, str]

    @classmethod
    def of_run(cls, client: Client, run_id: str) -> ServedArtifacts:
        """The artifacts of a run. ``run_uuid`` is the name that all releases know."""
        params = {"run_id": run_id, "run_uuid": run_id}
        return cls(client, (f"{API}/artifacts/list", "path"), ("/get-artifact", "path"), params)

    @classmethod
    def of_model(cls, client: Client, model_id: str) -> ServedArtifacts:
        """The artifacts of a logged model (3.0 and later)."""
        place = f"logged-models/{quote(model_id, safe='')}/artifacts"
        listing = (f"{API}/{place}/directories", "artifact_directory_path")
        return cls(client, listing, (f"{PAGES}/{place}/files", "artifact_file_path"), {})

    def files(self) -> Iterator[ServedFile]:
        """Yield every file. Raises Refused and SourceError."""
        path, name = self.listing
        waiting: list[str] = [""]
        seen = {""}
        while waiting:
            folder = waiting.pop()
            params: dict[str, Any] = {**self.params, **({name: folder} if folder else {})}
            for page in self.client.pages("files", "GET", path, params):
                for file in items(page):
                    below = str(file.get("path", ""))
                    if not file.get("is_dir"):
                        size = integer(file.get("file_size"))
                        yield ServedFile(below, size if isinstance(size, int) and size > 0 else 0)
                    elif below not in seen:  # some stores list a folder in itself
                        seen.add(below)
                        waiting.append(below)

    def fetch(self, file: ServedFile, to: str) -> None:
        """Write a file's content to the path ``to``. Raises Refused, SourceError and OSError."""
        path, name = self.content
        self.client.fetch(path, {**self.params, name: file.path}, to)
