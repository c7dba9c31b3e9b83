"""Where artifacts lie after a store was moved.

A file store records absolute locations; once it is moved, copied or fetched from git, they lead
nowhere while the files lie beside the metadata. Then locations are rewritten to where the files
are; a location that still exists, or is remote (``s3:``, ``dbfs:``, ``mlflow-artifacts:``), stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from migrator.model import ExperimentRecord


@dataclass(frozen=True, slots=True)
class Relocation:
    """Recorded location prefixes that lead nowhere, and the URIs of the directories that do."""

    prefixes: tuple[tuple[str, str], ...] = ()  # longest first

    @classmethod
    def of(cls, moved: Iterable[ExperimentRecord]) -> Relocation:
        """Return the rewriting for experiments whose recorded location is gone."""
        pairs = {
            (record.artifact_location.rstrip("/"), Path(record.path).as_uri())
            for record in moved
            if record.artifact_location
        }
        return cls(tuple(sorted(pairs, key=lambda pair: (-len(pair[0]), pair))))

    def uri(self, recorded: str, lies_in: str | None = None) -> str:
        """Return the location to write for ``recorded``.

        ``lies_in`` is the directory in which the files were found, if they were.
        """
        for prefix, now in self.prefixes:
            if recorded == prefix or recorded.startswith(prefix + "/"):
                if lies_in is not None:
                    return Path(lies_in).as_uri()
                return now + recorded[len(prefix) :]
        return recorded
